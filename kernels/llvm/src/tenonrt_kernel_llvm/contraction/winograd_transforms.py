"""Winograd's minimal filtering of one axis for windows of 3: weights in NumPy, images as instructions.

F(m, 3), for stride 1: m outputs (2 or 4) are computed from m + 2 inputs by m + 2 multiplications. Lavin and Gray, "Fast
algorithms for convolutional neural networks" (2015), has the matrices; F(4, 3) interpolates at 0, 1, -1, 2, -2 and
infinity. With stride 2 the outer two taps meet every other input, which is F(m, 2) of stride 1 and takes m + 1
multiplications, and the inner tap the inputs between, which takes m. Their points follow each other. F(4, 2)
interpolates at 0, 1, -1, 2 and infinity.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tenonrt.contracts import Array

from tenonrt_kernel_llvm.emitter import Function, Value
from tenonrt_kernel_llvm.target import BLOCK

WINDOW = 3

# By (outputs, stride): what each point multiplies, as a sum of the taps. With stride 2 the last row is the inner tap,
# for all the points that have it.
_WEIGHTS: dict[tuple[int, int], Sequence[Sequence[float]]] = {
    (2, 1): ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    (4, 1): (
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
    (2, 2): ((1, 0, 0), (1, 0, 1), (0, 0, 1), (0, 1, 0)),
    (4, 2): (
        (1 / 2, 0, 0),
        (-1 / 2, 0, -1 / 2),
        (-1 / 6, 0, 1 / 6),
        (1 / 6, 0, 1 / 3),
        (0, 0, 1),
        (0, 1, 0),
    ),
}


def points_of(size: int, stride: int) -> int:
    """Points of one axis, which are as many as inputs."""
    return size + 2 if stride == 1 else 2 * size + 1


def matrices_of(size: int) -> int:
    """Different rows of weights of one axis; points from the last one on share it."""
    return size + 2


def to_points(fn: Function, size: int, stride: int, inputs: Sequence[Value]) -> list[Value]:
    """The values in a row of an image, transformed."""
    if stride == 2:
        return [*_outer_points(fn, size, inputs[::2]), *inputs[1::2]]
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


def _outer_points(fn: Function, size: int, inputs: Sequence[Value]) -> list[Value]:
    """F(m, 2)."""
    if size == 2:
        d0, d1, d2 = inputs
        return [d0 - d1, d1, d2 - d1]
    d0, d1, d2, d3, d4 = inputs
    two, minus_two, minus_three = (fn.constant(d0.type, value) for value in (2, -2, -3))
    inner = d3 - d1
    first = fn.fma(two, d0 - d2, inner)
    last = fn.fma(minus_two, inner, d4 - d2)
    return [first, fn.fma(minus_two, d1, d3 - d2), fn.fma(two, d1, fn.fma(minus_three, d2, d3)), inner, last]


def from_points(fn: Function, size: int, stride: int, points: Sequence[Value]) -> list[Value]:
    """``size`` outputs in a row from the products."""
    if stride == 2:
        outer = _from_outer_points(fn, size, points[: size + 1])
        return [a + b for a, b in zip(outer, points[size + 1 :], strict=True)]
    if size == 2:
        p0, p1, p2, p3 = points
        return [p0 + p1 + p2, p1 - p2 - p3]
    p0, p1, p2, p3, p4, p5 = points
    two, four, eight = (fn.constant(p0.type, value) for value in (2, 4, 8))
    near, far = p1 + p2, p3 + p4
    near_odd, far_odd = p1 - p2, p3 - p4
    last = fn.fma(eight, far_odd, near_odd) + p5
    return [p0 + near + far, fn.fma(two, far_odd, near_odd), fn.fma(four, far, near), last]


def _from_outer_points(fn: Function, size: int, points: Sequence[Value]) -> list[Value]:
    """F(m, 2)."""
    if size == 2:
        p0, p1, p2 = points
        return [p0 + p1, p1 + p2]
    p0, p1, p2, p3, p4 = points
    two, four, eight = (fn.constant(p0.type, value) for value in (2, 4, 8))
    even, odd = p1 + p2, p1 - p2
    return [p0 + even + p3, fn.fma(two, p3, odd), fn.fma(four, p3, even), fn.fma(eight, p3, odd) + p4]


def transform_weights(dense: Array, size: int, stride: int, blocks: int, group_first: bool) -> Array:
    """Weights [outputs, channels, 3, 3] as float32 [group][matrix][channel][block][16], surplus outputs zero.

    group: ``blocks`` blocks of 16 outputs. Not group_first: [matrix][group]... Computed in float64.
    """
    outputs, channels = dense.shape[:2]
    row = np.array(_WEIGHTS[size, stride])
    both = np.kron(row, row)  # [matrices, window]
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
