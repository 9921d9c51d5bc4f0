"""Between the logical values of a tensor and their layout in memory, for any `Format`.

A physical array has the format's axes in order, then one axis for each inner block. Seen with every block behind its
own axis, it is the logical array with blocked axes split and padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from tenonrt.contracts import Array, Format


def to_logical(physical: Array, storage: Format, shape: Sequence[int]) -> Array:
    """The values of a tensor of this logical shape, stored elements as they are; a view unless an axis is blocked."""
    split = _split(physical, storage, len(shape))
    padded = [prod(sizes) for sizes in _grouped(split.shape, storage, len(shape))]
    return split.reshape(padded)[tuple(slice(size) for size in shape)]


def from_logical(values: Array, storage: Format, physical: Array) -> None:
    """Store logical values (cast to the physical element type), zeros in the padding of blocks."""
    split = _split(physical, storage, values.ndim)
    padded = tuple(prod(sizes) for sizes in _grouped(split.shape, storage, values.ndim))
    if padded != values.shape:
        inner = values
        values = np.zeros(padded, values.dtype)
        values[tuple(slice(size) for size in inner.shape)] = inner
    np.copyto(split, values.reshape(split.shape), casting="unsafe")


def logical_shape(physical: Sequence[int], storage: Format, known: Sequence[object]) -> tuple[int, ...]:
    """The logical shape of a physical one; a blocked axis takes its size from ``known``, where it must be an int."""
    order = storage.order or tuple(range(len(known)))
    sizes = {axis: physical[position] for position, axis in enumerate(order)}
    for axis, _ in storage.blocks:
        size = known[axis]
        if not isinstance(size, int):
            raise ValueError(f"axis {axis} is stored in blocks, so its size must be known; it is {size}")
        sizes[axis] = size
    return tuple(sizes[axis] for axis in range(len(known)))


def refusal(storage: Format, rank: int) -> str:
    """Why a format does not describe tensors of this rank; empty when it does."""
    if storage.order and sorted(storage.order) != list(range(rank)):
        return f"format {storage} orders {len(storage.order)} axes, the tensor has {rank}"
    if any(not 0 <= axis < rank or size < 1 for axis, size in storage.blocks):
        return f"format {storage} has a block outside of the tensor's {rank} axes"
    return ""


def _split(physical: Array, storage: Format, rank: int) -> Array:
    """A view in logical order, each axis followed by its blocks."""
    order = storage.order or tuple(range(rank))
    axes: list[int] = []
    for axis in range(rank):
        axes.append(order.index(axis))
        axes += [rank + i for i, (blocked, _) in enumerate(storage.blocks) if blocked == axis]
    return physical.transpose(axes)


def _grouped(sizes: Sequence[int], storage: Format, rank: int) -> list[list[int]]:
    """The sizes of `_split`'s axes, together for each logical axis."""
    remaining = iter(sizes)
    counts = [1 + sum(blocked == axis for blocked, _ in storage.blocks) for axis in range(rank)]
    return [[next(remaining) for _ in range(count)] for count in counts]
