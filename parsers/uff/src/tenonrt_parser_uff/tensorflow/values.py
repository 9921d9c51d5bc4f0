"""Attributes and constants of a GraphDef as plain values."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from tenonrt.contracts import Array, ParseError, numpy_dtype

from tenonrt_parser_uff.fields import Dtype, UnknownDtype
from tenonrt_parser_uff.tensorflow.schema import DTYPES, REFERENCE

MAX_RANK = 64  # of an array
MAX_REPEATED = 2**28  # bytes of a constant that a file holds as one value, which a few bytes may ask for

# The field that holds the values of an element type when they are not in tensor_content.
_FIELDS = {
    "float32": "float_val", "float64": "double_val", "int32": "int_val", "uint8": "int_val", "int16": "int_val",
    "int8": "int_val", "uint16": "int_val", "string": "string_val", "complex64": "scomplex_val", "int64": "int64_val",
    "bool": "bool_val", "complex128": "dcomplex_val", "float16": "half_val", "bfloat16": "half_val",
    "uint32": "uint32_val", "uint64": "uint64_val",
}  # fmt: skip


def attribute(value: Any) -> Any:
    """None where nothing is set. A shape is a tuple with -1 for unknown sizes, None when its rank is unknown."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "list":
        return tuple(item for name, read in _READERS.items() for item in map(read, getattr(value.list, name, ())))
    if kind == "placeholder":
        return value.placeholder
    return _READERS[kind](getattr(value, kind))


def dtype(number: int) -> str:
    """The name of an element type; one without a name is an error only where it is used."""
    name = DTYPES.get(number % REFERENCE)
    return UnknownDtype(f"number {number}") if name is None else Dtype(name)


def shape(message: Any) -> tuple[int, ...] | None:
    """Sizes, any negative one as -1 for unknown."""
    return None if message.unknown_rank else tuple(max(int(dim.size), -1) for dim in message.dim)


def tensor(message: Any) -> Array:
    """The values of a TensorProto, as a view of the file's bytes where they are there as such.

    Fewer values than elements: the last one stands for the rest, none for zeros.
    """
    name, sizes = dtype(message.dtype), shape(message.tensor_shape)
    if isinstance(name, UnknownDtype):
        raise ParseError(f"the element type {name} of a constant is not supported")
    if sizes is None or -1 in sizes or len(sizes) > MAX_RANK:
        raise ParseError(f"a constant has the shape {'unknown' if sizes is None else list(sizes)[:8]}")
    count = prod(sizes)
    element = np.dtype(object) if name == "string" else numpy_dtype(name)
    if message.tensor_content:
        return _content(message.tensor_content, element, sizes)
    values = _listed(message, name, element)
    if len(values) > count:
        raise ParseError(f"a constant of shape {list(sizes)[:8]} has {len(values)} values")
    if len(values) == count:
        return values.reshape(sizes)
    if count * element.itemsize > MAX_REPEATED:
        raise ParseError(f"a constant of shape {list(sizes)[:8]} has only {len(values)} values, too few to repeat")
    return _repeated(values, count, element).reshape(sizes)


def _content(content: bytes, element: Any, sizes: tuple[int, ...]) -> Array:
    if element.hasobject:
        raise ParseError("a constant holds strings as one block of bytes, which is not supported")
    if prod(sizes) * element.itemsize != len(content):
        raise ParseError(f"a constant of shape {list(sizes)[:8]} and type {element} has {len(content)} bytes")
    return np.frombuffer(content, element.newbyteorder("<")).reshape(sizes)


def _listed(message: Any, name: str, element: Any) -> Array:
    values = getattr(message, _FIELDS[name])
    if name == "string":
        texts = np.empty(len(values), object)
        texts[:] = [text(value) for value in values]
        return texts
    if name in ("float16", "bfloat16"):  # their bits
        return (np.array(values, np.int64) & 0xFFFF).astype(np.uint16).view(element)
    if name.startswith("complex"):
        parts = np.array(values[: len(values) // 2 * 2], np.float64)
        return (parts[::2] + 1j * parts[1::2]).astype(element)
    return np.array(values, np.int64 if name.startswith("int") else None).astype(element)


def _repeated(values: Array, count: int, element: Any) -> Array:
    if len(values) <= 1:
        empty = "" if element.hasobject else element.type(0)
        return np.broadcast_to(values[0] if len(values) else np.array(empty, element), (count,))
    return np.concatenate([values, np.broadcast_to(values[-1], (count - len(values),))])


def text(value: bytes) -> str:
    """Strings are bytes in the file; what is not UTF-8 is kept readable."""
    return value.decode("utf-8", "backslashreplace")


_READERS: dict[str, Callable[[Any], Any]] = {
    "s": text,
    "i": int,
    "f": float,
    "b": bool,
    "type": dtype,
    "shape": shape,
    "tensor": tensor,
    "func": lambda value: value.name,
}
