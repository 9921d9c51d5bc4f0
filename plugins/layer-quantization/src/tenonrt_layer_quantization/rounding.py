"""Real numbers to a quantized element type."""

from __future__ import annotations

from typing import Any

import numpy as np
from tenonrt.contracts import Array, is_float, numpy_dtype


def wide(*arrays: Array) -> np.dtype[np.float32] | np.dtype[np.float64]:
    """The type to compute in: float64 where an operand is, else float32, which holds every narrower type exactly."""
    return np.dtype(np.float64) if any(a.dtype == np.float64 for a in arrays) else np.dtype(np.float32)


def limits(dtype: str) -> tuple[float, float]:
    """The least and the greatest finite value of a quantized type."""
    import ml_dtypes

    kind = numpy_dtype(dtype)
    find: Any = ml_dtypes.finfo if is_float(dtype) else ml_dtypes.iinfo
    bounds = find(kind)
    return float(bounds.min), float(bounds.max)


def round_to(values: Array, dtype: str, saturate: bool) -> Array:
    """Nearest values of a quantized type, half to even.

    Integers saturate, and a NaN, which ONNX leaves open, becomes 0. Of the float types, float8 saturates when asked to,
    infinities included, and otherwise overflows as the type does (to an infinity or NaN); float4 always saturates.
    """
    lower, upper = limits(dtype)
    if not is_float(dtype):
        rounded = np.clip(np.nan_to_num(np.rint(values), nan=0.0, posinf=upper, neginf=lower), lower, upper)
        return np.asarray(rounded.astype(np.int32).astype(numpy_dtype(dtype)))
    if saturate or dtype.startswith("float4"):
        values = np.clip(values, lower, upper)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values.astype(numpy_dtype(dtype)))
