"""TensorFlow's operations with what they compute, in NumPy: inputs, attributes and expected results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Array = np.ndarray[Any, Any]
rng = np.random.default_rng(11)
X = rng.standard_normal((2, 6, 5, 4)).astype(np.float32)  # [N, H, W, C]
M = rng.standard_normal((3, 4)).astype(np.float32)
POSITIVE = np.abs(M) + 1.25
SMALL = np.clip(M, -0.9, 0.9)
I = rng.integers(-9, 9, (3, 4)).astype(np.int32)  # noqa: E741
J = np.where(I == 0, 3, I[::-1]).astype(np.int32)
J[J == 0] = 2
B = M > 0
K = rng.standard_normal((3, 3, 4, 5)).astype(np.float32)  # [R, S, C, K]
D = rng.standard_normal((3, 3, 4, 2)).astype(np.float32)  # [R, S, C, M]
T = rng.standard_normal((3, 3, 5, 4)).astype(np.float32)  # [R, S, K, C]
V = [np.abs(rng.standard_normal(4)).astype(np.float32) + 0.5 for _ in range(4)]
P2 = [[0, 0], [1, 2], [2, 1], [0, 0]]
BOXES = np.array([[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, -0.1, 1, 0.9], [0, 10, 1, 11], [0, 10.1, 1, 11.1],
                  [0, 100, 1, 101]], np.float32)  # fmt: skip
SCORES = np.array([0.9, 0.75, 0.6, 0.95, 0.5, 0.3], np.float32)


def first(a: Array) -> Array:
    return np.ascontiguousarray(a.transpose(0, 3, 1, 2))


def same(size: int, window: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def conv(x: Array, w: Array, stride: int = 1, dilation: int = 1, sides: Any = None, groups: int = 1) -> Array:
    """x [N, H, W, C], w [R, S, C / groups, K] in float64; SAME unless sides are given."""
    r, s = ((n - 1) * dilation + 1 for n in w.shape[:2])
    sides = sides or [same(x.shape[1], r, stride), same(x.shape[2], s, stride)]
    x = np.pad(x.astype(np.float64), ((0, 0), *sides, (0, 0)))
    seen = sliding_window_view(x, (r, s), (1, 2))[:, ::stride, ::stride, :, ::dilation, ::dilation]
    parts = zip(np.split(seen, groups, 3), np.split(w.astype(np.float64), groups, 3), strict=True)
    return np.concatenate([np.einsum("nhwcrs,rsck->nhwk", a, b) for a, b in parts], -1)


def depthwise(x: Array, w: Array, stride: int = 1, dilation: int = 1) -> Array:
    parts = [conv(x[..., c : c + 1], w[:, :, c : c + 1], stride, dilation) for c in range(x.shape[-1])]
    return np.concatenate(parts, -1)


def gradient(x: Array, w: Array, rows: int, columns: int, padding: str) -> Array:
    """The gradient of a convolution of stride 2: w [R, S, K, C]."""
    full = np.zeros((len(x), 2 * x.shape[1] + 3, 2 * x.shape[2] + 3, w.shape[2]))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            full[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += np.einsum("nc,rskc->nrsk", x[:, i, j], w)
    top, left = (same(n, 3, 2)[0] if padding == "SAME" else 0 for n in (rows, columns))
    return full[:, top : top + rows, left : left + columns]


def pool(x: Array, function: Callable[..., Any], window: int, stride: int, padding: str = "SAME") -> Array:
    sides = [same(n, window, stride) if padding == "SAME" else (0, 0) for n in x.shape[1:3]]
    x = np.pad(x.astype(np.float64), ((0, 0), *sides, (0, 0)), constant_values=np.nan)
    seen = sliding_window_view(x, (window, window), (1, 2))[:, ::stride, ::stride]
    return np.asarray(function(seen, axis=(-1, -2)))


def lrn(x: Array, radius: int, bias: float, alpha: float, beta: float) -> Array:
    x = x.astype(np.float64)
    sums = np.stack([np.square(x[..., max(c - radius, 0) : c + radius + 1]).sum(-1) for c in range(x.shape[-1])], -1)
    return np.asarray(x / (bias + alpha * sums) ** beta)


def batch_norm(x: Array, epsilon: float) -> Array:
    return np.asarray((x - V[2].astype(np.float64)) / np.sqrt(V[3] + epsilon) * V[0] + V[1])


def resize(x: Array, rows: int, columns: int, where: str, nearest: bool = False) -> Array:
    """TensorFlow's kernels, an axis at a time."""
    for axis, size in ((1, rows), (2, columns)):
        given = x.shape[axis]
        scale = (given - 1) / (size - 1) if where == "corners" and size > 1 else given / size
        at = (
            (np.arange(size) + 0.5) * scale - (0 if nearest else 0.5) if where == "centres" else np.arange(size) * scale
        )
        if nearest:
            index = np.floor(at + 0.5) if where == "corners" else np.floor(at)
            x = np.take(x, np.clip(index, 0, given - 1).astype(int), axis)
            continue
        at = np.clip(at, 0, given - 1)
        low = np.floor(at).astype(int)
        share = (at - low).reshape(-1, *[1] * (x.ndim - axis - 1))
        x = np.take(x, low, axis) * (1 - share) + np.take(x, np.minimum(low + 1, given - 1), axis) * share
    return x


