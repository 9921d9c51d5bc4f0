"""Logical values to storage and back: the meaning of a `Format`, in NumPy.

A physical array has the format's axes in order, then one axis for each inner block. Seen with every block behind its
own axis, it is the logical array with blocked axes split and padded. Of two blocks of one axis the last one listed is
innermost and holds the lowest digit: oneDNN's ``OIhw4i16o4i`` has four consecutive inputs innermost.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from tenonrt.dims import Dimension, evaluate
from tenonrt.types import Array, Format, Shape, TensorType, numpy_dtype

Part = tuple[tuple[int, int, int], ...]  # (start, stop, step) per axis


def store(values: Array, format: Format, out: Array) -> None:
    """Write logical values, cast to the element type of ``out``, into a physical array of any strides; padding is zero.

    Nothing is allocated unless an axis has padding.
    """
    split = _split(out, format, values.ndim)
    padded = _padded_shape(split, format, values.ndim)
    if padded != values.shape:
        inner = values
        values = np.zeros(padded, values.dtype)
        values[tuple(slice(size) for size in inner.shape)] = inner
    np.copyto(split, values.reshape(split.shape), casting="unsafe")


def load(stored: Array, format: Format, shape: Sequence[int]) -> Array:
    """The values of a tensor of this logical shape, stored elements as they are; a view unless an axis is blocked."""
    split = _split(stored, format, len(shape))
    return split.reshape(_padded_shape(split, format, len(shape)))[tuple(slice(size) for size in shape)]


def to_storage(values: Array, type: TensorType, scale: Array | None = None) -> Array:
    """Physical array of a tensor: quantized or cast, blocked axes padded with zeros, axes in the format's order."""
    quantized = _quantize(values, type, scale)
    shape = type.reshape(values.shape).physical_shape
    physical = np.empty([evaluate(d, {}) for d in shape], type.numpy)
    store(quantized, type.format, physical)
    return physical


def from_storage(stored: Array, type: TensorType, scale: Array | None = None) -> Array:
    """Logical values (dtype of the type, padding dropped) of a physical array; ``type`` must be static."""
    return _dequantize(load(stored, type.format, type.concrete({})), type, scale)


def logical_shape(physical: Sequence[int], format: Format, known: Sequence[object]) -> tuple[int, ...]:
    """The logical shape of a physical one; a blocked axis takes its size from ``known``, where it must be an int."""
    order = format.order or tuple(range(len(known)))
    sizes = {axis: physical[position] for position, axis in enumerate(order)}
    for axis, _ in format.blocks:
        size = known[axis]
        if not isinstance(size, int):
            raise ValueError(f"axis {axis} is stored in blocks, so its size must be known; it is {size}")
        sizes[axis] = size
    return tuple(sizes[axis] for axis in range(len(known)))


def physical_part(part: Part, format: Format, shape: Shape) -> Part | None:
    """A slice of a tensor of this logical shape as a slice of its physical array; None where it would cut a block.

    Of a format with blocks only a slice along the blocked axes is one: what lies inside of them stays dense, as kernels
    for such formats take for granted. Elements of the innermost axis lie side by side in every format.
    """
    outer, blocked = list(part), {axis for axis, _ in format.blocks}
    if blocked and any(not _whole(p, shape[a]) for a, p in enumerate(part) if a not in blocked):
        return None
    for axis, size in format.blocks:
        start, stop, step = outer[axis]
        if _whole(part[axis], shape[axis]) and not isinstance(shape[axis], int):
            continue
        if step != 1 or start % size or (stop % size and stop != shape[axis]):
            return None
        outer[axis] = (start // size, -(-stop // size), 1)
    order = format.order or range(len(part))
    if not format.blocks and part and part[order[-1]][2] != 1:
        return None
    return (*(outer[axis] for axis in order), *((0, size, 1) for _, size in format.blocks))


def _whole(part: tuple[int, int, int], size: Dimension) -> bool:
    start, stop, step = part
    return start == 0 and step == 1 and (stop >= size if isinstance(size, int) else stop == sys.maxsize)


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


def _split(physical: Array, format: Format, rank: int) -> Array:
    """A view in logical order, each axis followed by its blocks, the one with the lowest digit last."""
    order = format.order or tuple(range(rank))
    axes: list[int] = []
    for axis in range(rank):
        axes.append(order.index(axis))
        axes += [rank + i for i, (blocked, _) in enumerate(format.blocks) if blocked == axis]
    return physical.transpose(axes)


def _padded_shape(split: Array, format: Format, rank: int) -> tuple[int, ...]:
    """The logical shape with block padding: the sizes of `_split`'s axes multiplied for each logical axis."""
    remaining = iter(split.shape)
    counts = [1 + sum(blocked == axis for blocked, _ in format.blocks) for axis in range(rank)]
    return tuple(prod(next(remaining) for _ in range(count)) for count in counts)


def _quantize(values: Array, type: TensorType, scale: Array | None) -> Array:
    if type.format.quant is None or scale is None:
        return values
    low, high = _limits(type.numpy)
    steps = values.astype(np.float64) / _along(scale, type)
    if "int" in type.numpy.name:
        steps = np.rint(steps)
    return np.clip(steps, low, high)


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

    find: Any = ml_dtypes.iinfo if "int" in dtype.name else ml_dtypes.finfo
    extended = find(dtype)
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
