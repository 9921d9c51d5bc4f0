"""UFF files assembled byte by byte: a wire encoder that shares nothing with the distribution under test."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

DTYPES = {"int8": 0x10008, "int32": 0x10020, "int64": 0x10040, "float16": 0x20010, "float32": 0x20020}
INC = 2147483647
ORDERS = {
    "NC+": [0, 1, 2, INC], "N+C": [0, 2, INC, 1], "KC+": [0, 1, 2, INC], "+CK": [2, INC, 1, 0],
    "+KC": [2, INC, 0, 1], "NC": [0, 1], "KC": [0, 1], "CN": [1, 0], "CK": [1, 0],
}  # fmt: skip


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def chunk(field: int, value: bytes | str) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value


def entry(field: int, key: str, value: bytes) -> bytes:
    return chunk(field, chunk(1, key) + chunk(2, value))


def packed(values: list[int]) -> bytes:
    return chunk(1, b"".join(varint(v) for v in values))


def orders_list(names: list[str]) -> bytes:
    order = [chunk(1, chunk(1, number(1, -1) + chunk(2, packed(ORDERS[name])))) for name in names]
    return chunk(104, b"".join(order))


def data(value: Any) -> bytes:
    """A Data message of a plain value; ("ref", name), ("dtype", name), ("blob", bytes) and ("d", float) are marked."""
    if isinstance(value, tuple):
        kind, held = value
        if kind == "ref":
            return chunk(100, held)
        if kind == "dtype":
            return number(101, DTYPES.get(held, 7))
        return chunk(9, held)
    if isinstance(value, bool):
        return number(5, value)
    if isinstance(value, int):
        return number(7, value)
    if isinstance(value, float):
        return varint(3 << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, str):
        return chunk(1, value)
    if all(isinstance(v, int) for v in value):
        return chunk(8, packed(value) if value else b"")
    return chunk(4, chunk(1, struct.pack(f"<{len(value)}d", *value)))


class File:
    """Nodes in the order in which they are added, or any other."""

    def __init__(self, *descriptors: str) -> None:
        self.nodes: list[bytes] = []
        self.referenced: dict[str, bytes] = {}
        self.descriptors = descriptors

    def node(self, name: str, operation: str, inputs: list[str] = [], **fields: Any) -> str:  # noqa: B006
        for field in ("inputs_orders", "outputs_orders"):
            if field in fields:
                key = "_".join(["orders", *fields[field]])
                self.referenced[key] = orders_list(fields[field])
                fields[field] = ("ref", key)
        body = chunk(1, name) + b"".join(chunk(2, i) for i in inputs) + chunk(3, operation)
        self.nodes.append(body + b"".join(entry(4, key, data(value)) for key, value in fields.items()))
        return name

    def input(self, name: str, shape: list[int], dtype: str = "float32") -> str:
        return self.node(name, "Input", dtype=("dtype", dtype), shape=shape)

    def const(self, name: str, array: Any) -> str:
        array = np.asarray(array)
        array = array.astype(np.int32) if array.dtype == np.int64 else array
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        self.referenced[f"weights_{name}"] = chunk(9, array.tobytes())
        values = ("ref", f"weights_{name}")
        return self.node(name, "Const", values=values, dtype=("dtype", array.dtype.name), shape=list(array.shape))

    def encode(self, *outputs: str, backwards: bool = True) -> bytes:
        """The bytes; nodes are stored outputs first, as converters do."""
        if outputs:
            self.node("MarkOutput_0", "MarkOutput", list(outputs))
        nodes = self.nodes[::-1] if backwards else self.nodes
        described = b"".join(chunk(3, chunk(1, d) + number(2, 1)) for d in self.descriptors)
        graph = chunk(4, chunk(1, "main") + b"".join(chunk(2, node) for node in nodes))
        referenced = b"".join(entry(5, key, value) for key, value in self.referenced.items())
        return number(1, 1) + number(2, 1) + described + graph + referenced
