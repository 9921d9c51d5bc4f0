"""The binary operations: which element types they take, and what they compute on arrays of numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from tenonrt.contracts import Array, dtype_name, is_float, working_dtype

Compute = Callable[[Array, Array], Any]
NUMBERS = frozenset({"integer", "float", "complex"})
REALS = frozenset({"integer", "float"})
INTEGERS = frozenset({"integer"})
ANY = frozenset({"integer", "float", "complex", "bool", "string"})


class Operation(NamedTuple):
    """A binary operation. kinds: of element types (see `kind_of`); mixed: whether the second may have another type."""

    compute: Compute
    kinds: frozenset[str]
    boolean: bool = False  # the result is bool instead of the first input's type
    mixed: bool = False


def kind_of(dtype: str) -> str:
    """Class of an element type: integer, float, complex, bool or string."""
    if is_float(dtype):
        return "float"
    return "integer" if dtype.startswith(("int", "uint")) else dtype.rstrip("0123456789")


def divide(a: Array, b: Array) -> Any:
    """a / b; integers truncate toward zero."""
    if is_float(dtype_name(a.dtype)) or a.dtype.kind == "c":
        return a / b
    quotient = a // b
    inexact = quotient * b != a
    return quotient + (inexact & ((a < 0) != (b < 0))).astype(quotient.dtype)


def power(a: Array, b: Array) -> Any:
    """a ** b in a's dtype; a fraction (integer to a negative power) truncates."""
    if a.dtype.kind in "iu" and (b.dtype.kind not in "iu" or (b < 0).any()):
        return np.power(a.astype(np.float64), b).astype(a.dtype)
    return np.power(a, b).astype(a.dtype)


def shift(ufunc: np.ufunc) -> Compute:
    """A shift in the first operand's dtype; amounts of the width and more shift everything out."""
    return lambda a, b: ufunc(a, np.minimum(b, a.dtype.itemsize * 8).astype(a.dtype))


OPERATIONS: dict[str, Operation] = {
    "sum": Operation(np.add, NUMBERS),
    "prod": Operation(np.multiply, NUMBERS),
    "max": Operation(np.maximum, REALS),
    "min": Operation(np.minimum, REALS),
    "sub": Operation(np.subtract, NUMBERS),
    "div": Operation(divide, NUMBERS),
    "pow": Operation(power, NUMBERS, mixed=True),
    "floor_div": Operation(np.floor_divide, REALS),
    "mod": Operation(np.mod, REALS),
    "fmod": Operation(np.fmod, REALS),
    "equal": Operation(np.equal, ANY, boolean=True),
    "greater": Operation(np.greater, REALS, boolean=True),
    "greater_equal": Operation(np.greater_equal, REALS, boolean=True),
    "less": Operation(np.less, REALS, boolean=True),
    "less_equal": Operation(np.less_equal, REALS, boolean=True),
    "and": Operation(np.logical_and, frozenset({"bool"}), boolean=True),
    "or": Operation(np.logical_or, frozenset({"bool"}), boolean=True),
    "xor": Operation(np.logical_xor, frozenset({"bool"}), boolean=True),
    "bitwise_and": Operation(np.bitwise_and, INTEGERS),
    "bitwise_or": Operation(np.bitwise_or, INTEGERS),
    "bitwise_xor": Operation(np.bitwise_xor, INTEGERS),
    "shift_left": Operation(shift(np.left_shift), INTEGERS, mixed=True),
    "shift_right": Operation(shift(np.right_shift), INTEGERS, mixed=True),
}


def widened(x: Array) -> Array:
    """x in a type NumPy computes in: floats narrower than float32 as float32, 2- and 4-bit integers as 8-bit ones."""
    name = dtype_name(x.dtype)
    if name in {"int2", "int4", "uint2", "uint4"}:
        return x.astype(name.rstrip("24") + "8")
    return x.astype(working_dtype(x.dtype), copy=False)


def narrowed(x: Any, dtype: np.dtype[Any]) -> Array:
    """Back to the tensor's element type; 2- and 4-bit integers wrap around."""
    if dtype_name(dtype) in {"int2", "int4", "uint2", "uint4"}:
        bits = int(dtype_name(dtype)[-1])
        x = np.asarray(x) & (2**bits - 1)
        x = x - (x >> (bits - 1) << bits) if dtype_name(dtype).startswith("int") else x
    return np.asarray(x).astype(dtype, copy=False)
