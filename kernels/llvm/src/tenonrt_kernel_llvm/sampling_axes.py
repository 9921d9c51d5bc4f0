"""Tables of which elements of an axis, with which weights, make an element of the resized axis (ONNX Resize)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tenonrt.contracts import (
    ResizedAxis,
    Rounding,
    Transformation,
    nearest_elements,
    original_coordinates,
    weighed_elements,
)


def nearest(axis: ResizedAxis, transformation: Transformation, rounding: Rounding) -> NDArray[np.int32]:
    """The element that each one of the resized axis repeats."""
    return nearest_elements(original_coordinates(axis, transformation), axis.size, rounding).astype(np.int32)


def linear(
    axis: ResizedAxis, transformation: Transformation, *, exclude_outside: bool
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The two elements that each one of the resized axis lies between, and their weights: both [2, resized]."""
    found = original_coordinates(axis, transformation)
    elements, weights = weighed_elements(axis, found, None, exclude_outside=exclude_outside, antialias=False)
    return np.ascontiguousarray(elements.T, np.int32), np.ascontiguousarray(weights.T, np.float32)
