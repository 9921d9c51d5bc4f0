"""Winograd's minimal filtering F(m, 3) of one axis, for m = 2 and m = 4: weights in NumPy, images as instructions.

m outputs of a window of 3 are computed from m + 2 inputs by m + 2 multiplications. Lavin and Gray, "Fast algorithms for
convolutional neural networks" (2015), has the matrices. F(4, 3) interpolates at 0, 1, -1, 2, -2 and infinity.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tenonrt.contracts import Array

from tenonrt_kernel_llvm.emitter import Function, Value
from tenonrt_kernel_llvm.target import BLOCK

WINDOW = 3

_WEIGHTS = {
    2: ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    4: (
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
}


def to_points(fn: Function, size: int, inputs: Sequence[Value]) -> list[Value]:
    """size + 2 values in a row of an image, transformed."""
    if size == 2:
        d0, d1, d2, d3 = inputs
        return [d0 - d2, d1 + d2, d2 - d1, d1 - d3]
    d0, d1, d2, d3, d4, d5 = inputs
    two, minus_two, minus_four = (fn.constant(d0.type, value) for value in (2, -2, -4))
    even, odd = fn.fma(minus_four, d2, d4), fn.fma(minus_four, d1, d3)
    outer, inner = d4 - d2, d3 - d1
    first = fn.fma(minus_four, d2 - d0, outer)
    last = fn.fma(minus_four, inner, d5 - d3)
    return [first, even + odd, even - odd, fn.fma(two, inner, outer), fn.fma(minus_two, inner, outer), last]


def from_points(fn: Function, size: int, points: Sequence[Value]) -> list[Value]:
    """``size`` outputs in a row from size + 2 products."""
    if size == 2:
        p0, p1, p2, p3 = points
        return [p0 + p1 + p2, p1 - p2 - p3]
    p0, p1, p2, p3, p4, p5 = points
    two, four, eight = (fn.constant(p0.type, value) for value in (2, 4, 8))
    near, far = p1 + p2, p3 + p4
    near_odd, far_odd = p1 - p2, p3 - p4
    last = fn.fma(eight, far_odd, near_odd) + p5
    return [p0 + near + far, fn.fma(two, far_odd, near_odd), fn.fma(four, far, near), last]


def transform_weights(dense: Array, size: int, blocks: int, group_first: bool) -> Array:
    """Weights [outputs, channels, 3, 3] as float32 [group][point][channel][block][16], surplus outputs zero.

    group: ``blocks`` blocks of 16 outputs. Not group_first: [point][group]... Computed in float64.
    """
    outputs, channels = dense.shape[:2]
    row = np.array(_WEIGHTS[size])
    both = np.kron(row, row)  # [points, window]
    groups = -(-outputs // (blocks * BLOCK))
    shape = (groups, len(both)) if group_first else (len(both), groups)
    packed = np.empty((*shape, channels, blocks * BLOCK), np.float32)
    for group in range(groups):
        part = dense[group * blocks * BLOCK : (group + 1) * blocks * BLOCK]
        wide = np.zeros((WINDOW * WINDOW, channels, blocks * BLOCK))
        wide[:, :, : len(part)] = part.reshape(len(part), channels, -1).transpose(2, 1, 0)
        points = (both @ wide.reshape(WINDOW * WINDOW, -1)).reshape(len(both), channels, -1)
        if group_first:
            packed[group] = points
        else:
            packed[:, group] = points
    return packed
