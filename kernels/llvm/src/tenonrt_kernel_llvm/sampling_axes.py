"""Which elements of an axis, with which weights, make an element of the resized axis (ONNX Resize).

In float32 where coordinates are, as the nearest element hangs on the last bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tenonrt.contracts import ResizedAxis, Transformation, original_coordinates

_HALF = np.float32(0.5)
_TIE = 1e-6  # a fraction this near to one half is one half


def nearest(axis: ResizedAxis, transformation: Transformation, rounding: str) -> NDArray[np.int32]:
    """The element that each one of the resized axis repeats."""
    found = original_coordinates(axis, transformation)
    if rounding in {"floor", "ceil"}:
        rounded = np.floor(found) if rounding == "floor" else np.ceil(found)
    else:
        below = np.floor(found)
        above_half = found - below - _HALF
        tie = np.abs(above_half) < _TIE
        rounded = below + np.where(tie, rounding == "round_prefer_ceil", above_half > 0)
    return np.clip(rounded, 0, axis.size - 1).astype(np.int32)


def linear(
    axis: ResizedAxis, transformation: Transformation, *, exclude_outside: bool
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The two elements that each one of the resized axis lies between, and their weights: both [2, resized]."""
    centre = original_coordinates(axis, transformation).astype(np.float64)
    positions = np.floor(centre - 1).astype(np.int64)[None] + np.array([[1], [2]])
    weights = np.maximum(1 - np.abs(positions - centre), 0)
    if exclude_outside:
        weights = np.where((positions < 0) | (positions >= axis.size), 0, weights)
        total = weights.sum(0, keepdims=True)
        weights = weights / np.where(total == 0, 1, total)
    return np.clip(positions, 0, axis.size - 1).astype(np.int32), weights.astype(np.float32)
