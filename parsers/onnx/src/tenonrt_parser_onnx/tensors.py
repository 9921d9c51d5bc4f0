"""``TensorProto`` to NumPy: every place where the format keeps elements, checked before anything is allocated."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

import numpy as np
from tenonrt.contracts import Array, ParseError, numpy_dtype

from tenonrt_parser_onnx.dtypes import BITS, dtype_named
from tenonrt_parser_onnx.external import ExternalFiles
from tenonrt_parser_onnx.text import text

if TYPE_CHECKING:
    from onnx import TensorProto

MAX_RANK = 32  # of NumPy 1; NumPy 2 has 64
MAX_BYTES = 2**62
_EXTERNAL = 1  # TensorProto.DataLocation
_TYPED = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
_WIDE = {"float32": "float_data", "complex64": "float_data", "float64": "double_data", "complex128": "double_data",
         "int64": "int64_data", "uint64": "uint64_data", "uint32": "uint64_data", "string": "string_data"}  # fmt: skip


def read_tensor(tensor: TensorProto, files: ExternalFiles) -> Array:
    """The values, perhaps a read-only view of the file; `ParseError` without the tensor's name."""
    dtype = dtype_named(tensor.data_type)
    shape = _shape(tensor)
    if tensor.HasField("segment"):
        raise ParseError("is stored in segments, which nothing writes; save the model again as a whole")
    count = math.prod(shape)
    if dtype == "string":
        return _strings(tensor, shape)
    if tensor.data_location == _EXTERNAL:
        entries = {text(e.key, "an external_data key"): text(e.value, "external_data") for e in tensor.external_data}
        return _from_bytes(files.read(entries, _nbytes(count, dtype)), dtype, shape)
    if tensor.HasField("raw_data"):
        return _from_raw(tensor, dtype, shape)
    return _from_typed(tensor, dtype, shape)


def _shape(tensor: TensorProto) -> tuple[int, ...]:
    shape = tuple(tensor.dims)
    if len(shape) > MAX_RANK:
        raise ParseError(f"has {len(shape)} dims, more than the {MAX_RANK} that NumPy allows")
    if any(d < 0 for d in shape):
        raise ParseError(f"has a negative dim: {shape}")
    # NumPy multiplies the dims that are not zero even when one is, and refuses an overflow.
    if math.prod(d for d in shape if d) * 16 > MAX_BYTES:
        raise ParseError(f"has dims {shape}, more elements than can exist")
    return shape


def _nbytes(count: int, dtype: str) -> int:
    return -(-count * BITS[dtype] // 8) if dtype in BITS else count * numpy_dtype(dtype).itemsize


def _from_raw(tensor: TensorProto, dtype: str, shape: tuple[int, ...]) -> Array:
    raw = tensor.raw_data
    filled = [f for f in _TYPED if len(getattr(tensor, f))]
    if filled:
        raise ParseError(f"has values in both raw_data and {filled[0]}")
    expected = _nbytes(math.prod(shape), dtype)
    if len(raw) != expected:
        raise ParseError(f"has {len(raw)} bytes of raw_data; {dtype}{list(shape)} needs {expected}")
    return _from_bytes(memoryview(raw), dtype, shape)


def _from_bytes(data: memoryview, dtype: str, shape: tuple[int, ...]) -> Array:
    if not len(data):
        return np.empty(shape, numpy_dtype(dtype))
    if dtype in BITS:
        return _unpack(np.frombuffer(data, np.uint8), dtype, shape)
    values: Array = np.frombuffer(data, numpy_dtype(dtype))
    if sys.byteorder == "big":  # files are little-endian
        values = values.byteswap()
    if not values.flags.aligned:
        values = values.copy()
    if dtype == "bool" and values.view(np.uint8).max(initial=0) > 1:
        raise ParseError("has a bool that is neither 0 nor 1")
    return values.reshape(shape)


def _unpack(packed: Array, dtype: str, shape: tuple[int, ...]) -> Array:
    """Elements of 2 or 4 bits, the first in a byte's lowest bits; the last byte may be partly used."""
    bits = BITS[dtype]
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    fields = (packed[:, None] >> shifts & ((1 << bits) - 1)).reshape(-1)[: math.prod(shape)]
    if dtype == "float4_e2m1fn":
        float4: Array = fields.view(numpy_dtype(dtype))
        return float4.reshape(shape)
    signed = dtype.startswith("int")
    values = fields.astype(np.int8)
    if signed:
        values = values - ((values >> (bits - 1)) << bits).astype(np.int8)
    return values.astype(numpy_dtype(dtype)).reshape(shape)


def _from_typed(tensor: TensorProto, dtype: str, shape: tuple[int, ...]) -> Array:
    field = _WIDE.get(dtype, "int32_data")
    found = len(getattr(tensor, field))
    elements = math.prod(shape)
    parts = 2 if dtype.startswith("complex") else 1
    expected = _nbytes(elements, dtype) if dtype in BITS else elements * parts
    if found != expected:
        stray = [f for f in _TYPED if f != field and len(getattr(tensor, f))]
        other = f" (values were found in {stray[0]})" if stray else ""
        raise ParseError(f"has {found} values in {field} and no raw_data; {dtype}{list(shape)} needs {expected}{other}")
    if dtype in BITS:
        return _unpack(np.array(tensor.int32_data, np.int32).astype(np.uint8), dtype, shape)
    return _convert(getattr(tensor, field), field, dtype).reshape(shape)


def _convert(values: object, field: str, dtype: str) -> Array:
    if field == "float_data":
        return np.array(values, np.float32).view(numpy_dtype(dtype))
    if field == "double_data":
        return np.array(values, np.float64).view(numpy_dtype(dtype))
    if field in ("int64_data", "uint64_data"):
        return np.array(values, np.int64 if field == "int64_data" else np.uint64).astype(numpy_dtype(dtype))
    integers = np.array(values, np.int32)
    target = numpy_dtype(dtype)
    if target.kind in "iu":
        cast: Array = integers.astype(target)
        return cast
    if dtype == "bool":
        truth: Array = integers != 0
        return truth
    # Narrow floats are kept as their bits.
    narrow: Array = integers.astype(np.uint16 if target.itemsize == 2 else np.uint8).view(target)
    return narrow


def _strings(tensor: TensorProto, shape: tuple[int, ...]) -> Array:
    if tensor.HasField("raw_data") or tensor.data_location == _EXTERNAL:
        raise ParseError("holds strings, which must be in string_data")
    if len(tensor.string_data) != math.prod(shape):
        raise ParseError(f"has {len(tensor.string_data)} strings; dims {list(shape)} need {math.prod(shape)}")
    values = np.empty(len(tensor.string_data), object)
    for i, value in enumerate(tensor.string_data):
        values[i] = text(value, f"string {i}")
    return values.reshape(shape)
