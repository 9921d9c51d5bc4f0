"""Cross-correlation in NumPy: windows gathered into columns (im2col) and multiplied by the weights as a matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
from tenonrt.contracts import Array, WindowAxis

# The columns of a 3x3 convolution are nine times its input; in pieces of this size they stay near the caches.
COLUMN_BYTES = 1 << 24


def correlate(source: Array, weights: Array, axes: Sequence[WindowAxis], groups: int) -> Array:
    """Slide ``weights`` [K, C/groups, *R] over ``source`` [N, C, *S]; the result is [N, K, *O]."""
    sizes = source.shape[2:]
    positions = tuple(a.positions(s) for a, s in zip(axes, sizes, strict=True))
    if 0 in (*positions, *source.shape, len(weights)):
        return np.zeros((len(source), len(weights), *positions), source.dtype)
    padded = pad(source, [a.padding(s) for a, s in zip(axes, sizes, strict=True)])
    if weights.shape[1] == 1:
        return _depthwise(padded, weights, axes, positions)
    if all(a.window == 1 for a in axes):
        return _pointwise(padded, weights, axes, positions, groups)
    return _by_columns(padded, weights, axes, positions, groups)


def pad(source: Array, padding: Sequence[tuple[int, int]]) -> Array:
    """Zeros around the spatial axes; the source itself where there are none."""
    if not any(map(any, padding)):
        return source
    return np.pad(source, [(0, 0), (0, 0), *padding])


def tap_slices(axes: Sequence[WindowAxis], tap: Sequence[int], positions: Sequence[int]) -> tuple[Any, ...]:
    """What one element of the window meets at all positions, as an index of the padded array's last axes."""
    starts = [t * a.dilation for a, t in zip(axes, tap, strict=True)]
    slices = (
        slice(start, start + (count - 1) * a.stride + 1, a.stride)
        for a, start, count in zip(axes, starts, positions, strict=True)
    )
    return (..., *slices)


def _pointwise(
    source: Array, weights: Array, axes: Sequence[WindowAxis], positions: tuple[int, ...], groups: int
) -> Array:
    """A window of one element is a matrix product without columns."""
    source = source[tap_slices(axes, [0] * len(axes), positions)]
    matrix = weights.reshape(groups, -1, weights.shape[1])
    result: Array = np.matmul(matrix, source.reshape(len(source), groups, weights.shape[1], -1))
    return result.reshape(len(source), len(weights), *positions)


def _depthwise(source: Array, weights: Array, axes: Sequence[WindowAxis], positions: tuple[int, ...]) -> Array:
    """One input channel a group: a sum of shifted images, as there is nothing to contract over but the window."""
    count, channels = source.shape[:2]
    multiplier = len(weights) // channels
    taps = weights.reshape(channels, multiplier, *weights.shape[2:])
    images = source[:, :, None]
    output = np.zeros((count, channels, multiplier, *positions), source.dtype)
    for tap in np.ndindex(*weights.shape[2:]):
        factor = taps[(slice(None), slice(None), *tap)].reshape(channels, multiplier, *[1] * len(axes))
        output += factor * images[tap_slices(axes, tap, positions)]
    return output.reshape(count, len(weights), *positions)


def _by_columns(
    source: Array, weights: Array, axes: Sequence[WindowAxis], positions: tuple[int, ...], groups: int
) -> Array:
    windows = _windows(source, axes, positions)
    matrix = weights.reshape(groups, len(weights) // groups, -1)
    output = np.empty((len(source), len(weights), *positions), source.dtype)
    first_position = 2 + len(axes)
    all_before = (slice(None),) * (first_position - 1)
    for images, rows in _pieces(windows, first_position):
        piece = windows[(images, *all_before, rows)]
        columns = piece.reshape(len(piece), groups, matrix.shape[2], -1)
        target = output[images, :, rows]
        target[...] = np.matmul(matrix, columns).reshape(target.shape)
    return output


def _windows(source: Array, axes: Sequence[WindowAxis], positions: tuple[int, ...]) -> Array:
    """A read-only view [N, C, *R, *O] of every window at every position."""
    spatial = source.strides[2:]
    return np.lib.stride_tricks.as_strided(
        source,
        (*source.shape[:2], *(a.window for a in axes), *positions),
        (
            *source.strides[:2],
            *(a.dilation * step for a, step in zip(axes, spatial, strict=True)),
            *(a.stride * step for a, step in zip(axes, spatial, strict=True)),
        ),
        writeable=False,
    )


def _pieces(windows: Array, first_position: int) -> Iterator[tuple[slice, slice]]:
    """Ranges of images, or of output rows of one image, whose columns fit the budget."""
    count, rows = windows.shape[0], windows.shape[first_position]
    image = prod(windows.shape[1:]) * windows.itemsize
    images = max(1, COLUMN_BYTES // image)
    step = rows if image <= COLUMN_BYTES else max(1, COLUMN_BYTES // (image // rows))
    for first in range(0, count, images):
        for row in range(0, rows, step):
            yield slice(first, first + images), slice(row, row + step)
