"""Inverted residuals: expand, convolve each channel alone, project; clipped at 6."""

from __future__ import annotations

from networks.writer import Writer

INPUT = (3, 32, 32)


def clipped(w: Writer, x: str) -> str:
    return w.node("Clip", [x, w.constant(0.0), w.constant(6.0)])


def block(w: Writer, x: str, inside: int, outside: int, stride: int) -> str:
    wide = 4 * inside
    y = clipped(w, w.convolution(x, (inside, wide), 1))
    y = clipped(w, w.convolution(y, (wide, wide), 3, stride=stride, group=wide))
    y = w.convolution(y, (wide, outside), 1)
    return w.node("Add", [x, y]) if inside == outside and stride == 1 else y


def build(w: Writer) -> None:
    x = w.input("input", INPUT)
    x = clipped(w, w.convolution(x, (3, 8), 3, stride=2))
    for inside, outside, stride in ((8, 8, 1), (8, 12, 2), (12, 12, 1)):
        x = block(w, x, inside, outside, stride)
    x = clipped(w, w.convolution(x, (12, 48), 1))
    w.output(w.linear(w.mean(x, (2, 3), keep=False), 48, 10))
