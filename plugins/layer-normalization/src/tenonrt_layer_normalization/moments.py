"""The arithmetic that the normalizations share."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from tenonrt.contracts import Array, working_dtype


def widened(array: Array) -> Array:
    """float32 for narrower floats, so that sums keep their precision; else the array itself."""
    return array.astype(working_dtype(array.dtype), copy=False)


def mean(x: Array, axes: Sequence[int]) -> Array:
    """The mean over axes, which are kept with size 1; NaN over no elements, without NumPy's warning."""
    count = prod(x.shape[a] for a in axes)
    with np.errstate(invalid="ignore", over="ignore"):
        total: Array = x.sum(tuple(axes), keepdims=True)
        return total / x.dtype.type(count) if count else np.full_like(total, np.nan)


def standardized(x: Array, axes: Sequence[int], epsilon: float) -> tuple[Array, Array, Array]:
    """(x - mean) / sqrt(variance + epsilon), with the mean and the inverse of that root; axes are kept with size 1."""
    center = mean(x, axes)
    with np.errstate(all="ignore"):  # infinities and constant rows with epsilon 0 have the results of the standard
        centered = x - center
        inverse = 1 / np.sqrt(mean(centered * centered, axes) + x.dtype.type(epsilon))
        return centered * inverse, center, inverse


def affine(x: Array, scale: Array | None, bias: Array | None) -> Array:
    """X * scale + bias in x's type, either of which may be absent."""
    if scale is not None:
        x = x * scale.astype(x.dtype, copy=False)
    return x if bias is None else x + bias.astype(x.dtype, copy=False)


def by_channel(parameter: Array | None, rank: int) -> Array | None:
    """A vector of channels in the shape that broadcasts along axis 1."""
    return None if parameter is None else parameter.reshape(-1, *[1] * (rank - 2))
