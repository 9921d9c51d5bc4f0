"""Inception: four branches side by side; local response normalization, as an operator or as its parts."""

from __future__ import annotations

from networks.writer import Writer

INPUT = (3, 32, 32)


def normalized(w: Writer, x: str, channels: int, size: int) -> str:
    """Across five channels: traced as LRN, exported as a padded average over a fifth axis."""
    if w.traced:
        return w.node("LRN", [x], size=5, alpha=1e-2, beta=0.75, bias=1.0)
    y = w.batch_first(w.node("Mul", [x, x]), 1, channels, size, size)
    y = w.node("Pad", [y, w.ints(0, 0, 2, 0, 0, 0, 0, 2, 0, 0)], mode="constant")
    y = w.node("AveragePool", [y], kernel_shape=[5, 1, 1], strides=[1, 1, 1], pads=[0] * 6, count_include_pad=1)
    y = w.node("Mul", [w.node("Squeeze", [y, w.ints(1)]), w.constant(1e-2)])
    power = w.node("Pow", [w.node("Add", [y, w.constant(1.0)]), w.constant(0.75)])
    return w.node("Div", [x, power])


def convolution(w: Writer, x: str, inside: int, outside: int, size: int) -> str:
    return w.node("Relu", [w.convolution(x, (inside, outside), size, normalized=False)])


def block(w: Writer, x: str, inside: int) -> str:
    pooled = w.node("MaxPool", [x], kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1], ceil_mode=1)
    branches = [
        convolution(w, x, inside, 4, 1),
        convolution(w, convolution(w, x, inside, 6, 1), 6, 8, 3),
        convolution(w, convolution(w, x, inside, 2, 1), 2, 4, 5),
        convolution(w, pooled, inside, 4, 1),
    ]
    return w.node("Concat", branches, axis=1)


def build(w: Writer) -> None:
    x = w.input("input", INPUT)
    x = w.node("Relu", [w.convolution(x, (3, 8), 7, stride=2, normalized=False)])
    x = w.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    x = convolution(w, normalized(w, x, 8, 8), 8, 8, 1)
    x = normalized(w, convolution(w, x, 8, 8, 3), 8, 8)
    x = block(w, block(w, x, 8), 20)
    x = w.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    x = w.node("AveragePool", [x], kernel_shape=[4, 4], strides=[1, 1])
    x = w.node("Dropout", [w.batch_first(x, 20)]) if w.traced else w.batch_first(x, 20)
    w.output(w.node("Softmax", [w.linear(x, 20, 10)], axis=1))
