"""Which elements of an axis, with which weights, make an element of the resized axis (ONNX Resize).

In float32 where the layer's reference is, as the nearest element hangs on the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Coordinates = NDArray[np.float32]
_HALF, _ONE = np.float32(0.5), np.float32(1)
_TIE = 1e-6  # a fraction this near to one half is one half


@dataclass(frozen=True)
class Axis:
    """Sizes before and after, and output over input size as the model says."""

    size: int
    resized: int
    scale: float

    @property
    def identity(self) -> bool:
        """Whether nothing changes."""
        return self.size == self.resized and self.scale == 1.0


def _half_pixel(x: Coordinates, axis: Axis) -> Coordinates:
    return (x + _HALF) / np.float32(axis.scale) - _HALF


def _symmetric(x: Coordinates, axis: Axis) -> Coordinates:
    adjustment = np.float32(axis.resized) / (np.float32(axis.scale) * np.float32(axis.size))
    centre = np.float32(axis.size) / np.float32(2)
    offset = np.float64(centre * (_ONE - adjustment))
    return (offset + (x.astype(np.float64) + 0.5) / np.float64(np.float32(axis.scale)) - 0.5).astype(np.float32)


def _align_corners(x: Coordinates, axis: Axis) -> Coordinates:
    if axis.resized == 1:
        return np.zeros_like(x)
    return x * np.float32(axis.size - 1) / np.float32(axis.resized - 1)


TRANSFORMATIONS: dict[str, Callable[[Coordinates, Axis], Coordinates]] = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _symmetric,
    "pytorch_half_pixel": lambda x, axis: _half_pixel(x, axis) if axis.resized > 1 else np.zeros_like(x),
    "align_corners": _align_corners,
    "asymmetric": lambda x, axis: x / np.float32(axis.scale),
    "tf_half_pixel_for_nn": lambda x, axis: (x + _HALF) / np.float32(axis.scale),
}


def _coordinates(axis: Axis, transformation: str) -> Coordinates:
    x = np.arange(axis.resized, dtype=np.float32)
    return x if axis.identity else TRANSFORMATIONS[transformation](x, axis).astype(np.float32)


def nearest(axis: Axis, transformation: str, rounding: str) -> NDArray[np.int32]:
    """The element that each one of the resized axis repeats."""
    found = _coordinates(axis, transformation)
    if rounding in {"floor", "ceil"}:
        rounded = np.floor(found) if rounding == "floor" else np.ceil(found)
    else:
        below = np.floor(found)
        above_half = found - below - _HALF
        tie = np.abs(above_half) < _TIE
        rounded = below + np.where(tie, rounding == "round_prefer_ceil", above_half > 0)
    return np.clip(rounded, 0, axis.size - 1).astype(np.int32)


def linear(axis: Axis, transformation: str, *, exclude_outside: bool) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The two elements that each one of the resized axis lies between, and their weights: both [2, resized]."""
    centre = _coordinates(axis, transformation).astype(np.float64)
    positions = np.floor(centre - 1).astype(np.int64)[None] + np.array([[1], [2]])
    weights = np.maximum(1 - np.abs(positions - centre), 0)
    if exclude_outside:
        weights = np.where((positions < 0) | (positions >= axis.size), 0, weights)
        total = weights.sum(0, keepdims=True)
        weights = weights / np.where(total == 0, 1, total)
    return np.clip(positions, 0, axis.size - 1).astype(np.int32), weights.astype(np.float32)
