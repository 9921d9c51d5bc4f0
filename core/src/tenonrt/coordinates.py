"""Where the elements of a resized axis come from, for the layer and its kernels: the coordinates of ONNX Resize.

All are float32, rounded where onnxruntime rounds: the nearest element, and what lies outside, hang on the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Coordinates = NDArray[np.float32]
Transformation = Literal[
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
]

_HALF, _ONE = np.float32(0.5), np.float32(1)


@dataclass(frozen=True)
class ResizedAxis:
    """One axis to resize. scale: output over input size. start, end: the cropped part, as fractions of the axis."""

    axis: int
    size: int
    resized: int
    scale: float
    start: float = 0.0
    end: float = 1.0

    @property
    def identity(self) -> bool:
        """Whether nothing changes on this axis, in any transformation."""
        return self.size == self.resized and self.scale == 1.0 and (self.start, self.end) == (0.0, 1.0)


def _half_pixel(x: Coordinates, axis: ResizedAxis) -> Coordinates:
    return (x + _HALF) / np.float32(axis.scale) - _HALF


def _half_pixel_symmetric(x: Coordinates, axis: ResizedAxis) -> Coordinates:
    adjustment = np.float32(axis.resized) / (np.float32(axis.scale) * np.float32(axis.size))
    centre = np.float32(axis.size) / np.float32(2)
    offset = np.float64(centre * (_ONE - adjustment))
    # onnxruntime divides in float64 here, unlike in half_pixel: an exact half of ours would be just below for it.
    return (offset + (x.astype(np.float64) + 0.5) / np.float64(np.float32(axis.scale)) - 0.5).astype(np.float32)


def _pytorch_half_pixel(x: Coordinates, axis: ResizedAxis) -> Coordinates:
    return _half_pixel(x, axis) if axis.resized > 1 else np.zeros_like(x)


def _align_corners(x: Coordinates, axis: ResizedAxis) -> Coordinates:
    if axis.resized == 1:
        return np.zeros_like(x)
    return x * np.float32(axis.size - 1) / np.float32(axis.resized - 1)


def _asymmetric(x: Coordinates, axis: ResizedAxis) -> Coordinates:
    return x / np.float32(axis.scale)


def _tf_half_pixel_for_nn(x: Coordinates, axis: ResizedAxis) -> Coordinates:
    return (x + _HALF) / np.float32(axis.scale)


def _tf_crop_and_resize(x: Coordinates, axis: ResizedAxis) -> Coordinates:
    start, end, last = np.float32(axis.start), np.float32(axis.end), np.float32(axis.size - 1)
    if axis.resized == 1:
        return np.full_like(x, np.float32(0.5 * (axis.start + axis.end) * (axis.size - 1)))
    return start * last + x * (end - start) * last / np.float32(axis.resized - 1)


_TRANSFORMATIONS: dict[str, Callable[[Coordinates, ResizedAxis], Coordinates]] = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "align_corners": _align_corners,
    "asymmetric": _asymmetric,
    "tf_half_pixel_for_nn": _tf_half_pixel_for_nn,
    "tf_crop_and_resize": _tf_crop_and_resize,
}


def original_coordinates(axis: ResizedAxis, transformation: Transformation) -> Coordinates:
    """The coordinate in the input of every element of the resized axis."""
    x = np.arange(axis.resized, dtype=np.float32)
    return x if axis.identity else _TRANSFORMATIONS[transformation](x, axis).astype(np.float32)
