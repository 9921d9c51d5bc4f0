"""The reductions, on arrays of numbers and on what shape arithmetic holds."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import add, mul
from typing import Any

import numpy as np
from tenonrt.contracts import Array, dtype_name, is_float, maximum, minimum, working_dtype

Axes = tuple[int, ...]


def reduced(operation: str, x: Array, axes: Axes, *, keep_dims: bool) -> Array:
    """x reduced along axes, in x's dtype: narrow floats through float32, roots and logarithms of integers truncated."""
    if x.dtype == object:
        return _symbolic(operation, x, axes, keep_dims=keep_dims)
    real = is_float(dtype_name(x.dtype))
    wide = x.astype(working_dtype(x.dtype), copy=False)
    if not real and operation in {"l2", "log_sum", "log_sum_exp"}:
        wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        result = OPERATIONS[operation](wide, axes, keep_dims)
        return np.asarray(result).astype(x.dtype, copy=False)


def _sum(x: Array, axes: Axes, keep: bool) -> Any:
    return np.sum(x, axes, dtype=x.dtype, keepdims=keep)


def _product(x: Array, axes: Axes, keep: bool) -> Any:
    return np.prod(x, axes, dtype=x.dtype, keepdims=keep)


def _limit(x: Array, *, upper: bool) -> Any:
    if x.dtype.kind == "b":
        return upper
    if x.dtype.kind in "iu":
        return np.iinfo(x.dtype).max if upper else np.iinfo(x.dtype).min
    return np.inf if upper else -np.inf


def _max(x: Array, axes: Axes, keep: bool) -> Any:
    return np.max(x, axes, keepdims=keep, initial=_limit(x, upper=False))


def _min(x: Array, axes: Axes, keep: bool) -> Any:
    return np.min(x, axes, keepdims=keep, initial=_limit(x, upper=True))


def _mean(x: Array, axes: Axes, keep: bool) -> Any:
    total = _sum(x, axes, keep)
    count = int(np.prod([x.shape[axis] for axis in axes], dtype=np.int64))
    if x.dtype.kind not in "iu":
        return total / np.asarray(count, x.dtype)
    if count == 0:
        raise ValueError("the mean of no integers is undefined")
    return np.sign(total) * (np.abs(total) // np.asarray(count, x.dtype))


def _l1(x: Array, axes: Axes, keep: bool) -> Any:
    return _sum(np.asarray(np.abs(x)), axes, keep)


def _l2(x: Array, axes: Axes, keep: bool) -> Any:
    return np.sqrt(_sum(x * x, axes, keep))


def _log_sum(x: Array, axes: Axes, keep: bool) -> Any:
    return np.log(_sum(x, axes, keep))


def _log_sum_exp(x: Array, axes: Axes, keep: bool) -> Any:
    """log(sum(exp(x - m))) + m with the largest value m, which cannot overflow."""
    largest = np.asarray(np.max(x, axes, keepdims=True, initial=-np.inf))
    largest = np.where(np.isfinite(largest), largest, np.zeros((), x.dtype))
    result = np.log(_sum(np.asarray(np.exp(x - largest)), axes, True)) + largest
    return result if keep else np.squeeze(result, axes)


def _sum_square(x: Array, axes: Axes, keep: bool) -> Any:
    return _sum(np.asarray(x * x), axes, keep)


OPERATIONS: dict[str, Callable[[Array, Axes, bool], Any]] = {
    "sum": _sum,
    "prod": _product,
    "max": _max,
    "min": _min,
    "mean": _mean,
    "l1": _l1,
    "l2": _l2,
    "log_sum": _log_sum,
    "log_sum_exp": _log_sum_exp,
    "sum_square": _sum_square,
}


JOINS: dict[str, Callable[[Any, Any], Any]] = {"sum": add, "prod": mul, "max": maximum, "min": minimum}
NEUTRAL = {"sum": [0], "prod": [1]}


def _symbolic(operation: str, x: Array, axes: Axes, *, keep_dims: bool) -> Array:
    """Sums, products and extremes of Python scalars and symbolic dimensions."""
    if operation not in JOINS:
        raise ValueError(f"{operation} of symbolic dimensions is no dimension; only {', '.join(JOINS)} are")
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    shape = [1 if axis in axes else d for axis, d in enumerate(x.shape) if keep_dims or axis not in axes]
    rows = x.transpose([*kept, *axes])
    result = np.empty([x.shape[axis] for axis in kept], object)
    for index in np.ndindex(result.shape):
        terms = [*NEUTRAL.get(operation, []), *np.asarray(rows[index], dtype=object).flat]
        if not terms:
            raise ValueError(f"the {operation} of no dimensions is no dimension")
        result[index] = reduce(JOINS[operation], terms)
    return result.reshape(shape)
