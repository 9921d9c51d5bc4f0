"""Checks and rules on the operands of matrix products."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import Dimension, TensorInfo, dtype_name, maximum, minimum

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def check_types(**operands: TensorInfo | None) -> None:
    """`ValueError` unless all operands have the first one's element type, and it is a number."""
    given = {name: info for name, info in operands.items() if info is not None}
    first, expected = next((name, info.dtype) for name, info in given.items())
    for name, info in given.items():
        if info.dtype not in FLOATS + INTEGERS:
            raise ValueError(f"{name} is {info.type}, expected one of {', '.join(FLOATS + INTEGERS)}")
        if info.dtype != expected:
            raise ValueError(f"{name} is {info.type}, expected the element type of {first}, {expected}")


def broadcast(left: Dimension, right: Dimension) -> Dimension:
    """The size of an axis that is as long in both operands, or 1 in one of them; `ValueError` when it cannot be."""
    if right in (left, 1):
        return left
    if left == 1:
        return right
    if differ(left, right) and differ(left, 1) and differ(right, 1):
        raise ValueError(f"sizes {left} and {right} do not broadcast: expected equal sizes, or 1 in one of them")
    if isinstance(left, int):
        return left
    if isinstance(right, int):
        return right
    # The longer one, unless that is a 1 beside a 0.
    return maximum(left, right) * minimum(minimum(left, right), 1)


def differ(left: Dimension, right: Dimension) -> bool:
    """Whether two dimensions are unequal for every value of the symbols."""
    try:
        return left != right and (left < right or left > right)
    except ValueError:  # the symbols' ranges allow both
        return False


def working_dtype(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """The type sums are kept in: float32 for narrower floats, else the type itself."""
    return np.dtype(np.float32) if dtype_name(dtype) in {"float16", "bfloat16"} else dtype
