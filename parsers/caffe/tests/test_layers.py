"""Layers that OpenCV lacks or reads in its own way, against transcriptions of Caffe's arithmetic in float64."""

# ruff: noqa: E501 - a table reads better with a case on a line or two
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

RNG = np.random.default_rng(7)
Arrays = list[Any]


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def layer(kind: str, parameters: str = "", bottoms: str = "x", tops: str = "y") -> str:
    names = " ".join(f'bottom: "{b}"' for b in bottoms.split()) + " "
    return (
        f'layer {{ name: "made" type: "{kind}" {names} {" ".join(f"top: {t!r}" for t in tops.split())} {parameters} }}'
    )


def within(x: Any, size: int, alpha: float, beta: float) -> Any:
    half, (n, c, h, w) = size // 2, x.shape
    padded = np.zeros((n, c, h + 2 * half, w + 2 * half))
    padded[:, :, half : half + h, half : half + w] = x**2
    sums = sum(padded[:, :, i : i + h, j : j + w] for i in range(size) for j in range(size))
    return x * (1 + alpha * sums / size**2) ** -beta


def lstm(x: Any, cont: Any, blobs: Arrays) -> Any:
    wx, b, wh = (blob.astype(np.float64) for blob in blobs)
    size = wh.shape[1]
    h = c = np.zeros((x.shape[1], size))
    outputs = []
    for step in range(len(x)):
        keep = cont[step][:, None]
        i, f, o, g = np.split(x[step] @ wx.T + b + (keep * h) @ wh.T, 4, 1)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = keep * f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs)


def rnn(x: Any, cont: Any, blobs: Arrays) -> Any:
    wx, b, wh, wo, bo = (blob.astype(np.float64) for blob in blobs)
    h, outputs = np.zeros((x.shape[1], wh.shape[0])), []
    for step in range(len(x)):
        h = np.tanh(x[step] @ wx.T + b + (cont[step][:, None] * h) @ wh.T)
        outputs.append(np.tanh(h @ wo.T + bo))
    return np.stack(outputs)


def mvn(x: Any, axes: tuple[int, ...], eps: float = 1e-9) -> Any:
    centred = x - x.mean(axes, keepdims=True)
    return centred / (np.sqrt((centred**2).mean(axes, keepdims=True)) + eps)


def windows(x: Any, size: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], pad: int) -> Any:
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    spans = [d * (k - 1) + 1 for k, d in zip(size, dilation, strict=True)]
    places = [range(0, length - span + 1, s) for length, span, s in zip(padded.shape[2:], spans, stride, strict=True)]
    columns = [padded[:, :, [p + dilation[0] * i for p in places[0]]][..., [p + dilation[1] * j for p in places[1]]]
               for i in range(size[0]) for j in range(size[1])]  # fmt: skip
    return np.stack(columns, 2).reshape(len(x), -1, len(places[0]), len(places[1]))


