"""Resize: interpolation of any axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    Dimension,
    LayerType,
    ResizedAxis,
    Rounding,
    Run,
    TensorInfo,
    TensorType,
    Transformation,
    draw,
    nearest_elements,
    original_coordinates,
    unknown,
    weighed_elements,
)

from tenonrt_layer_resize.sizing import KeepAspect, absent, fitted, floored, scaled_size, sizes_from

T = TypeVar("T")


class ResizeAttributes(Attributes, frozen=True):
    """The attributes of ONNX Resize. axes None: all; else roi, scales and sizes speak of these axes only.

    extrapolation: the value outside the region of interest (tf_crop_and_resize only).
    """

    mode: Literal["nearest", "linear", "cubic"] = "nearest"
    coordinate_transformation: Transformation = "half_pixel"
    nearest_rounding: Rounding = "round_prefer_floor"
    cubic_coefficient: float = -0.75
    exclude_outside: bool = False
    extrapolation: float = 0.0
    antialias: bool = False
    axes: tuple[int, ...] | None = None
    keep_aspect: KeepAspect = "stretch"


def _padded(values: Sequence[T | None]) -> list[T | None]:
    """All four inputs, None for those left out at the end."""
    absent_inputs: list[T | None] = [None] * (4 - len(values))
    return [*values, *absent_inputs]


def _axes(attrs: ResizeAttributes, rank: int) -> list[int]:
    axes = list(range(rank)) if attrs.axes is None else list(attrs.axes)
    if any(not -rank <= a < rank for a in axes) or len({a % rank for a in axes}) != len(axes):
        raise ValueError(f"axes are {axes}, expected different axes of a tensor of rank {rank}")
    return [a % rank for a in axes]


def _check_length(name: str, info: TensorInfo, expected: int) -> None:
    if info.rank != 1 or (isinstance(info.shape[0], int) and info.shape[0] != expected):
        raise ValueError(f"{name} is {info.type}, expected {expected} values")


class ResizeLayer(LayerType):
    """ONNX Resize (version 19): each axis is interpolated by itself, nearest, linear or cubic.

    Coordinates are computed in float32 whatever the input's type. Weighted sums are in float32, or in float64 for a
    float64 input; integers are then truncated towards zero and saturate.
    """

    Attrs: ClassVar[type[Attributes]] = ResizeAttributes
    inputs: ClassVar[tuple[str, ...]] = ("input", "roi?", "scales?", "sizes?")
    shape_inputs: ClassVar[tuple[int, ...]] = (2, 3)

    def infer(self, attrs: ResizeAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        data, roi, scales, sizes = _padded(inputs)
        if data is None or data.dtype == "string":
            raise ValueError("Resize needs an input of numbers")
        if data.dtype.startswith("complex") and attrs.mode != "nearest":
            raise ValueError(f"mode {attrs.mode} interpolates real numbers, found {data.type}")
        axes = _axes(attrs, data.rank)
        if absent(scales) == absent(sizes):
            raise ValueError(
                "exactly one of scales and sizes is needed; found " + ("none" if absent(scales) else "both")
            )
        if attrs.coordinate_transformation == "tf_crop_and_resize":
            if roi is None:
                raise ValueError("tf_crop_and_resize needs the roi input")
            _check_length("roi", roi, 2 * len(axes))
        resized = self._resized(attrs, [data.shape[a] for a in axes], scales, sizes)
        shape = list(data.shape)
        for axis, size in zip(axes, resized, strict=True):
            shape[axis] = size
        return [data.like(shape)]

    def _resized(
        self,
        attrs: ResizeAttributes,
        originals: list[Dimension],
        scales: TensorInfo | None,
        sizes: TensorInfo | None,
    ) -> list[Dimension]:
        given = sizes if scales is None or absent(scales) else scales
        assert given is not None
        _check_length("sizes" if given is sizes else "scales", given, len(originals))
        if given.value is None:
            return [unknown() for _ in originals]
        values: list[Any] = list(given.value.reshape(-1))
        if given is sizes:
            return sizes_from(values, originals, attrs.keep_aspect)
        if any(not v > 0 for v in values):
            raise ValueError(f"scales are {values}, expected positive numbers")
        return [scaled_size(n, float(v)) for n, v in zip(originals, values, strict=True)]

    def reference(self, attrs: ResizeAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        data, roi, scales, sizes = _padded(arrays)
        assert data is not None
        axes = [a for a in _plan(attrs, data.shape, roi, scales, sizes) if not a.identity]
        coordinates = {a.axis: original_coordinates(a, attrs.coordinate_transformation) for a in axes}
        if attrs.mode == "nearest":
            result = data
            for axis in axes:
                picked = nearest_elements(coordinates[axis.axis], axis.size, attrs.nearest_rounding)
                result = np.take(result, picked, axis.axis)
        else:
            result = _interpolate(attrs, data, axes, coordinates)
        if attrs.coordinate_transformation == "tf_crop_and_resize":
            result = _extrapolate(result, axes, coordinates, attrs.extrapolation)
        return [result.copy() if result is data else result]

    def sample(
        self, attrs: ResizeAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        """Whole images (a full region of interest) at twice their size, unless the case gives scales or sizes."""
        image, *rest = types
        assert image is not None
        axes, shape = _axes(attrs, image.rank), image.concrete({})
        values = ([0.0] * len(axes) + [1.0] * len(axes), [2.0] * len(axes), [2.0 * shape[a] for a in axes])
        given = (None if t is None else np.array(v, t.numpy) for t, v in zip(rest, values, strict=False))
        return [draw(image, rng), *given]

    def cases(self) -> Iterable[Case]:
        image = TensorType((1, 3, 5, 4))
        up, down = np.array([1, 1, 2, 1.5], "f4"), np.array([1, 1, 0.6, 0.5], "f4")
        for mode in ("nearest", "linear", "cubic"):
            for name, scales in (("up", up), ("down", down)):
                yield Case(ResizeAttributes(mode), (image, None, scales), f"{mode} {name}")
        for transformation in ("half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"):
            attrs = ResizeAttributes("linear", transformation)
            yield Case(attrs, (image, None, None, np.array([1, 3, 7, 1])), transformation)
        for rounding in ("round_prefer_ceil", "floor", "ceil"):
            attrs = ResizeAttributes(nearest_rounding=rounding)
            yield Case(attrs, (image, None, up), rounding)
        crop = ResizeAttributes("linear", "tf_crop_and_resize", axes=(2, 3), extrapolation=10.0)
        roi = np.array([0.4, -0.2, 0.9, 1.2], "f4")
        yield Case(crop, (image, roi, None, np.array([4, 6])), "crop")
        yield Case(ResizeAttributes("cubic", exclude_outside=True), (image, None, up), "exclude outside")
        yield Case(ResizeAttributes("linear", antialias=True), (image, None, down), "linear antialias")
        yield Case(ResizeAttributes("cubic", antialias=True), (image, None, down), "cubic antialias")
        fitting = ResizeAttributes("linear", axes=(-2, -1), keep_aspect="not_larger")
        yield Case(fitting, (image, None, None, np.array([9, 9])), "keep aspect")
        yield Case(ResizeAttributes(), (TensorType((2, 3), "int8"), None, np.array([2, 2], "f4")), "int8")

    def reduction(self, attrs: ResizeAttributes, inputs: Sequence[TensorInfo | None]) -> Dimension:
        """Terms per element for two resized axes, the usual number."""
        return {"nearest": 1, "linear": 4, "cubic": 16}[attrs.mode]


def _plan(
    attrs: ResizeAttributes, shape: Sequence[int], roi: Array | None, scales: Array | None, sizes: Array | None
) -> list[ResizedAxis]:
    """Every axis to resize with its sizes, scale and region."""
    axes = _axes(attrs, len(shape))
    originals = [shape[a] for a in axes]
    if scales is not None and scales.size:
        factors = [float(s) for s in scales.reshape(-1)]
        resized = [floored(n, f) for n, f in zip(originals, factors, strict=True)]
    else:
        assert sizes is not None
        resized, factors = fitted([int(s) for s in sizes.reshape(-1)], originals, attrs.keep_aspect)
    region = [0.0] * len(axes) + [1.0] * len(axes)
    if attrs.coordinate_transformation == "tf_crop_and_resize" and roi is not None:
        region = [float(r) for r in roi.reshape(-1)]
    columns = zip(axes, originals, resized, factors, region[: len(axes)], region[len(axes) :], strict=True)
    return [ResizedAxis(*column) for column in columns]


def _interpolate(
    attrs: ResizeAttributes, data: Array, axes: Sequence[ResizedAxis], coordinates: dict[int, Any]
) -> Array:
    """Linear or cubic interpolation, one axis after another."""
    coefficient = None if attrs.mode == "linear" else attrs.cubic_coefficient
    result = data.astype(np.float64 if data.dtype == np.float64 else np.float32)
    for axis in axes:
        indices, weights = weighed_elements(
            axis,
            coordinates[axis.axis],
            coefficient,
            exclude_outside=attrs.exclude_outside,
            antialias=attrs.antialias,
        )
        result = _weighted_sum(result, axis.axis, indices, weights)
    return _to_type(result, data.dtype)


def _weighted_sum(values: Array, axis: int, indices: Array, weights: Array) -> Array:
    """Sum over taps, one tap at a time: temporary arrays stay as small as the result."""
    shape = [1] * values.ndim
    shape[axis] = -1
    total = np.zeros((*values.shape[:axis], len(indices), *values.shape[axis + 1 :]), values.dtype)
    for index, weight in zip(indices.T, weights.astype(values.dtype).T, strict=True):
        total += np.take(values, index, axis) * weight.reshape(shape)
    return total


def _to_type(values: Array, dtype: np.dtype[Any]) -> Array:
    if dtype.kind not in "iu":
        return values.astype(dtype)
    info = np.iinfo(dtype)
    return np.asarray(np.clip(np.trunc(values), info.min, info.max).astype(dtype))


def _extrapolate(values: Array, axes: Sequence[ResizedAxis], coordinates: dict[int, Any], fill: float) -> Array:
    """Put a value where the coordinate of any axis is outside the input."""
    values = values.copy()
    for axis in axes:
        where = coordinates[axis.axis]
        outside = (where < 0) | (where > axis.size - 1)
        values[(slice(None),) * axis.axis + (outside,)] = fill
    return values
