"""A detector: split and joined blocks, pooled pyramid, upsampling, and a head that decodes distances by a softmax."""

from __future__ import annotations

import numpy as np
from networks.writer import Writer

INPUT = (3, 32, 32)
BINS, CLASSES = 4, 3


def silu(w: Writer, x: str, inside: int, outside: int, size: int, stride: int = 1) -> str:
    return w.sigmoid_product(w.convolution(x, (inside, outside), size, stride=stride))


def halves(w: Writer, x: str, channels: int) -> list[str]:
    if w.traced:
        return w.split("Split", [x, w.ints(channels // 2, channels // 2)], 2, axis=1)
    return w.split("Split", [x], 2, axis=1, num_outputs=2)


def block(w: Writer, x: str, channels: int) -> str:
    first, second = halves(w, silu(w, x, channels, channels, 1), channels)
    half = channels // 2
    third = w.node("Add", [second, silu(w, silu(w, second, half, half, 3), half, half, 3)])
    return silu(w, w.node("Concat", [first, second, third], axis=1), 3 * half, channels, 1)


def pyramid(w: Writer, x: str, channels: int) -> str:
    parts = [silu(w, x, channels, channels // 2, 1)]
    for _ in range(3):
        parts.append(w.node("MaxPool", [parts[-1]], kernel_shape=[5, 5], strides=[1, 1], pads=[2, 2, 2, 2]))
    return silu(w, w.node("Concat", parts, axis=1), 2 * channels, channels, 1)


def upsampled(w: Writer, x: str) -> str:
    return w.node("Resize", [x, "", w.constant([1, 1, 2, 2])], mode="nearest", nearest_mode="floor",
                  coordinate_transformation_mode="asymmetric")  # fmt: skip


def level(w: Writer, x: str, channels: int, cells: int) -> str:
    boxes = w.convolution(silu(w, x, channels, 8, 3), (8, 4 * BINS), 1, normalized=False)
    classes = w.convolution(silu(w, x, channels, 8, 3), (8, CLASSES), 1, normalized=False)
    return w.batch_first(w.node("Concat", [boxes, classes], axis=1), 4 * BINS + CLASSES, cells)


def decoded(w: Writer, boxes: str, cells: int) -> str:
    """Corners from the expected distance of each side, around anchors."""
    y = w.node("Transpose", [w.batch_first(boxes, 4, BINS, cells)], perm=[0, 2, 1, 3])
    y = w.node("Softmax", [y], axis=1)
    bins = w.initializer(np.arange(BINS, dtype=np.float32).reshape(1, BINS, 1, 1))
    y = w.batch_first(w.node("Conv", [y, bins], kernel_shape=[1, 1]), 4, cells)
    near, far = halves(w, y, 4)
    anchors = w.initializer(w.rng.uniform(0, 8, (1, 2, cells)).astype(np.float32))
    low, high = w.node("Sub", [anchors, near]), w.node("Add", [anchors, far])
    centre = w.node("Div", [w.node("Add", [low, high]), w.constant(2.0)])
    joined = w.node("Concat", [centre, w.node("Sub", [high, low])], axis=1)
    return w.node("Mul", [joined, w.initializer(np.full((1, cells), 4, np.float32))])


def build(w: Writer) -> None:
    x = w.input("input", INPUT)
    x = silu(w, silu(w, x, 3, 8, 3, 2), 8, 16, 3, 2)
    fine = block(w, x, 16)
    coarse = pyramid(w, block(w, silu(w, fine, 16, 16, 3, 2), 16), 16)
    fine = block(w, w.node("Concat", [upsampled(w, coarse), fine], axis=1), 32)
    joined = w.node("Concat", [level(w, fine, 32, 64), level(w, coarse, 16, 16)], axis=2)
    boxes, classes = w.split("Split", [joined, w.ints(4 * BINS, CLASSES)], 2, axis=1)
    w.output(w.node("Concat", [decoded(w, boxes, 80), w.node("Sigmoid", [classes])], axis=1), rank=3)
