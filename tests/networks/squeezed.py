"""Squeeze and excitation: channels weighted by a small network of their means; SiLU everywhere."""

from __future__ import annotations

from networks.writer import Writer

INPUT = (3, 32, 32)


def excited(w: Writer, x: str, channels: int) -> str:
    y = w.node("GlobalAveragePool", [x]) if w.traced else w.mean(x, (2, 3), keep=True)
    y = w.sigmoid_product(w.convolution(y, (channels, channels // 4), 1, normalized=False))
    y = w.node("Sigmoid", [w.convolution(y, (channels // 4, channels), 1, normalized=False)])
    return w.node("Mul", [y, x])


def block(w: Writer, x: str, inside: int, outside: int, size: int, stride: int) -> str:
    wide = 4 * inside
    y = w.sigmoid_product(w.convolution(x, (inside, wide), 1))
    y = w.sigmoid_product(w.convolution(y, (wide, wide), size, stride=stride, group=wide))
    y = w.convolution(excited(w, y, wide), (wide, outside), 1)
    return w.node("Add", [y, x]) if inside == outside and stride == 1 else y


def build(w: Writer) -> None:
    x = w.input("input", INPUT)
    x = w.sigmoid_product(w.convolution(x, (3, 8), 3, stride=2))
    for inside, outside, size, stride in ((8, 8, 3, 1), (8, 12, 5, 2), (12, 12, 3, 1)):
        x = block(w, x, inside, outside, size, stride)
    x = w.sigmoid_product(w.convolution(x, (12, 32), 1))
    w.output(w.linear(w.batch_first(w.mean(x, (2, 3), keep=True), 32), 32, 10))
