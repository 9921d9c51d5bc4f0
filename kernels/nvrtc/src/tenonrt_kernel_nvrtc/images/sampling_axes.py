"""Which elements of an axis, with which weights, make an element of the resized axis (ONNX Resize, version 19).

Coordinates are in float32 as the operator has them, for the nearest element hangs on the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tenonrt.contracts import Problem, ResizedAxis, nearest_elements, original_coordinates, weighed_elements


@dataclass(frozen=True)
class Taps:
    """Elements that are read and their weights, both [resized, taps]; which positions lie outside of the input."""

    elements: NDArray[np.int32]
    weights: NDArray[np.float32]
    outside: NDArray[np.bool_]

    @property
    def count(self) -> int:
        return int(self.elements.shape[1])


def axes_of(problem: Problem) -> list[ResizedAxis] | str:
    """The axes that a Resize changes, or why they are not known."""
    layer, attrs = problem.layer, problem.layer.attrs
    before, after = (problem.types[i].concrete({}) for i in (layer.inputs[0], layer.outputs[0]))
    values = [_values(problem, position) for position in (1, 2, 3)]
    if any(isinstance(found, str) for found in values):
        return "a region, scales or sizes that are computed"
    region, scales, sizes = ([] if isinstance(found, str) else found for found in values)
    numbers = list(range(len(before))) if attrs.axes is None else [a % len(before) for a in attrs.axes]
    if not scales:
        scales = _scales([int(s) for s in sizes], [before[a] for a in numbers], attrs.keep_aspect)
    cropped = attrs.coordinate_transformation == "tf_crop_and_resize"
    axes = []
    for position, (number, scale) in enumerate(zip(numbers, scales, strict=True)):
        part = (region[position], region[position + len(numbers)]) if cropped else (0.0, 1.0)
        axes.append(ResizedAxis(number, before[number], after[number], float(scale), *part))
    return [axis for axis in axes if not axis.identity]


def taps_of(axis: ResizedAxis, attrs: Any) -> Taps:
    """What is read for each element of an axis that is not empty."""
    found = original_coordinates(axis, attrs.coordinate_transformation)
    outside = (found < 0) | (found > axis.size - 1)
    if attrs.coordinate_transformation != "tf_crop_and_resize":
        outside = np.zeros_like(outside)
    if attrs.mode == "nearest":
        elements = nearest_elements(found, axis.size, attrs.nearest_rounding)[:, None]
        return Taps(elements.astype(np.int32), np.ones(elements.shape, np.float32), outside)
    coefficient = None if attrs.mode == "linear" else attrs.cubic_coefficient
    elements, weights = weighed_elements(
        axis, found, coefficient, exclude_outside=attrs.exclude_outside, antialias=attrs.antialias
    )
    return Taps(elements.astype(np.int32), weights.astype(np.float32), outside)


def _values(problem: Problem, position: int) -> list[float] | str:
    """An input of known values; empty where it is absent."""
    inputs = problem.layer.inputs
    number = inputs[position] if position < len(inputs) else -1
    if number < 0 or problem.types[number].size == 0:
        return []
    value = problem.inputs[number].value
    return "computed" if value is None else [float(v) for v in value]


def _scales(sizes: list[int], originals: list[int], policy: str) -> list[float]:
    scales = [np.float32(want) / np.float32(max(1, size)) for want, size in zip(sizes, originals, strict=True)]
    if policy == "stretch":
        return [float(scale) for scale in scales]
    return [float(min(scales) if policy == "not_larger" else max(scales))] * len(scales)
