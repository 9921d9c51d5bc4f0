"""Which elements share a scale: the whole tensor, a slice of one axis, or a block of consecutive elements on it."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import Array, TensorInfo, is_float, normalize_axis, same

_INTEGERS = "int8 uint8 int16 uint16 int4 uint4 int2 uint2"
_FLOATS = "float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float4_e2m1fn"
QUANTIZED = frozenset(f"{_INTEGERS} {_FLOATS}".split())


def check_scale(tensor: TensorInfo, scale: TensorInfo, axis: int, block: int) -> None:
    """Refuse a scale whose shape fits none of the granularities."""
    if not is_float(scale.dtype):
        raise ValueError(f"scale is {scale.type}, expected real numbers")
    if block < 0:
        raise ValueError(f"block is {block}, expected 0 (no blocks) or a positive number of elements")
    if block:
        _check_blocked(tensor, scale, axis, block)
    elif scale.shape not in {(), (1,)}:
        if scale.rank != 1:
            raise ValueError(f"scale is {scale.type}, expected a scalar or one axis (set block for blocked scales)")
        same(tensor.shape[normalize_axis(axis, tensor.rank)], scale.shape[0], f"the scale of axis {axis} of the input")


def check_zero_point(scale: TensorInfo, zero_point: TensorInfo | None, dtype: str) -> None:
    """Refuse a zero point of another type, or that is shaped unlike the scale."""
    if zero_point is None:
        return
    if zero_point.dtype != dtype:
        raise ValueError(f"the zero point is {zero_point.dtype}, expected the quantized type {dtype}")
    if zero_point.rank != scale.rank:
        raise ValueError(f"the zero point is {zero_point.type}, expected the scale's shape, {scale.type}")
    for i, (expected, found) in enumerate(zip(scale.shape, zero_point.shape, strict=True)):
        same(expected, found, f"axis {i} of the zero point")


def _check_blocked(tensor: TensorInfo, scale: TensorInfo, axis: int, block: int) -> None:
    if scale.rank != tensor.rank:
        raise ValueError(f"a blocked scale must have the input's rank {tensor.rank}, found {scale.type}")
    blocked = normalize_axis(axis, tensor.rank)
    for i, (size, found) in enumerate(zip(tensor.shape, scale.shape, strict=True)):
        expected = (size + (block - 1)) // block if i == blocked else size
        same(expected, found, f"axis {i} of the scale" + (f", in blocks of {block}," if i == blocked else ""))


def spread(parameter: Array, shape: tuple[int, ...], axis: int, block: int) -> Array:
    """A scale or zero point shaped so that it broadcasts against a tensor of ``shape``."""
    if block:
        axis = normalize_axis(axis, len(shape))
        return np.repeat(parameter, block, axis)[(slice(None),) * axis + (slice(shape[axis]),)]
    if parameter.size == 1 and parameter.ndim <= 1:
        return parameter.reshape(())
    axis = normalize_axis(axis, len(shape))
    return parameter.reshape([-1 if i == axis else 1 for i in range(len(shape))])


def parameter_shape(shape: tuple[int, ...], granularity: str, axis: int, block: int) -> tuple[int, ...]:
    """The scale's shape for "tensor", "axis" or "block" granularity."""
    if granularity == "tensor":
        return ()
    if granularity == "axis":
        return (shape[axis],)
    return tuple(-(-n // block) if i == axis % len(shape) else n for i, n in enumerate(shape))
