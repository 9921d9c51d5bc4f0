"""Logical values to storage and back: the meaning of a `Format`, in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tenonrt.types import Array, Format, TensorType, numpy_dtype


def to_storage(values: Array, type: TensorType, scale: Array | None = None) -> Array:
    """Physical array of a tensor: quantized or cast, blocked axes padded with zeros, axes in the format's order."""
    stored = _quantize(values, type, scale)
    layout = type.format
    for axis in {axis for axis, _ in layout.blocks}:
        stored = _pad(stored, axis, math.prod(size for other, size in layout.blocks if other == axis))
    physical = _split(stored, layout).transpose(_axes(layout, type.rank))
    return np.ascontiguousarray(physical).reshape(physical.shape)  # ascontiguousarray makes rank 0 into rank 1


def from_storage(stored: Array, type: TensorType, scale: Array | None = None) -> Array:
    """Logical values (dtype of the type, padding dropped) of a physical array; ``type`` must be static."""
    layout, shape = type.format, type.concrete({})
    axes = _axes(layout, type.rank)
    split = stored.transpose(np.argsort(axes))
    blocked = _merge(split, layout, type.rank)
    values = blocked[tuple(slice(0, n) for n in shape)]
    return _dequantize(values, type, scale)


ALIGNMENT = 64


def aligned(array: Array) -> Array:
    """The array itself when its bytes start at a multiple of 64, else a copy whose bytes do."""
    if array.ctypes.data % ALIGNMENT == 0 or array.dtype.hasobject or not array.size:
        return array
    raw = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    copy: Array = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _axes(layout: Format, rank: int) -> list[int]:
    """Where each physical axis is found in the array whose blocked axes were split in two (outer, then all inners)."""
    order = list(layout.order or range(rank))
    return order + list(range(rank, rank + len(layout.blocks)))


def _split(values: Array, layout: Format) -> Array:
    """Each blocked axis becomes its block count; the positions inside blocks become trailing axes."""
    rank = values.ndim
    for axis, size in layout.blocks:
        shape = [*values.shape[:axis], values.shape[axis] // size, size, *values.shape[axis + 1 :]]
        values = np.moveaxis(values.reshape(shape), axis + 1, -1)
    assert values.ndim == rank + len(layout.blocks)
    return values


def _merge(values: Array, layout: Format, rank: int) -> Array:
    for axis, size in reversed(layout.blocks):
        moved = np.moveaxis(values, -1, axis + 1)
        values = moved.reshape(*moved.shape[:axis], moved.shape[axis] * size, *moved.shape[axis + 2 :])
    assert values.ndim == rank
    return values


def _pad(values: Array, axis: int, size: int) -> Array:
    missing = -values.shape[axis] % size
    if not missing:
        return values
    return np.pad(values, [(0, missing if i == axis else 0) for i in range(values.ndim)])


def _quantize(values: Array, type: TensorType, scale: Array | None) -> Array:
    target = type.numpy
    if type.format.quant is None or scale is None:
        return values.astype(target, copy=False)
    low, high = _limits(target)
    steps = values.astype(np.float64) / _along(scale, type)
    if "int" in target.name:
        steps = np.rint(steps)
    return np.clip(steps, low, high).astype(target)


def _dequantize(values: Array, type: TensorType, scale: Array | None) -> Array:
    dtype = numpy_dtype(type.dtype)
    if type.format.quant is None or scale is None:
        return values.astype(dtype, copy=False)
    return (values.astype(np.float64) * _along(scale, type)).astype(dtype)


def _limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """The least and the greatest stored step."""
    if dtype.kind in "iu":
        plain = np.iinfo(dtype)
        return plain.min, plain.max
    import ml_dtypes

    limits: Any = ml_dtypes.iinfo if "int" in dtype.name else ml_dtypes.finfo
    extended = limits(dtype)
    return float(extended.min), float(extended.max)


def _along(scale: Array, type: TensorType) -> Array:
    """The scale shaped to broadcast over the values: one, one an index of the axis, or one a block of the axis."""
    quant, wide = type.format.quant, np.asarray(scale, np.float64)
    if quant is None or quant.axis is None:
        return wide
    if wide.ndim != type.rank:
        wide = wide.reshape([-1 if i == quant.axis else 1 for i in range(type.rank)])
    if quant.block is None:
        return wide
    return np.repeat(wide, quant.block, axis=quant.axis).take(range(type.concrete({})[quant.axis]), axis=quant.axis)
