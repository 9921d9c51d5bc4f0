"""Which elements of an axis, with which weights, make an element of the resized axis (ONNX Resize)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tenonrt.coordinates import Coordinates, ResizedAxis

Rounding = Literal["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
Indices = NDArray[np.int64]
Weights = NDArray[np.float64]

# A fraction this near to one half counts as one half, as in onnxruntime: 3.5 may have come out as 3.4999998.
_TIE = 1e-6


def nearest_elements(coordinates: Coordinates, size: int, rounding: Rounding) -> Indices:
    """The index of the nearest element, inside the axis."""
    if rounding == "floor":
        rounded = np.floor(coordinates)
    elif rounding == "ceil":
        rounded = np.ceil(coordinates)
    else:
        below = np.floor(coordinates)
        above_half = coordinates - below - np.float32(0.5)
        tie = np.abs(above_half) < _TIE
        rounded = below + np.where(tie, rounding == "round_prefer_ceil", above_half > 0)
    return np.clip(rounded, 0, size - 1).astype(np.int64)


def triangle(x: Weights) -> Weights:
    """The linear filter, from -1 to 1."""
    return np.asarray(np.maximum(1 - np.abs(x), 0))


def keys(x: Weights, coefficient: float) -> Weights:
    """The cubic convolution filter, from -2 to 2, of Keys (1981), with a free coefficient."""
    x, a = np.abs(x), coefficient
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def weighed_elements(
    axis: ResizedAxis,
    coordinates: Coordinates,
    coefficient: float | None,
    *,
    exclude_outside: bool,
    antialias: bool,
) -> tuple[Indices, Weights]:
    """Indices and weights [resized, taps] of the elements that a filter reaches: a cubic one of a coefficient, or None
    for the linear one.

    An element outside the axis is the one at the edge, or has no part where ``exclude_outside`` says so. With
    ``antialias`` the filter of a shrinking axis is stretched to cover every element, and its weights sum to 1.
    """
    reach = 1 if coefficient is None else 2
    stretch = min(axis.scale, 1.0) if antialias else 1.0
    window = reach / stretch
    centre = coordinates.astype(np.float64)
    first = np.floor(centre - window).astype(np.int64) + 1
    positions = first[:, None] + np.arange(int(np.ceil(2 * window)))
    distances = (positions - centre[:, None]) * stretch
    weights = triangle(distances) if coefficient is None else keys(distances, coefficient)
    if exclude_outside:
        weights = np.where((positions < 0) | (positions >= axis.size), 0, weights)
    if exclude_outside or antialias:
        total = weights.sum(1, keepdims=True)
        weights = weights / np.where(total == 0, 1, total)
    return np.clip(positions, 0, axis.size - 1), weights
