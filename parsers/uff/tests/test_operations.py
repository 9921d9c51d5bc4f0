"""Every UFF operation, from bytes assembled here, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tenonrt import Network, Registry
from tenonrt_parser_uff.parser import UffParser
from uff_bytes import File

Array = np.ndarray[Any, Any]
rng = np.random.default_rng(7)
X = rng.standard_normal((2, 6, 5, 4)).astype(np.float32)  # [N, H, W, C]
M = rng.standard_normal((3, 4)).astype(np.float32)
POSITIVE = np.abs(M) + 1.25
SMALL = np.clip(M, -0.9, 0.9)


def conv(x: Array, w: Array, stride: int, before: tuple[int, int], after: tuple[int, int], dilation: int = 1) -> Array:
    """x [N, H, W, C], w [R, S, C, K], in float64."""
    x = np.pad(x.astype(np.float64), ((0, 0), (before[0], after[0]), (before[1], after[1]), (0, 0)))
    r, s = (w.shape[0] - 1) * dilation + 1, (w.shape[1] - 1) * dilation + 1
    rows, columns = (x.shape[1] - r) // stride + 1, (x.shape[2] - s) // stride + 1
    y = np.zeros((x.shape[0], rows, columns, w.shape[3]))
    for i in range(rows):
        for j in range(columns):
            part = x[:, i * stride : i * stride + r : dilation, j * stride : j * stride + s : dilation]
            y[:, i, j] = np.tensordot(part, w.astype(np.float64), 3)
    return y


def same(size: int, window: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def pool(x: Array, function: Callable[..., Any], window: int, stride: int, sides: list[tuple[int, int]]) -> Array:
    x = np.pad(x.astype(np.float64), ((0, 0), *sides, (0, 0)), constant_values=np.nan)
    rows, columns = ((n - window) // stride + 1 for n in x.shape[1:3])
    return np.stack(
        [np.stack([function(x[:, i * stride : i * stride + window, j * stride : j * stride + window], axis=(1, 2))
                   for j in range(columns)], 1) for i in range(rows)], 1)  # fmt: skip


def lrn(x: Array, radius: int, k: float, alpha: float, beta: float) -> Array:
    x = x.astype(np.float64)
    sums = np.stack([np.square(x[..., max(c - radius, 0) : c + radius + 1]).sum(-1) for c in range(x.shape[-1])], -1)
    return x / (k + alpha * sums) ** beta


W = rng.standard_normal((3, 3, 4, 5)).astype(np.float32)
D = rng.standard_normal((3, 3, 4, 2)).astype(np.float32)  # depthwise
T = rng.standard_normal((3, 3, 5, 4)).astype(np.float32)  # [R, S, K, C] of a transposed convolution
V = [np.abs(rng.standard_normal(4)).astype(np.float32) + 0.5 for _ in range(4)]
NHWC, NCHW = {"inputs_orders": ["N+C"]}, {"inputs_orders": ["NC+"]}
first = lambda a: np.ascontiguousarray(a.transpose(0, 3, 1, 2))  # noqa: E731


def depthwise(x: Array) -> Array:
    parts = [conv(x[..., c : c + 1], D[:, :, c : c + 1], 1, (1, 1), (1, 1)) for c in range(4)]
    return np.concatenate(parts, -1)


def transposed(x: Array, rows: int, columns: int) -> Array:
    """The gradient of a SAME convolution of stride 2."""
    full = np.zeros((2, rows + 4, columns + 4, 5))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            full[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += np.einsum("nc,rskc->nrsk", x[:, i, j], T)
    (top, _), (left, _) = same(rows, 3, 2), same(columns, 3, 2)
    return full[:, top : top + rows, left : left + columns]


sliced = X[1:2, ::-1, 1:4:2, -1]
# name: (operation, inputs (the first is fed, the others are constants), fields, expected)
CASES: dict[str, tuple[str, list[Any], dict[str, Any], Any]] = {
    "conv same": ("Conv", [X, W], {"inputs_orders": ["N+C", "+CK"], "strides": [2, 2], "implicit_padding": "same"},
                  conv(X, W, 2, (0, 1), (1, 1))),
    "conv padding": ("Conv", [X, W], {"inputs_orders": ["N+C", "+CK"], "strides": [1, 1], "padding": [1, 2],
                                      "dilation": [2, 2]}, conv(X, W, 1, (1, 2), (1, 2), 2)),
    "conv first": ("Conv", [first(X), W.transpose(3, 2, 0, 1).copy()], {"inputs_orders": ["NC+", "KC+"]},
                   first(conv(X, W, 1, (0, 0), (0, 0)))),
    "conv to first": ("Conv", [X, W], {"inputs_orders": ["N+C", "+CK"], "outputs_orders": ["NC+"]},
                      first(conv(X, W, 1, (0, 0), (0, 0)))),
    "conv depthwise": ("Conv", [X, D], {"inputs_orders": ["N+C", "+CK"], "number_groups": 4,
                                        "implicit_padding": "same"}, depthwise(X)),
    "conv transpose": ("ConvTranspose", [X, T, [2, 12, 9, 5]],
                       {"inputs_orders": ["N+C", "+KC"], "strides": [2, 2], "implicit_padding": "same"},
                       transposed(X, 12, 9)),
    "pool max": ("Pool", [X], {"func": "max", "kernel": [3, 3], "strides": [2, 2], "implicit_padding": "same", **NHWC},
                 pool(X, np.nanmax, 3, 2, [same(6, 3, 2), same(5, 3, 2)])),
    "pool avg": ("Pool", [X], {"func": "avg", "kernel": [2, 2], "strides": [1, 1], "padding": [1, 1], **NHWC},
                 pool(X, np.nanmean, 2, 1, [(1, 1), (1, 1)])),
    "pool first": ("Pool", [first(X)], {"func": "max", "kernel": [2, 2], "strides": [2, 2], **NCHW},
                   first(pool(X, np.max, 2, 2, [(0, 0), (0, 0)]))),
    "fully connected": ("FullyConnected", [M, M.T.copy()], {"inputs_orders": ["NC", "CK"]}, M @ M.T),
    "fully connected KC": ("FullyConnected", [M, M], {"inputs_orders": ["NC", "KC"]}, M @ M.T),
    "fully connected CN": ("FullyConnected", [M, M], {"inputs_orders": ["CN", "CK"]}, M.T @ M),
    "lrn": ("LRN", [X], {"window_size": 3, "alpha": 0.3, "beta": 0.75, "k": 2.0, **NHWC}, lrn(X, 1, 2.0, 0.1, 0.75)),
    "leaky relu": ("LeakyRelu", [M], {"alpha": 0.1}, np.where(M < 0, 0.1 * M, M)),
    "softmax": ("Softmax", [X], {"axis": 0, **NHWC}, np.exp(X) / np.exp(X).sum(-1, keepdims=True)),
    "softmax first": ("Softmax", [X], {"axis": 0, **NCHW}, np.exp(X) / np.exp(X).sum(1, keepdims=True)),
    "reduce": ("Reduce", [X], {"func": "mean", "axes": [1, 2], "keepdims": False}, X.mean((1, 2))),
    "reduce kept": ("Reduce", [X], {"func": "max", "axes": [-1], "keepdims": True}, X.max(-1, keepdims=True)),
    **{f"reduce {f}": ("Reduce", [X], {"func": f, "axes": [2], "keepdims": False}, getattr(X, f)(2))
       for f in ("sum", "prod", "min")},
    "reshape": ("Reshape", [X, [-1, 8]], {}, X.reshape(-1, 8)),
    "transpose": ("Transpose", [X], {"permutation": [0, 3, 1, 2]}, first(X)),
    "concat": ("Concat", [X, X], {"axis": 3}, np.concatenate([X, X], 3)),
    "stack": ("Stack", [M, POSITIVE], {"axis": 1}, np.stack([M, POSITIVE], 1)),
    "shape": ("Shape", [X], {}, np.array(X.shape, np.int32)),
    "strided slice": ("StridedSlice", [X, [1, 0, 1, -1], [2, 0, 4, 0], [1, -1, 2, 1]],
                      {"begin_mask": 2, "end_mask": 2, "shrink_axis_mask": 8}, sliced),
    "squeeze": ("Squeeze", [X[:1]], {"axes": [0]}, X[0]),
    "squeeze all": ("Squeeze", [X[:1, :1]], {"axes": []}, X[0, 0]),
    "expand dims": ("ExpandDims", [M], {"axis": -1}, M[..., None]),
    "arg max": ("ArgMax", [X], {"axis": 3}, X.argmax(3)),
    "arg min": ("ArgMin", [X], {"axis": 1}, X.argmin(1)),
    "flatten": ("Flatten", [X], {}, X.reshape(2, -1)),
    "pad": ("Pad", [X, [[0, 0], [1, 0], [2, 1], [0, 0]]], {}, np.pad(X, [(0, 0), (1, 0), (2, 1), (0, 0)])),
    "batch norm": ("BatchNorm", [X, *V], {"epsilon": 0.01, **NHWC},
                   (X - V[2]) / np.sqrt(V[3] + 0.01) * V[0] + V[1]),
    "gather": ("Gather", [M, [2, 0, 2]], {"indices_dtype": ("dtype", "int32")}, M[[2, 0, 2]]),
    "gather v2": ("GatherV2", [M, [[3, 0]]], {"axis": 1}, M[:, [[3, 0]]]),
    "identity": ("Identity", [M], {}, M),
    "pow": ("Unary", [POSITIVE, M], {"func": "pow"}, POSITIVE**M),
    **{f"binary {name}": ("Binary", [POSITIVE, M[0]], {"func": name}, f(POSITIVE, M[0])) for name, f in {
        "min": np.minimum, "max": np.maximum, "mul": np.multiply, "sub": np.subtract, "div": np.divide, "add": np.add,
        "pow": np.power}.items()},
    **{f"unary {name}": ("Unary", [POSITIVE if name in ("log", "sqrt", "rsqrt", "acosh") else SMALL], {"func": name}, f)
       for name, f in {
        "neg": np.negative, "exp": np.exp, "log": np.log, "abs": np.abs, "sqrt": np.sqrt,
        "rsqrt": lambda x: 1 / np.sqrt(x), "square": np.square, "sin": np.sin, "cos": np.cos, "tan": np.tan,
        "sinh": np.sinh, "cosh": np.cosh, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
        "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "ceil": np.ceil, "floor": np.floor}.items()},
    **{f"activation {name}": ("Activation", [M * 4], {"func": name}, f) for name, f in {
        "relu": lambda x: np.maximum(x, 0), "relu6": lambda x: np.clip(x, 0, 6),
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "tanh": np.tanh, "elu": lambda x: np.where(x < 0, np.expm1(x), x), "softsign": lambda x: x / (1 + np.abs(x)),
        "softplus": lambda x: np.log1p(np.exp(x)),
        "selu": lambda x: 1.0507009873554805 * np.where(x < 0, 1.6732632423543772 * np.expm1(x), x)}.items()},
}  # fmt: skip


def one(operation: str, inputs: list[Any], fields: dict[str, Any], *descriptors: str) -> bytes:
    file = File(*descriptors)
    names = [file.input("x", list(np.shape(inputs[0])))]
    names += [file.const(f"c{i}", value) for i, value in enumerate(inputs[1:])]
    file.node("y", operation, names, **fields)
    return file.encode("y")


def parse(content: bytes, registry: Registry, **settings: Any) -> Network:
    network = Network(registry=registry)
    UffParser(**settings).parse_buffer(content, network)
    return network


@pytest.mark.parametrize("name", CASES)
def test_operation(name: str, registry: Registry, run: Any) -> None:
    operation, inputs, fields, expected = CASES[name]
    expected = expected(inputs[0].astype(np.float64)) if callable(expected) else expected
    result = run(parse(one(operation, inputs, fields), registry), x=inputs[0])["y"]
    assert result.shape == np.shape(expected)
    np.testing.assert_allclose(result, expected, 1e-5, 1e-5)


def test_converter_writes_the_radius_as_the_window(registry: Registry, run: Any) -> None:
    fields = {"window_size": 1, "alpha": 0.3, "beta": 0.75, "k": 2.0, **NHWC}
    content = one("LRN", [X], fields, "tensorflow_extension")
    found = run(parse(content, registry), x=X)["y"]
    np.testing.assert_allclose(found, lrn(X, 1, 2.0, 0.3, 0.75), 1e-5, 1e-5)
    literal = run(parse(content, registry, literal=True), x=X)["y"]
    np.testing.assert_allclose(literal, lrn(X, 0, 2.0, 0.3, 0.75), 1e-5, 1e-5)
