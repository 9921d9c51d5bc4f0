"""The operations on what shape arithmetic holds: Python scalars, and dimensions known only as symbols.

Symbols stand for integers. Where no integer or `Dim` can express a result, `ValueError` says so (its subclass
`UndecidedError` when a comparison depends on the symbols' values), and the result is simply not known while inferring.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from tenonrt.contracts import Array, Dim, maximum, minimum, product

Scalar = Any  # int, float, bool, str or Dim


def compute(operation: str, a: Array, b: Array) -> Array:
    """A binary operation on object arrays, broadcasting; an object array."""
    return _mapped(BINARY[operation], operation, a, b)


def compute_unary(operation: str, x: Array, otherwise: Callable[[Array], Any]) -> Array:
    """A unary operation on an object array; ``otherwise`` computes those that only make sense for floats."""

    def one(a: Scalar) -> Scalar:
        if isinstance(a, Dim):
            raise ValueError(f"{operation} of the symbolic dimension {a} is no dimension")
        return np.asarray(otherwise(np.asarray(a))).item()

    return _mapped(UNARY.get(operation, one), operation, x)


def as_bool(a: Scalar) -> bool:
    """Whether a scalar is not zero."""
    return not equal(a, 0) if isinstance(a, Dim) else bool(a)


def equal(a: Scalar, b: Scalar) -> bool:
    """Equality of the values, not of the expressions: `UndecidedError` when the symbols allow both answers."""
    if not (isinstance(a, Dim) or isinstance(b, Dim)):
        return bool(a == b)
    return bool(a >= b and a <= b)


def truncated_quotient(a: Scalar, b: Scalar) -> Scalar:
    """a / b; integers truncate toward zero, as division does in ONNX."""
    if isinstance(a, float) or isinstance(b, float):
        return float(np.divide(a, b))
    if not (isinstance(a, Dim) or isinstance(b, Dim)):
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    if b < 0:
        return truncated_quotient(-a, -b)
    positive = maximum(a, 0)
    return a // b if positive == a else positive // b - maximum(-a, 0) // b


def _mapped(function: Callable[..., Scalar], operation: str, *arrays: Array) -> Array:
    def one(*scalars: Scalar) -> Scalar:
        if any(isinstance(s, Dim) for s in scalars) and any(isinstance(s, (float, str)) for s in scalars):
            raise ValueError(f"{operation} mixes a symbolic dimension with {[str(s) for s in scalars]}")
        return function(*scalars)

    with np.errstate(all="ignore"):
        return np.asarray(np.frompyfunc(one, len(arrays), 1)(*arrays), dtype=object)


def _floor_quotient(a: Scalar, b: Scalar) -> Scalar:
    symbolic = isinstance(a, Dim) or isinstance(b, Dim)
    return -a // -b if symbolic and b < 0 else a // b


def _remainder(a: Scalar, b: Scalar) -> Scalar:
    return a - _floor_quotient(a, b) * b if isinstance(a, Dim) or isinstance(b, Dim) else a % b


def _truncated_remainder(a: Scalar, b: Scalar) -> Scalar:
    if isinstance(a, float) or isinstance(b, float):
        return float(np.fmod(a, b))
    return a - truncated_quotient(a, b) * b


def _power(a: Scalar, b: Scalar) -> Scalar:
    if isinstance(b, Dim) or (isinstance(a, Dim) and b < 0):
        raise ValueError(f"{a} to the power {b} is no dimension")
    if isinstance(a, Dim):
        return product([a] * b)
    return int(float(a) ** b) if isinstance(a, int) and (b < 0 or isinstance(b, float)) else a**b


def _larger(a: Scalar, b: Scalar) -> Scalar:
    return float(np.maximum(a, b)) if isinstance(a, float) else maximum(a, b)


def _smaller(a: Scalar, b: Scalar) -> Scalar:
    return float(np.minimum(a, b)) if isinstance(a, float) else minimum(a, b)


def _integers_only(function: Callable[[Any, Any], Any]) -> Callable[[Scalar, Scalar], Scalar]:
    def apply(a: Scalar, b: Scalar) -> Scalar:
        if isinstance(a, Dim) or isinstance(b, Dim):
            raise ValueError(f"the bits of a symbolic dimension are not known: {a}, {b}")
        return function(a, b)

    return apply


def _absolute(a: Scalar) -> Scalar:
    return maximum(a, -a) if isinstance(a, Dim) else abs(a)


def _sign(a: Scalar) -> Scalar:
    return float(np.sign(a)) if isinstance(a, float) else int(a > 0) - int(a < 0)


def _rounded(function: Callable[[Any], Any]) -> Callable[[Scalar], Scalar]:
    return lambda a: float(function(a)) if isinstance(a, float) else a


BINARY: dict[str, Callable[[Scalar, Scalar], Scalar]] = {
    "sum": operator.add,
    "prod": operator.mul,
    "max": _larger,
    "min": _smaller,
    "sub": operator.sub,
    "div": truncated_quotient,
    "pow": _power,
    "floor_div": _floor_quotient,
    "mod": _remainder,
    "fmod": _truncated_remainder,
    "equal": equal,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "less": operator.lt,
    "less_equal": operator.le,
    "and": lambda a, b: bool(a) and bool(b),
    "or": lambda a, b: bool(a) or bool(b),
    "xor": lambda a, b: bool(a) != bool(b),
    "bitwise_and": _integers_only(operator.and_),
    "bitwise_or": _integers_only(operator.or_),
    "bitwise_xor": _integers_only(operator.xor),
    "shift_left": _integers_only(operator.lshift),
    "shift_right": _integers_only(operator.rshift),
}

UNARY: dict[str, Callable[[Scalar], Scalar]] = {
    "abs": _absolute,
    "neg": operator.neg,
    "sign": _sign,
    "ceil": _rounded(np.ceil),
    "floor": _rounded(np.floor),
    "round": _rounded(np.rint),
    "not": lambda a: not a,
    "bitwise_not": lambda a: -a - 1,
}