def to_depth(x: Array, b: int) -> Array:
    n, h, w, c = x.shape
    return x.reshape(n, h // b, b, w // b, b, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // b, w // b, b * b * c)


def to_space(x: Array, b: int) -> Array:
    n, h, w, c = x.shape
    return x.reshape(n, h, w, b, b, c // b // b).transpose(0, 1, 3, 2, 4, 5).reshape(n, h * b, w * b, c // b // b)


def to_batch(x: Array, b: int) -> Array:
    return np.concatenate([x[:, i::b, j::b] for i in range(b) for j in range(b)])


def from_batch(x: Array, b: int) -> Array:
    n, h, w, c = len(x) // b // b, *x.shape[1:]
    y = np.zeros((n, h * b, w * b, c), x.dtype)
    for i in range(b):
        for j in range(b):
            y[:, i::b, j::b] = x[(i * b + j) * n : (i * b + j + 1) * n]
    return y


def softmax(x: Array) -> Array:
    e = np.exp(x.astype(np.float64))
    return np.asarray(e / e.sum(-1, keepdims=True))


def fake_quantized(x: Array, least: float, most: float, lowest: int, highest: int) -> Array:
    """The nearest of the steps that include zero."""
    scale = (most - least) / (highest - lowest)
    zero = np.clip(np.rint(lowest - least / scale), lowest, highest)
    return np.asarray((np.clip(np.floor(x.astype(np.float64) / scale + zero + 0.5), lowest, highest) - zero) * scale)


SAME, VALID = {"padding": "SAME"}, {"padding": "VALID"}
ONES = {"strides": [1, 1, 1, 1]}
NCHW = {"data_format": "NCHW"}
INT64 = np.int64

# name: (operation, inputs (the first is fed, the others are constants), attributes, expected, one result or a list)
CASES: dict[str, tuple[str, list[Any], dict[str, Any], Any]] = {
    "conv same": ("Conv2D", [X, K], {"strides": [1, 2, 2, 1], **SAME}, conv(X, K, 2)),
    "conv valid": ("Conv2D", [X, K], {**ONES, **VALID, "data_format": "NHWC"}, conv(X, K, 1, 1, [(0, 0)] * 2)),
    "conv dilated": ("Conv2D", [X, K], {**ONES, **SAME, "dilations": [1, 2, 2, 1]}, conv(X, K, 1, 2)),
    "conv explicit": ("Conv2D", [X, K], {**ONES, "padding": "EXPLICIT", "explicit_paddings": [0, 0, 1, 2, 0, 1, 0, 0]},
                      conv(X, K, 1, 1, [(1, 2), (0, 1)])),
    "conv first": ("Conv2D", [first(X), K], {**ONES, **SAME, **NCHW}, first(conv(X, K))),
    "conv groups": ("Conv2D", [X, K[:, :, :2, :4].copy()], {**ONES, **SAME}, conv(X, K[:, :, :2, :4], groups=2)),
    "depthwise": ("DepthwiseConv2dNative", [X, D], {"strides": [1, 2, 2, 1], **SAME}, depthwise(X, D, 2)),
    "depthwise dilated": ("DepthwiseConv2dNative", [X, D], {**ONES, **SAME, "dilations": [1, 2, 2, 1]},
                          depthwise(X, D, 1, 2)),
    "pool max": ("MaxPool", [X], {"ksize": [1, 3, 3, 1], "strides": [1, 2, 2, 1], **SAME}, pool(X, np.nanmax, 3, 2)),
    "pool average": ("AvgPool", [X], {"ksize": [1, 3, 3, 1], **ONES, **SAME}, pool(X, np.nanmean, 3, 1)),
    "pool first": ("MaxPool", [first(X)], {"ksize": [1, 1, 2, 2], "strides": [1, 1, 2, 2], **VALID, **NCHW},
                   first(pool(X, np.nanmax, 2, 2, "VALID"))),
    "pool v2": ("MaxPoolV2", [X, [1, 2, 2, 1], [1, 1, 1, 1]], VALID, pool(X, np.nanmax, 2, 1, "VALID")),
    "lrn": ("LRN", [X], {"depth_radius": 1, "bias": 2.0, "alpha": 0.3, "beta": 0.75}, lrn(X, 1, 2.0, 0.3, 0.75)),
    "lrn defaults": ("LRN", [X], {}, lrn(X, 5, 1.0, 1.0, 0.5)),
    **{f"batch norm {v}": (f"FusedBatchNorm{v}", [X, *V], {"epsilon": 0.01, "is_training": False}, batch_norm(X, 0.01))
       for v in ("", "V2", "V3")},
    "batch norm first": ("FusedBatchNorm", [first(X), *V], {"is_training": False, **NCHW}, first(batch_norm(X, 1e-4))),
    "batch norm 2015": ("BatchNormWithGlobalNormalization", [X, V[2], V[3], V[1], V[0]],
                        {"variance_epsilon": 0.01, "scale_after_normalization": True}, batch_norm(X, 0.01)),
    **{f"bilinear {where}": ("ResizeBilinear", [X, [9, 7]], attrs, resize(X, 9, 7, where)) for where, attrs in {
        "corners": {"align_corners": True}, "centres": {"half_pixel_centers": True}, "old": {}}.items()},
    "bilinear shrinks": ("ResizeBilinear", [X, [4, 3]], {}, resize(X, 4, 3, "old")),
    **{f"nearest {where}": ("ResizeNearestNeighbor", [X, [9, 7]], attrs, resize(X, 9, 7, where, True))
       for where, attrs in {
           "corners": {"align_corners": True}, "centres": {"half_pixel_centers": True}, "old": {}}.items()},
    "space to depth": ("SpaceToDepth", [X[:, :, :4]], {"block_size": 2}, to_depth(X[:, :, :4], 2)),
    "depth to space": ("DepthToSpace", [X], {"block_size": 2}, to_space(X, 2)),
    "depth to space first": ("DepthToSpace", [first(X)], {"block_size": 2, **NCHW}, first(to_space(X, 2))),
    "space to batch": ("SpaceToBatchND", [X, [2, 2], [[1, 1], [1, 0]]], {},
                       to_batch(np.pad(X, [(0, 0), (1, 1), (1, 0), (0, 0)]), 2)),
    "batch to space": ("BatchToSpaceND", [np.tile(X, (2, 1, 1, 1)), [2, 2], [[0, 1], [1, 0]]], {},
                       from_batch(np.tile(X, (2, 1, 1, 1)), 2)[:, :-1, 1:]),
    "space to batch old": ("SpaceToBatch", [X, [[0, 0], [1, 0]]], {"block_size": 2},
                           to_batch(np.pad(X, [(0, 0), (0, 0), (1, 0), (0, 0)]), 2)),
    "patches": ("ExtractImagePatches", [X[:, :, :4]], {"ksizes": [1, 2, 2, 1], "strides": [1, 2, 2, 1],
                                                       "rates": [1, 1, 1, 1], "padding": "VALID"},
                to_depth(X[:, :, :4], 2)),
    "fake quantization": ("FakeQuantWithMinMaxVars", [M * 4, np.float32(-1.3), np.float32(4.1)], {"num_bits": 8},
                          fake_quantized(M * 4, -1.3, 4.1, 0, 255)),
    "fake quantization narrow": ("FakeQuantWithMinMaxArgs", [M * 4], {"min": -2.0, "max": 3.0, "num_bits": 4,
                                                                      "narrow_range": True},
                                 fake_quantized(M * 4, -2.0, 3.0, 1, 15)),
    "matmul": ("MatMul", [M, M.T.copy()], {}, M @ M.T),
    "matmul transposed": ("MatMul", [M, M], {"transpose_b": True}, M @ M.T),
    "matmul left": ("MatMul", [M, M], {"transpose_a": True}, M.T @ M),
    **{f"batch matmul {v}": (f"BatchMatMul{v}", [X, X], {"adj_y": True}, X @ X.swapaxes(-1, -2)) for v in ("", "V2")},
    "einsum": ("Einsum", [X, M], {"equation": "nhwc,kc->nhwk"}, X @ M.T),
    "bias add": ("BiasAdd", [X, V[0]], {}, X + V[0]),
    "bias add first": ("BiasAdd", [first(X), V[0]], NCHW, first(X + V[0])),
    "add n": ("AddN", [M, M, POSITIVE], {"N": 3}, 2 * M + POSITIVE),
    "leaky relu": ("LeakyRelu", [M], {"alpha": 0.1}, np.where(M < 0, 0.1 * M, M)),
    "leaky relu default": ("LeakyRelu", [M], {}, np.where(M < 0, 0.2 * M, M)),
    "softmax": ("Softmax", [M], {}, softmax(M)),
    "log softmax": ("LogSoftmax", [M], {}, np.log(softmax(M))),
    "clip": ("ClipByValue", [M, np.float32(-0.5), np.float32(0.5)], {}, np.clip(M, -0.5, 0.5)),
    "cast": ("Cast", [M * 9], {"DstT": ("type", "int32")}, np.trunc(M * 9).astype(np.int32)),
    "select": ("Select", [B, M, POSITIVE], {}, np.where(B, M, POSITIVE)),
    "select rows": ("Select", [B[:, 0].copy(), M, POSITIVE], {}, np.where(B[:, :1], M, POSITIVE)),
    "select v2": ("SelectV2", [B, M, np.float32(7)], {}, np.where(B, M, 7)),
    "not equal": ("NotEqual", [I, J], {}, I != J),
    "squared difference": ("SquaredDifference", [M, POSITIVE], {}, (M - POSITIVE) ** 2),
    "div no nan": ("DivNoNan", [M, np.where(B, M, 0)], {}, np.where(B, 1.0, 0.0)),
    "zeros like": ("ZerosLike", [M], {}, np.zeros_like(M)),
    "ones like": ("OnesLike", [I], {}, np.ones_like(I)),
    "reshape": ("Reshape", [X, [-1, 8]], {}, X.reshape(-1, 8)),
    "squeeze": ("Squeeze", [X[:1]], {"squeeze_dims": [0]}, X[0]),
    "squeeze all": ("Squeeze", [X[:1, :1]], {}, X[0, 0]),
    "expand dims": ("ExpandDims", [M, -1], {}, M[..., None]),
    "transpose": ("Transpose", [X, [0, 3, 1, 2]], {}, first(X)),
    "broadcast to": ("BroadcastTo", [M, [2, 3, 4]], {}, np.broadcast_to(M, (2, 3, 4))),
    "shape": ("Shape", [X], {}, np.array(X.shape, np.int32)),
    "shape wide": ("Shape", [X], {"out_type": ("type", "int64")}, np.array(X.shape, np.int64)),
    "size": ("Size", [X], {}, np.array(X.size, np.int32)),
    "rank": ("Rank", [X], {}, np.array(4, np.int32)),
    **{f"reduce {op}": (op, [X, [1, 2]], {}, f(X.astype(np.float64), axis=(1, 2))) for op, f in {
        "Sum": np.sum, "Prod": np.prod, "Max": np.max, "Min": np.min, "Mean": np.mean}.items()},
    "reduce kept": ("Mean", [X, [-1]], {"keep_dims": True}, X.mean(-1, keepdims=True)),
    "reduce scalar axis": ("Max", [X, 2], {}, X.max(2)),
    "reduce none": ("Sum", [X, np.zeros(0, np.int32)], {}, X),
    "norm": ("EuclideanNorm", [M, 1], {}, np.sqrt((M.astype(np.float64) ** 2).sum(1))),
    "all": ("All", [B, 1], {}, B.all(1)),
    "any": ("Any", [B, [0]], {"keep_dims": True}, B.any(0, keepdims=True)),
    "arg max": ("ArgMax", [X, 3], {}, X.argmax(3)),
    "arg min": ("ArgMin", [X, 1], {"output_type": ("type", "int32")}, X.argmin(1).astype(np.int32)),
    "arg min wide": ("ArgMin", [X, 1], {}, X.argmin(1)),
    "top k": ("TopKV2", [M, 2], {}, [-np.sort(-M, 1)[:, :2], np.argsort(-M, 1)[:, :2].astype(np.int32)]),
    "top k old": ("TopK", [M], {"k": 1}, [M.max(1, keepdims=True), M.argmax(1)[:, None].astype(np.int32)]),
    "cumsum": ("Cumsum", [M, 1], {"exclusive": True, "reverse": True},
               (np.cumsum(M[:, ::-1].astype(np.float64), 1) - M[:, ::-1])[:, ::-1]),
    "cumprod": ("Cumprod", [M, 0], {}, np.cumprod(M, 0)),
    "where": ("Where", [B], {}, np.argwhere(B)),
    "l2 loss": ("L2Loss", [M], {}, np.array((M.astype(np.float64) ** 2).sum() / 2)),
    "concat v2": ("ConcatV2", [X, X * 2, -1], {}, np.concatenate([X, X * 2], 3)),
    "pack": ("Pack", [M, POSITIVE], {"axis": 1, "N": 2}, np.stack([M, POSITIVE], 1)),
    "unpack": ("Unpack", [M], {"axis": 1, "num": 4}, [M[:, i] for i in range(4)]),
    "split v": ("SplitV", [X, [1, -1, 2], 3], {}, [X[..., :1], X[..., 1:2], X[..., 2:]]),
    "slice": ("Slice", [X, [0, 1, 2, 0], [2, -1, 3, 1]], {}, X[0:2, 1:, 2:5, 0:1]),
    "strided slice": ("StridedSlice", [X, [1, 0, 1, -1], [2, 0, 4, 0], [1, -1, 2, 1]],
                      {"begin_mask": 2, "end_mask": 2, "shrink_axis_mask": 8}, X[1:2, ::-1, 1:4:2, -1]),
    "strided slice ellipsis": ("StridedSlice", [X, [0, 0, 1], [0, 0, 3], [1, 1, 1]],
                               {"ellipsis_mask": 1, "new_axis_mask": 2}, X[..., None, 1:3]),
    "pad": ("Pad", [X, P2], {}, np.pad(X, P2)),
    "pad v2": ("PadV2", [X, P2, np.float32(-3)], {}, np.pad(X, P2, constant_values=-3)),
    "mirror reflect": ("MirrorPad", [X, P2], {"mode": "REFLECT"}, np.pad(X, P2, mode="reflect")),
    "mirror symmetric": ("MirrorPad", [X, P2], {"mode": "SYMMETRIC"}, np.pad(X, P2, mode="symmetric")),
    "reverse": ("ReverseV2", [X, [1, -1]], {}, X[:, ::-1, :, ::-1]),
    "reverse sequence": ("ReverseSequence", [M, [2, 4, 1]], {"seq_dim": 1, "batch_dim": 0},
                         np.stack([np.r_[M[0, 1::-1], M[0, 2:]], M[1, ::-1], M[2]])),
    "tile": ("Tile", [M, [2, 3]], {}, np.tile(M, (2, 3))),
    "gather": ("Gather", [M, [2, 0, 2]], {}, M[[2, 0, 2]]),
    "gather v2": ("GatherV2", [M, [[3, 0]], 1], {}, M[:, [[3, 0]]]),
    "gather batch": ("GatherV2", [M, [[3, 0], [1, 1], [2, 3]], 1], {"batch_dims": 1},
                     np.take_along_axis(M, np.array([[3, 0], [1, 1], [2, 3]]), 1)),
    "gather nd": ("GatherNd", [X, [[0, 5], [1, 2]]], {}, X[[0, 1], [5, 2]]),
    "one hot": ("OneHot", [np.array([1, -1, 3, 4], np.int32), 4, np.float32(2), np.float32(-1)], {},
                np.where(np.array([1, -1, 3, 4])[:, None] == np.arange(4), 2.0, -1.0)),
    "one hot first": ("OneHot", [np.array([1, 0], np.int32), 3, np.float32(1), np.float32(0)], {"axis": 0},
                      np.eye(3)[:, [1, 0]]),
    "nms": ("NonMaxSuppressionV2", [BOXES, SCORES, 3, np.float32(0.5)], {}, np.array([3, 0, 5], np.int32)),
    "nms old": ("NonMaxSuppression", [BOXES, SCORES, 2], {"iou_threshold": 0.5}, np.array([3, 0], np.int32)),
    "nms score": ("NonMaxSuppressionV3", [BOXES, SCORES, 3, np.float32(0.5), np.float32(0.4)], {},
                  np.array([3, 0], np.int32)),
    "nms padded": ("NonMaxSuppressionV4", [BOXES, SCORES, 5, np.float32(0.5), np.float32(0.4)],
                   {"pad_to_max_output_size": True}, [np.array([3, 0, 0, 0, 0], np.int32), np.array(2, np.int32)]),
    "nms scores": ("NonMaxSuppressionV5", [BOXES, SCORES, 3, np.float32(0.5), np.float32(0.4), np.float32(0)], {},
                   [np.array([3, 0], np.int32), SCORES[[3, 0]], np.array(2, np.int32)]),
    **{f"forward {op}": (op, [M], {}, M) for op in (
        "Identity", "StopGradient", "PreventGradient", "Snapshot", "CheckNumerics", "EnsureShape",
        "DebugGradientIdentity", "PlaceholderWithDefault", "Print")},
    "identity n": ("IdentityN", [M, I], {}, [M, I]),
    **{f"unary {op}": (op, [POSITIVE if op in ("Log", "Sqrt", "Rsqrt", "Acosh", "Log1p") else SMALL], {}, f)
       for op, f in {
        "Neg": np.negative, "Exp": np.exp, "Log": np.log, "Abs": np.abs, "Sqrt": np.sqrt,
        "Rsqrt": lambda x: 1 / np.sqrt(x), "Square": np.square, "Sin": np.sin, "Cos": np.cos, "Tan": np.tan,
        "Sinh": np.sinh, "Cosh": np.cosh, "Asin": np.arcsin, "Acos": np.arccos, "Atan": np.arctan,
        "Asinh": np.arcsinh, "Acosh": np.arccosh, "Atanh": np.arctanh, "Ceil": np.ceil, "Floor": np.floor,
        "Round": np.rint, "Rint": np.rint, "Sign": np.sign, "Reciprocal": lambda x: 1 / x, "Inv": lambda x: 1 / x,
        "Log1p": np.log1p, "Expm1": np.expm1, "IsNan": np.isnan, "IsInf": np.isinf}.items()},
    "erf": ("Erf", [np.array([0.5], np.float32)], {}, np.array([0.5204998778])),
    "logical not": ("LogicalNot", [B], {}, ~B),
    **{f"activation {op}": (op, [M * 4], {}, f) for op, f in {
        "Relu": lambda x: np.maximum(x, 0), "Relu6": lambda x: np.clip(x, 0, 6),
        "Sigmoid": lambda x: 1 / (1 + np.exp(-x)), "Tanh": np.tanh, "Elu": lambda x: np.where(x < 0, np.expm1(x), x),
        "Softsign": lambda x: x / (1 + np.abs(x)), "Softplus": lambda x: np.log1p(np.exp(x)),
        "Selu": lambda x: 1.0507009873554805 * np.where(x < 0, 1.6732632423543772 * np.expm1(x), x)}.items()},
    **{f"binary {op}": (op, [POSITIVE, M[0]], {}, f(POSITIVE, M[0])) for op, f in {
        "Minimum": np.minimum, "Maximum": np.maximum, "Mul": np.multiply, "Sub": np.subtract, "RealDiv": np.divide,
        "Add": np.add, "AddV2": np.add, "Pow": np.power, "Greater": np.greater, "GreaterEqual": np.greater_equal,
        "Less": np.less, "LessEqual": np.less_equal, "Equal": np.equal}.items()},
    **{f"integers {op}": (op, [I, J], {}, f(I, J)) for op, f in {
        "Div": lambda a, b: np.trunc(a / b).astype(np.int32),
        "TruncateDiv": lambda a, b: np.trunc(a / b).astype(np.int32),
        "FloorDiv": np.floor_divide, "FloorMod": np.mod, "Mod": np.fmod, "TruncateMod": np.fmod,
        "BitwiseAnd": np.bitwise_and, "BitwiseOr": np.bitwise_or, "BitwiseXor": np.bitwise_xor}.items()},
    **{f"logic {op}": (op, [B, ~B[:1]], {}, f(B, ~B[:1])) for op, f in {
        "LogicalAnd": np.logical_and, "LogicalOr": np.logical_or}.items()},
}  # fmt: skip

# The tensor that is fed is not the first input: (operation, inputs before it, fed, inputs behind, attributes, expected)
LATER: dict[str, tuple[str, list[Any], Array, list[Any], dict[str, Any], Any]] = {
    "split": ("Split", [3], X, [], {"num_split": 2}, np.split(X, 2, 3)),
    "concat": ("Concat", [1], M, [POSITIVE], {}, np.concatenate([M, POSITIVE], 1)),
    "conv transpose": ("Conv2DBackpropInput", [[2, 12, 9, 5], T], X, [], {"strides": [1, 2, 2, 1], **SAME},
                       gradient(X, T, 12, 9, "SAME")),
    "conv transpose valid": ("Conv2DBackpropInput", [[2, 14, 11, 5], T], X, [], {"strides": [1, 2, 2, 1], **VALID},
                             gradient(X, T, 14, 11, "VALID")),
    "fill": ("Fill", [[2, 3]], np.float32(4.5), [], {}, np.full((2, 3), 4.5)),
    "range": ("Range", [1], np.int32(9), [3], {}, np.arange(1, 9, 3, dtype=np.int32)),
}  # fmt: skip
