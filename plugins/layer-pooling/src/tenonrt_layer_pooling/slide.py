"""Window reductions in NumPy, one spatial axis after the other: their cost is the sum of the window's sides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from tenonrt.contracts import Array, WindowAxis


def slide(source: Array, axes: Sequence[WindowAxis], combine: Callable[[Array, Array], Array], fill: float) -> Array:
    """Reduce every window of [N, C, *S] with ``combine``, padding counting as ``fill``; the result is [N, C, *O]."""
    for number, axis in enumerate(axes, start=2):
        first, *rest = taps(axis, source, number, fill)
        source = first.copy()
        for tap in rest:
            source = combine(source, tap)
    return source


def lowest(dtype: np.dtype[Any]) -> float:
    """The value that never wins a maximum."""
    return int(np.iinfo(dtype).min) if np.issubdtype(dtype, np.integer) else -np.inf


def maximum(source: Array, axes: Sequence[WindowAxis]) -> Array:
    """The largest element of every window; NaN when it holds one."""
    return slide(source, axes, np.maximum, lowest(source.dtype))


def average(source: Array, axes: Sequence[WindowAxis], include_padding: bool) -> Array:
    """The mean of every window over its elements in the input, or also over those in the padding.

    A dilated window may have all of its elements in the padding: its mean is 0.
    """
    total = slide(source, axes, np.add, 0)
    for number, axis in enumerate(axes, start=2):
        counts = np.maximum(element_counts(axis, source.shape[number], include_padding), 1)
        total = total / counts.astype(source.dtype).reshape(-1, *[1] * (source.ndim - 1 - number))
    return total


def norm(source: Array, axes: Sequence[WindowAxis], p: int) -> Array:
    """The p-norm of every window: (sum of abs(x)**p) ** (1/p)."""
    power = slide(np.abs(source) ** p, axes, np.add, 0)
    return power if p == 1 else np.sqrt(power) if p == 2 else power ** (1 / p)


def maximum_with_indices(source: Array, axes: Sequence[WindowAxis], column_major: bool) -> tuple[Array, Array]:
    """The largest element of every window and its place in the flattened input, the first one of equals."""
    spatial = source.shape[2:]
    order = np.arange(prod(spatial), dtype=np.int64).reshape(spatial, order="F" if column_major else "C")
    images = np.arange(prod(source.shape[:2]), dtype=np.int64).reshape(*source.shape[:2], *[1] * len(spatial))
    places = images * prod(spatial) + order
    for number, axis in reversed(list(enumerate(axes, start=2))):  # the last axis first: rows decide before columns
        values = taps(axis, source, number, lowest(source.dtype))
        candidates = taps(axis, places, number, -1)
        source, places = values[0].copy(), candidates[0].copy()
        for value, place in zip(values[1:], candidates[1:], strict=True):
            better = (value > source) | (np.isnan(value) & ~np.isnan(source)) | (places < 0)
            better &= place >= 0
            source, places = np.where(better, value, source), np.where(better, place, places)
    return source, places


def taps(window: WindowAxis, array: Array, axis: int, fill: float) -> list[Array]:
    """For each element of the window, what it meets at all positions: views of the array padded with ``fill``."""
    size = array.shape[axis]
    count, before = window.positions(size), window.padding(size)[0]
    last = (count - 1) * window.stride
    padding = [(0, 0)] * array.ndim
    padding[axis] = (before, max(0, last + window.extent - before - size))
    if any(padding[axis]):
        array = np.pad(array, padding, constant_values=fill)
    offsets = [tap * window.dilation for tap in range(window.window)]
    lead = (slice(None),) * axis
    return [array[(*lead, slice(offset, offset + last + 1, window.stride))] for offset in offsets]


def element_counts(window: WindowAxis, size: int, include_padding: bool) -> Array:
    """How many elements of the window lie in the input, or in the padded input, at each position."""
    before, after = window.padding(size)
    first, end = (0, before + size + after) if include_padding else (before, before + size)
    starts = np.arange(window.positions(size)) * window.stride
    touched = starts[:, None] + np.arange(window.window) * window.dilation
    counts: Array = ((touched >= first) & (touched < end)).sum(axis=1)
    return counts
