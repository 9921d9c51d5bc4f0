"""GraphDefs assembled byte by byte: a wire encoder that shares nothing with the distribution under test."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from uff_bytes import chunk, entry, number

DTYPES = {
    "float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "string": 7, "int64": 9, "bool": 10,
    "float16": 19,
}  # fmt: skip


def real(field: int, value: float) -> bytes:
    return bytes([field << 3 | 5]) + struct.pack("<f", value)


def shape(sizes: list[int] | None) -> bytes:
    return number(3, 1) if sizes is None else b"".join(chunk(2, number(1, size) if size else b"") for size in sizes)


def tensor(array: Any, encoding: str = "content") -> bytes:
    """A TensorProto: its elements as "content", one by one as "values", or "repeated": only the first one."""
    array = np.asarray(array)
    if array.dtype == np.int64 and encoding != "int64":
        array = array.astype(np.int32)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    name = "string" if array.dtype.kind in "US" else array.dtype.name
    head = number(1, DTYPES[name]) + chunk(2, shape(list(array.shape)))
    flat = array.reshape(-1)[: 1 if encoding == "repeated" else None]
    if name == "string":
        return head + b"".join(chunk(8, str(value)) for value in flat)
    if encoding in ("content", "int64"):
        return head + (chunk(4, array.tobytes()) if array.size else b"")
    if name == "float32":
        return head + chunk(5, flat.tobytes())
    field, values = {
        "int32": (7, flat), "uint8": (7, flat), "int8": (7, flat), "int16": (7, flat), "int64": (10, flat),
        "bool": (11, flat), "float16": (13, flat.view(np.uint16) if name == "float16" else flat),
    }[name]  # fmt: skip
    return head + b"".join(number(field, int(value)) for value in values)


def attribute(value: Any) -> bytes:
    """An AttrValue of a plain value; ("type", name), ("shape", sizes) and ("tensor", array, encoding) are marked."""
    if isinstance(value, tuple):
        kind, *held = value
        if kind == "type":
            return number(6, DTYPES[held[0]] if isinstance(held[0], str) else held[0])
        if kind == "shape":
            return chunk(7, shape(held[0]))
        if kind == "shapes":
            return chunk(1, b"".join(chunk(7, shape(sizes)) for sizes in held))
        return chunk(8, tensor(*held))
    if isinstance(value, bool):
        return number(5, value)
    if isinstance(value, int):
        return number(3, value)
    if isinstance(value, float):
        return real(4, value)
    if isinstance(value, str):
        return chunk(2, value)
    return chunk(1, b"".join(chunk(2, item) if isinstance(item, str) else number(3, item) for item in value))


class GraphDef:
    """Nodes in the order in which they are added."""

    def __init__(self, producer: int = 27) -> None:
        self.nodes: list[bytes] = []
        self.producer = producer

    def node(self, name: str, operation: str, inputs: list[str] = [], **attrs: Any) -> str:  # noqa: B006
        body = chunk(1, name) + chunk(2, operation) + b"".join(chunk(3, i) for i in inputs)
        body += b"".join(entry(5, key, attribute(value)) for key, value in attrs.items())
        self.nodes.append(body)
        return name

    def placeholder(self, name: str, sizes: list[int] | None, dtype: str = "float32") -> str:
        return self.node(name, "Placeholder", dtype=("type", dtype), shape=("shape", sizes))

    def const(self, name: str, array: Any, encoding: str = "content") -> str:
        array = np.asarray(array)
        dtype = "int32" if array.dtype == np.int64 and encoding != "int64" else array.dtype.name
        dtype = {"float64": "float32"}.get(dtype, "string" if array.dtype.kind in "US" else dtype)
        return self.node(name, "Const", dtype=("type", dtype), value=("tensor", array, encoding))

    def encode(self) -> bytes:
        nodes = b"".join(chunk(1, node) for node in self.nodes)
        return nodes + chunk(4, number(1, self.producer) if self.producer else b"")
