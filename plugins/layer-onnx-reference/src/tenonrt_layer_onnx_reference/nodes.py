"""Operators as plain values, and as the NodeProto that carries their attributes in a layer's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from tenonrt.contracts import Array

_LISTS = (6, 7, 8)  # of AttributeProto.AttributeType: floats, ints, strings


@dataclass(frozen=True)
class Operator:
    """One operator with its attributes; see `OnnxReferenceAttributes`."""

    name: str
    version: int
    node: bytes
    outputs: tuple[bool, ...]
    declared: tuple[str | None, ...]

    @property
    def domain(self) -> str:
        return self.name.partition(":")[0]

    @property
    def type(self) -> str:
        return self.name.partition(":")[2]

    @cached_property
    def attributes(self) -> Mapping[str, Any]:
        """Numbers, strings, tuples of them and arrays, by name."""
        return _decoded(self.node)

    def declared_type(self, index: int) -> str | None:
        return self.declared[index] if index < len(self.declared) else None


def encode(name: str, attributes: Mapping[str, Any]) -> bytes:
    """A NodeProto without operands; `ValueError` for an attribute that no node can hold."""
    from onnx import NodeProto

    domain, _, kind = name.partition(":")
    node = NodeProto(op_type=kind, domain=domain)
    for key in sorted(attributes):
        node.attribute.append(_attribute(name, key, attributes[key]))
    return bytes(node.SerializeToString(deterministic=True))


def _attribute(operator: str, key: str, value: Any) -> Any:
    from onnx import AttributeProto, defs
    from onnx.helper import make_attribute
    from onnx.numpy_helper import from_array

    if isinstance(value, np.ndarray):
        return make_attribute(key, from_array(value))
    if not isinstance(value, int | float | str | tuple):
        raise ValueError(f"attribute {key!r} holds a {type(value).__name__}, which this layer cannot carry")
    if value != ():
        return make_attribute(key, value)
    domain, _, kind = operator.partition(":")
    declared: Any = defs.get_schema(kind, domain).attributes  # an empty list does not tell of what
    wanted = declared[key].type.value if key in declared else AttributeProto.INTS
    if wanted not in _LISTS:
        raise ValueError(f"attribute {key!r} is an empty list, expected {declared[key].type.name.lower()}")
    return make_attribute(key, value, attr_type=wanted)


@lru_cache(256)
def _decoded(node: bytes) -> Mapping[str, Any]:
    from onnx import NodeProto
    from onnx.helper import get_attribute_value

    return {a.name: _plain(get_attribute_value(a)) for a in NodeProto.FromString(node).attribute}


def _plain(value: Any) -> Any:
    from onnx import TensorProto
    from onnx.numpy_helper import to_array

    if isinstance(value, TensorProto):
        array: Array = to_array(value)
        return array
    if isinstance(value, bytes):
        return value.decode()
    return tuple(_plain(v) for v in value) if isinstance(value, list | tuple) else value