def darknet_reorg(x: Any, stride: int, reverse: bool) -> Any:
    """Element by element, in sizes that are not those of the result."""
    n, channels, height, width = x.shape
    few = channels // stride**2
    flat, out = x.reshape(n, -1), np.zeros((n, channels * height * width))
    for k in range(channels):
        for j in range(height):
            for i in range(width):
                inner = i + width * (j + height * k)
                column, row = i * stride + (k // few) % stride, j * stride + (k // few) // stride
                outer = column + width * stride * (row + height * stride * (k % few))
                if reverse:
                    out[:, outer] = flat[:, inner]
                else:
                    out[:, inner] = flat[:, outer]
    if reverse:
        return out.reshape(n, few, height * stride, width * stride)
    return out.reshape(n, channels * stride**2, height // stride, width // stride)


def stochastic(x: Any, size: int, stride: int) -> Any:
    high, wide = (-(-(length - size) // stride) + 1 for length in x.shape[2:])
    parts = [[x[:, :, i * stride : i * stride + size, j * stride : j * stride + size] for j in range(wide)]
             for i in range(high)]  # fmt: skip
    rows = [np.stack([(part**2).sum((2, 3)) / part.sum((2, 3)) for part in row], -1) for row in parts]
    return np.stack(rows, -2)


X, SMALL = normal(2, 4, 5, 6), normal(3, 5)
BLOBS_LSTM, BLOBS_RNN = (
    [normal(12, 4), normal(12), normal(12, 3)],
    [normal(3, 4), normal(3), normal(3, 3), normal(3, 3), normal(3)],
)
SEQUENCE, CONT = normal(5, 2, 4), np.array([[0, 0], [1, 1], [1, 0], [1, 1], [0, 1]], np.float32)
GAMMA, BETA, TABLE = normal(4, 5), normal(4, 5), normal(7, 3)
S, V, B3, B4 = normal(4), np.abs(normal(4)) + 0.5, normal(4), normal(4)
WEIGHTS = normal(30, 3)
TIES = np.array([[3, 1, 3, 0, 2], [5, 5, 5, 5, 5]], np.float32)

# name: the layer, its inputs, its blobs, and what it computes of the inputs in float64.
CASES: dict[str, tuple[str, dict[str, Any], Arrays, Callable[..., Any]]] = {
    "exp": (layer("Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }"), {"x": X}, [], lambda x: 2 ** (1 + 0.5 * x)),
    "exp e": (layer("Exp"), {"x": X}, [], np.exp),
    "log": (layer("Log", "log_param { base: 10 scale: 2 shift: 9 }"), {"x": np.abs(X)}, [],
            lambda x: np.log10(9 + 2 * x)),
    "power": (layer("Power", "power_param { power: 0.5 scale: 2 shift: 1 }"), {"x": np.abs(X)}, [],
              lambda x: (1 + 2 * x) ** 0.5),
    "power 2": (layer("Power", "power_param { power: 2 shift: 1 }"), {"x": X}, [], lambda x: (1 + x) ** 2),
    "power 3": (layer("Power", "power_param { power: 3 scale: -1 }"), {"x": X}, [], lambda x: (-x) ** 3),
    "elu": (layer("ELU", "elu_param { alpha: 0.5 lambda: 2 }"), {"x": X}, [],
            lambda x: 2 * np.where(x > 0, x, 0.5 * np.expm1(x))),
    "clip": (layer("Clip", "clip_param { min: -0.5 max: 0.25 }"), {"x": X}, [], lambda x: np.clip(x, -0.5, 0.25)),
    "swish": (layer("Swish", "swish_param { beta: 1.5 }"), {"x": X}, [], lambda x: x / (1 + np.exp(-1.5 * x))),
    "threshold": (layer("Threshold", "threshold_param { threshold: 0.3 }"), {"x": X}, [],
                  lambda x: (x > np.float32(0.3)).astype(float)),
    "prelu shared": (layer("PReLU", "prelu_param { channel_shared: true }"), {"x": X}, [np.full((), 0.3)],
                     lambda x: np.where(x > 0, x, np.float64(np.float32(0.3)) * x)),
    "bias": (layer("Bias", "bias_param { axis: 1 num_axes: 2 }"), {"x": X}, [BETA], lambda x: x + BETA[..., None]),
    "scale of two axes": (layer("Scale", "scale_param { axis: 1 num_axes: 2 bias_term: true }"), {"x": X}, [GAMMA, BETA],
                          lambda x: x * GAMMA[..., None].astype(float) + BETA[..., None]),
    "scale by a bottom": (layer("Scale", "scale_param { axis: 0 }", "x s"), {"x": X, "s": normal(2, 4)}, [],
                          lambda x, s: x * s[..., None, None]),
    "scale to the end": (layer("Scale", "scale_param { axis: 2 num_axes: -1 }"), {"x": X}, [X[0, 0]],
                         lambda x: x * X[0, 0].astype(float)),
    "sum of three": (layer("Eltwise", "eltwise_param { coeff: 0.5 coeff: 2 coeff: -1 }", "x a b"),
                     {"x": X, "a": X + 1, "b": X * 2}, [], lambda x, a, b: 0.5 * x + 2 * a - b),
    "lrn within": (layer("LRN", "lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 alpha: 0.7 beta: 0.6 k: 9 }"),
                   {"x": X}, [], lambda x: within(x, 3, 0.7, 0.6)),
    "batch norm of NVCaffe": (layer("BatchNorm", "batch_norm_param { scale_bias: true eps: 0 }"), {"x": X},
                              [S, V, np.array([9], np.float32), B3, B4],
                              lambda x: (x - S.reshape(4, 1, 1)) / np.sqrt(V.reshape(4, 1, 1) + 1e-5)
                              * B3.reshape(4, 1, 1) + B4.reshape(4, 1, 1)),
    "batch norm of no batches": (layer("BatchNorm"), {"x": X}, [S, V, np.zeros(1, np.float32)],
                                 lambda x: x / np.sqrt(1e-5)),
    "mvn": (layer("MVN"), {"x": X}, [], lambda x: mvn(x, (2, 3))),
    "mvn across": (layer("MVN", "mvn_param { across_channels: true eps: 0.1 }"), {"x": X}, [],
                   lambda x: mvn(x, (1, 2, 3), np.float64(np.float32(0.1)))),
    "mvn mean only": (layer("MVN", "mvn_param { normalize_variance: false }"), {"x": X}, [],
                      lambda x: x - x.mean((2, 3), keepdims=True)),
    "normalize across": (layer("Normalize", "norm_param { eps: 0.5 }"), {"x": X}, [np.full((), 2)],
                         lambda x: 2 * x / np.sqrt((x**2).sum((1, 2, 3), keepdims=True) + 0.5)),
    "embed": (layer("Embed", "embed_param { input_dim: 7 num_output: 3 }"), {"x": np.array([[1, 6], [0, 3]], np.float32)},
              [TABLE, BETA[0, :3]], lambda x: TABLE[x.astype(int)].astype(float) + BETA[0, :3]),
    "inner product transposed": (layer("InnerProduct", "inner_product_param { num_output: 3 axis: 2 transpose: true "
                                       "bias_term: false }"), {"x": X}, [WEIGHTS],
                                 lambda x: x.reshape(2, 4, 30) @ WEIGHTS.astype(float)),
    "crop": (layer("Crop", "crop_param { axis: 2 offset: 1 offset: 2 }", "x like"), {"x": X, "like": normal(1, 9, 3, 4)},
             [], lambda x, like: x[:, :, 1:4, 2:6]),
    "slice": (layer("Slice", "slice_param { slice_point: 1 slice_point: 3 }", "x", "y z w"), {"x": X}, [],
              lambda x: (x[:, :1], x[:, 1:3], x[:, 3:])),
    "slice by its old name": (layer("Slice", "slice_param { slice_dim: 0 }", "x", "y z"), {"x": X}, [],
                              lambda x: (x[:1], x[1:])),
    "tile": (layer("Tile", "tile_param { axis: 1 tiles: 3 }"), {"x": X}, [], lambda x: np.tile(x, (1, 3, 1, 1))),
    "reshape inside": (layer("Reshape", "reshape_param { shape { dim: 2 dim: -1 } axis: 1 num_axes: 2 }"), {"x": X}, [],
                       lambda x: x.reshape(2, 2, 10, 6)),
    "reshape by inserting": (layer("Reshape", "reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }"), {"x": X}, [],
                             lambda x: x[..., None]),
    "flatten part": (layer("Flatten", "flatten_param { axis: 0 end_axis: 1 }"), {"x": X}, [],
                     lambda x: x.reshape(8, 5, 6)),
    "argmax": (layer("ArgMax", "argmax_param { top_k: 2 out_max_val: true }"), {"x": TIES}, [],
               lambda x: np.array([[[2, 0], [3, 3]], [[4, 3], [5, 5]]])),
    "argmax along an axis": (layer("ArgMax", "argmax_param { axis: 1 }"), {"x": TIES}, [],
                             lambda x: np.array([[2], [4]])),
    "reduction": (layer("Reduction", "reduction_param { operation: ASUM axis: 1 coeff: 2 }"), {"x": X}, [],
                  lambda x: 2 * np.abs(x).sum((1, 2, 3))),
    "reduction to a scalar": (layer("Reduction", "reduction_param { operation: MEAN }"), {"x": X}, [], np.mean),
    "reduction of squares": (layer("Reduction", "reduction_param { operation: SUMSQ axis: -1 }"), {"x": X}, [],
                             lambda x: (x**2).sum(-1)),
    "batch reindex": (layer("BatchReindex", "", "x order"), {"x": SMALL, "order": np.array([2, 0, 2], np.float32)}, [],
                      lambda x, order: x[[2, 0, 2]]),
    "shuffle channel": (layer("ShuffleChannel", "shuffle_channel_param { group: 2 }"), {"x": X}, [],
                        lambda x: x[:, [0, 2, 1, 3]]),
    "upsample": (layer("Upsample", "upsample_param { scale: 2 }"), {"x": X}, [],
                 lambda x: x.repeat(2, 2).repeat(2, 3)),
    "interp of corners": (layer("Interp", "interp_param { height: 9 width: 6 }"), {"x": X}, [],
                          lambda x: np.insert(x, range(1, 5), (x[:, :, :-1] + x[:, :, 1:]) / 2, 2)),
    "im2col": (layer("Im2col", "convolution_param { kernel_h: 2 kernel_w: 3 stride: 2 pad: 1 dilation: 1 }"), {"x": X}, [],
               lambda x: windows(x, (2, 3), (2, 2), (1, 1), 1)),
    "im2col dilated": (layer("Im2col", "convolution_param { kernel_size: 2 stride: 1 dilation: 3 }"), {"x": X}, [],
                       lambda x: windows(x, (2, 2), (1, 1), (3, 3), 0)),
    "axpy": (layer("Axpy", "", "s x y", "z"), {"s": normal(2, 4, 1, 1), "x": X, "y": X[::-1]}, [],
             lambda s, x, y: s * x + y),
    "reverse": (layer("Reverse", "reverse_param { axis: 1 }"), {"x": X}, [], lambda x: x[:, ::-1]),
    "reorg": (layer("Reorg", "reorg_param { stride: 2 }"), {"x": normal(2, 8, 4, 6)}, [],
              lambda x: darknet_reorg(x, 2, False)),
    "reorg backwards": (layer("Reorg", "reorg_param { stride: 2 reverse: true }"), {"x": normal(2, 8, 3, 5)}, [],
                        lambda x: darknet_reorg(x, 2, True)),
    "filter": (layer("Filter", "", "x chosen"), {"x": SMALL, "chosen": np.array([1, 0, 2], np.float32)}, [],
               lambda x, chosen: x[[0, 2]]),
    "bn of SegNet": (layer("BN", "bn_param { bn_mode: INFERENCE }"), {"x": X}, [S.reshape(1, 4, 1, 1), B4.reshape(1, 4, 1, 1)],
                     lambda x: x * S.reshape(4, 1, 1).astype(float) + B4.reshape(4, 1, 1)),
    "bn of PSPNet": (layer("BN", "bn_param { eps: 0.001 frozen: true }"), {"x": X}, [S, B3, B4, V],
                     lambda x: (x - B4.reshape(4, 1, 1)) / np.sqrt(V.reshape(4, 1, 1) + np.float64(np.float32(0.001)))
                     * S.reshape(4, 1, 1) + B3.reshape(4, 1, 1)),
    "stochastic pooling": (layer("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 }"),
                           {"x": np.abs(X)}, [], lambda x: stochastic(x, 3, 2)),
    "pooling of less than a window": (layer("Pooling", "pooling_param { pool: AVE kernel_h: 6 kernel_w: 9 stride: 3 pad_w: 1 }"),
                                      {"x": X}, [], lambda x: x.sum((2, 3), keepdims=True) / (5 * 8)),
    "pyramid of two levels": (layer("SPP", "spp_param { pyramid_height: 2 pool: AVE }"), {"x": X[:, :, :4]}, [],
                              lambda x: np.concatenate([x.mean((2, 3)), x.reshape(2, 4, 2, 2, 2, 3).mean((3, 5))
                                                        .reshape(2, 16)], 1)),
    "pyramid of one level": (layer("SPP", "spp_param { pyramid_height: 1 }"), {"x": X}, [],
                             lambda x: x.max((2, 3), keepdims=True)),
    "argmax and its value": (layer("ArgMax", "argmax_param { out_max_val: true }"), {"x": TIES}, [],
                             lambda x: np.array([[[2], [3]], [[4], [5]]])),
    "relu6": (layer("ReLU6"), {"x": 5 * X}, [], lambda x: np.clip(x, 0, 6)),
    "interp by factors": (layer("Interp", "interp_param { shrink_factor: 2 zoom_factor: 1 }"), {"x": X[..., :5]}, [],
                          lambda x: x[:, :, ::2, ::2]),
    "upsample to a size": (layer("Upsample", "upsample_param { scale: 2 upsample_h: 10 upsample_w: 12 }"), {"x": X}, [],
                           lambda x: x.repeat(2, 2).repeat(2, 3)),
    "lstm": (layer("LSTM", "recurrent_param { num_output: 3 }", "x cont"), {"x": SEQUENCE, "cont": CONT}, BLOBS_LSTM,
             lambda x, cont: lstm(x, cont, BLOBS_LSTM)),
    "rnn": (layer("RNN", "recurrent_param { num_output: 3 }", "x cont"), {"x": SEQUENCE, "cont": CONT}, BLOBS_RNN,
            lambda x, cont: rnn(x, cont, BLOBS_RNN)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_layer(networks: ModuleType, tmp_path: Path, name: str) -> None:
    text, inputs, blobs, compute = CASES[name]
    shapes = {n: a.shape for n, a in inputs.items()}
    (tmp_path / "net.prototxt").write_text(networks.prototxt(text, **shapes))
    (tmp_path / "net.caffemodel").write_bytes(networks.caffemodel({"made": blobs}))
    found = networks.run(tmp_path / "net.prototxt", inputs, weights=str(tmp_path / "net.caffemodel"))
    expected = compute(*(a.astype(np.float64) for a in inputs.values()))
    expected = expected if isinstance(expected, tuple) else (expected,)
    assert len(found) == len(expected)
    for y, right in zip(found.values(), expected, strict=True):
        assert y.shape == np.shape(right)
        np.testing.assert_allclose(y, right, rtol=1e-5, atol=1e-5 * np.abs(right).max())


def test_pooling_with_a_mask_and_back(networks: ModuleType, tmp_path: Path) -> None:
    text = layer("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", "x", "p m")
    text += layer("Upsample", "upsample_param { scale: 2 }", "p m", "y").replace('"made"', '"up"')
    (tmp_path / "net.prototxt").write_text(networks.prototxt(text, x=(2, 3, 4, 6)))
    x = normal(2, 3, 4, 6)
    found = networks.run(tmp_path / "net.prototxt", {"x": x})["y"]
    tops = x.reshape(2, 3, 2, 2, 3, 2).max((3, 5)).repeat(2, 2).repeat(2, 3)
    np.testing.assert_array_equal(found, np.where(x == tops, x, 0))


def test_in_place_layers_and_losses(networks: ModuleType, tmp_path: Path) -> None:
    text = layer("ReLU", "", "x", "x") + layer("Dropout", "", "x", "x").replace('"made"', '"drop"')
    text += layer("SoftmaxWithLoss", "", "x label", "loss").replace('"made"', '"loss"')
    text += layer("Accuracy", "", "x label", "accuracy").replace('"made"', '"accuracy"')
    (tmp_path / "net.prototxt").write_text(networks.prototxt(text, x=(2, 3), label=(2,)))
    x = normal(2, 3)
    found = networks.run(tmp_path / "net.prototxt", {"x": x})
    raised = np.exp(np.maximum(x, 0))
    assert list(found) == ["loss"]
    np.testing.assert_allclose(found["loss"], raised / raised.sum(1, keepdims=True), rtol=1e-5)
