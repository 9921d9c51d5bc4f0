"""LeNet: convolutions, poolings, and three linear layers."""

from __future__ import annotations

from networks.writer import Writer

INPUT = (1, 28, 28)


def build(w: Writer) -> None:
    x = w.input("input", INPUT)
    for channels, keeps in (((1, 6), True), ((6, 16), False)):
        weight, bias = w.weight(channels[1], channels[0], 5, 5), w.weight(channels[1], scale=0.1)
        pads = [2 if keeps else 0] * 4
        x = w.node("Relu", [w.node("Conv", [x, weight, bias], kernel_shape=[5, 5], strides=[1, 1], pads=pads)])
        x = w.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = w.node("Flatten", [x], axis=1) if w.traced else w.batch_first(x, 400)
    x = w.node("Relu", [w.linear(x, 400, 120)])
    x = w.node("Relu", [w.linear(x, 120, 84)])
    w.output(w.linear(x, 84, 10))
