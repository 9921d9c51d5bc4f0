"""A residual network: bottlenecks with and without a projected shortcut, global average, one linear layer."""

from __future__ import annotations

from networks.writer import Writer

INPUT = (3, 32, 32)


def bottleneck(w: Writer, x: str, inside: int, width: int, stride: int) -> str:
    outside = 2 * width
    y = w.node("Relu", [w.convolution(x, (inside, width), 1)])
    y = w.node("Relu", [w.convolution(y, (width, width), 3, stride=stride)])
    y = w.convolution(y, (width, outside), 1)
    shortcut = x if inside == outside and stride == 1 else w.convolution(x, (inside, outside), 1, stride=stride)
    return w.node("Relu", [w.node("Add", [y, shortcut])])


def build(w: Writer) -> None:
    x = w.input("input", INPUT)
    x = w.node("Relu", [w.convolution(x, (3, 8), 7, stride=2)])
    x = w.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=0)
    for inside, width, stride in ((8, 8, 1), (16, 8, 1), (16, 16, 2), (32, 16, 1)):
        x = bottleneck(w, x, inside, width, stride)
    if w.traced:
        x = w.node("Flatten", [w.node("GlobalAveragePool", [x])], axis=1)
    else:
        x = w.batch_first(w.mean(x, (-1, -2), keep=True), 32)
    w.output(w.linear(x, 32, 10))
