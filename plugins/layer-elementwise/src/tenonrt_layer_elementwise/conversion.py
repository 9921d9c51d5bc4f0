"""Conversion between element types, by the tables of the ONNX operator Cast."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from tenonrt.contracts import Array, Dim, dtype_name, is_float, numpy_dtype

from tenonrt_layer_elementwise.operations import narrowed
from tenonrt_layer_elementwise.symbolic import as_bool

# The largest finite value of the narrow floats (ONNX and OCP specifications).
LARGEST = {
    "float8_e4m3fn": 448.0,
    "float8_e4m3fnuz": 240.0,
    "float8_e5m2": 57344.0,
    "float8_e5m2fnuz": 57344.0,
    "float4_e2m1fn": 6.0,
}


def convert(x: Array, to: str, *, saturate: bool = True) -> Array:
    """x (numbers, booleans, or strings as objects) in the element type ``to``."""
    if x.dtype == object:
        return x if to == "string" else _parsed(x, to)
    if to == "string":
        return _texts(x)
    with np.errstate(all="ignore"):
        if to in LARGEST or to == "float8_e8m0fnu":
            return _narrow_float(x, to, saturate=saturate)
        if to in {"int2", "int4", "uint2", "uint4"}:
            return narrowed(x.astype(np.int64), numpy_dtype(to))
        if to == "bool":
            return np.asarray(x != np.zeros((), x.dtype))
        return x.astype(numpy_dtype(to))


def convert_known(x: Array, to: str) -> Array:
    """An object array of Python scalars and symbolic dimensions; an object array of what ``to`` holds."""
    return np.asarray(np.frompyfunc(partial(_scalar, to=to), 1, 1)(x), dtype=object)


def _scalar(value: Any, to: str) -> Any:
    if to == "bool":
        return as_bool(value)
    if to.startswith(("int", "uint")):
        return value if isinstance(value, Dim) else int(value)
    if isinstance(value, Dim):
        raise ValueError(f"the symbolic dimension {value} cannot be converted to {to}")
    return _text(value, 17) if to == "string" else float(numpy_dtype(to).type(value))


def _parsed(x: Array, to: str) -> Array:
    try:
        if to.startswith(("int", "uint")):
            return narrowed(np.array([_integer(v) for v in x.flat], np.int64).reshape(x.shape), numpy_dtype(to))
        return convert(np.array([float(v) for v in x.flat], np.float64).reshape(x.shape), to)
    except ValueError as error:
        raise ValueError(f"a string cannot be converted to {to}: {error}") from error


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return int(float(text))  # "100.5" and "1e3" may be written where an integer is wanted


def _texts(x: Array) -> Array:
    digits = 17 if x.dtype == np.float64 else 8  # as ONNX Runtime writes them
    texts = [_text(v, digits) for v in (x.astype(np.float64) if is_float(dtype_name(x.dtype)) else x).flat]
    result = np.empty(x.size, object)
    result[:] = texts
    return result.reshape(x.shape)


def _text(value: Any, digits: int) -> str:
    if isinstance(value, (float, np.floating)):
        if np.isfinite(value):
            return f"{value:.{digits}g}"
        return "NaN" if np.isnan(value) else "INF" if value > 0 else "-INF"
    return str(int(value))


def _narrow_float(x: Array, to: str, *, saturate: bool) -> Array:
    wide = x if x.dtype in {np.dtype(np.float32), np.dtype(np.float64)} else x.astype(np.float32)
    if to == "float8_e8m0fnu":
        return _powers_of_two(wide, saturate=saturate)
    if saturate or to == "float4_e2m1fn":
        wide = np.asarray(np.clip(wide, -LARGEST[to], LARGEST[to]))
    return wide.astype(numpy_dtype(to))


def _powers_of_two(x: Array, *, saturate: bool) -> Array:
    """Exponents only: rounded up, and kept in range when saturating; otherwise rounded to nearest, out of range NaN."""
    fraction, exponent = np.frexp(x)
    threshold = 0.5 if saturate else 0.75 - np.finfo(x.dtype).epsneg  # nearest: ties round up
    power = exponent - 1 + (fraction > threshold)
    power = np.where(x == 0, -127, np.where(np.isinf(x), 127, power)) if saturate else power
    outside = np.isnan(x) | ((x <= 0) | np.isinf(x) | (power < -127) | (power > 127)) & (not saturate)
    stored = np.where(outside, 255, np.clip(power, -127, 127) + 127).astype(np.uint8)
    return stored.view(numpy_dtype("float8_e8m0fnu"))
