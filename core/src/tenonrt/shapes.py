"""What layer types need to infer shapes: their operands, axes, broadcasting, and what is certain of symbolic sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any, TypeVar

import numpy as np

from tenonrt.dims import Dim, Dimension, maximum, minimum
from tenonrt.types import Place, Shape, TensorInfo, dtype_name, is_float

T = TypeVar("T")

# The element types that arithmetic layers take; narrower ones are storage for quantization.
FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def required(operands: Sequence[T | None], count: int) -> list[T]:
    """The first ``count`` operands, all of which must be there; `ValueError` names the one that is not."""
    for index in range(count):
        if index >= len(operands) or operands[index] is None:
            raise ValueError(f"input {index} is missing; {count} inputs are required")
    return [operand for operand in operands[:count] if operand is not None]


def optional(operands: Sequence[T | None], index: int) -> T | None:
    """The operand at ``index``, or None where it was left out."""
    return operands[index] if index < len(operands) else None


def normalize_axis(axis: int, rank: int) -> int:
    """The axis counted from zero; `ValueError` when a tensor of this rank has no such axis."""
    if not -rank <= axis < rank:
        raise ValueError(f"axis is {axis}, expected one of the {rank} axes")
    return axis % rank


def normalize_axes(axes: Iterable[int], rank: int) -> tuple[int, ...]:
    """The axes counted from zero, in the order given; `ValueError` for one out of range or given twice."""
    axes = tuple(axes)
    result = tuple(normalize_axis(axis, rank) for axis in axes)
    if len(set(result)) != len(result):
        raise ValueError(f"axes {list(axes)} name an axis of a tensor of rank {rank} twice")
    return result


def surely_less(left: Dimension, right: Dimension) -> bool:
    """Whether left < right for every value of the symbols."""
    try:
        return left < right
    except ValueError:  # the symbols' ranges allow both
        return False


def differ(left: Dimension, right: Dimension) -> bool:
    """Whether two dimensions are unequal for every value of the symbols."""
    return surely_less(left, right) or surely_less(right, left)


def same(expected: Dimension, found: Dimension, what: str) -> Dimension:
    """The dimension that both are: of an integer and a symbol the integer, which the core checks when it runs.

    `ValueError` says ``what`` it is about when they surely differ.
    """
    if differ(expected, found):
        raise ValueError(f"{what} is {found}, expected {expected}")
    return found if isinstance(found, int) else expected


def broadcast(*shapes: Sequence[Dimension]) -> Shape:
    """The shape that all broadcast to as in NumPy; `ValueError` names the shapes and the axis that surely disagree.

    An integer other than one wins over a symbol, which can only equal it or be one: the core checks which when it runs.
    """
    result: Shape = ()
    for shape in shapes:
        pairs = zip_longest(reversed(result), reversed(shape), fillvalue=1)
        joined = [_broadcast_size(a, b, axis, shapes) for axis, (a, b) in enumerate(pairs)]
        result = tuple(reversed(joined))
    return result


def broadcasts_to(shape: Sequence[Dimension], target: Sequence[Dimension]) -> bool:
    """Whether a shape may broadcast to the target without enlarging it."""
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and not any(differ(d, 1) and differ(d, t) for d, t in pairs)


def common_place(inputs: Sequence[TensorInfo]) -> Place:
    """The host when everything is there or known already (shape arithmetic), else the device."""
    hosted = any(i.place == "host" for i in inputs)
    return "host" if hosted and all(i.place == "host" or i.value is not None for i in inputs) else "device"


def vector_length(info: TensorInfo, what: str) -> int:
    """How many elements a shape input has; `ValueError` unless it is an integer vector of static length."""
    if info.rank != 1 or isinstance(info.shape[0], Dim) or info.dtype not in {"int32", "int64"}:
        raise ValueError(f"{what} must be a vector of int32 or int64 with a static length, found {info.type}")
    return info.shape[0]


def known_values(info: TensorInfo) -> list[Dimension] | None:
    """The elements of a shape input, integers and symbolic dimensions, where they are known."""
    if info.value is None:
        return None
    return [v if isinstance(v, Dim) else int(v) for v in info.value.reshape(-1)]


def working_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that references compute in: float32 for narrower floats (exp overflows float16 early), else the same."""
    return np.dtype(np.float32) if is_float(dtype_name(dtype)) and dtype.itemsize < 4 else dtype


def _broadcast_size(a: Dimension, b: Dimension, axis: int, shapes: Sequence[Sequence[Dimension]]) -> Dimension:
    if a in {b, 1}:
        return b
    if b == 1:
        return a
    if differ(a, b) and differ(a, 1) and differ(b, 1):
        texts = ["x".join(map(str, shape)) or "scalar" for shape in shapes]
        raise ValueError(f"shapes {' and '.join(texts)} do not broadcast: axis {-1 - axis} has {a} and {b}")
    if isinstance(a, int) or isinstance(b, int):
        return a if isinstance(a, int) else b
    # The longer one, unless that is a one beside a zero.
    return maximum(a, b) * minimum(minimum(a, b), 1)
