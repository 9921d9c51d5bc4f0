"""The classic plugin factory: a custom operation by the name of its node, with weights and typed fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
from tenonrt.contracts import Array, GraphBuilder, Tensor

from tenonrt_parser_uff.fields import Dtype, UnknownDtype


class FieldType(IntEnum):
    """TensorRT's numbers. CHAR is a string, DIMS a shape, DATATYPE the name of an element type."""

    FLOAT = 0
    INT32 = 1
    CHAR = 2
    DIMS = 4
    DATATYPE = 5
    UNKNOWN = 6


@dataclass(frozen=True)
class Field:
    """One field: ``data`` is an array for numbers and dimensions, a str for a string or an element type."""

    name: str
    data: Any
    type: FieldType
    length: int


@dataclass(frozen=True)
class FieldCollection:
    """The fields of one node, in order of name."""

    fields: tuple[Field, ...]

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __getitem__(self, name: str) -> Any:
        """The data of a field; `KeyError` lists those there are."""
        for found in self.fields:
            if found.name == name:
                return found.data
        raise KeyError(f"no field {name!r}; there are {', '.join(f.name for f in self.fields) or 'none'}")


@dataclass(frozen=True)
class CustomLayer:
    """What a factory makes: a layer of an installed kind. ``weights`` follow the operation's tensors as inputs."""

    kind: str
    attrs: Mapping[str, Any] = field(default_factory=dict)
    weights: Sequence[Array] = ()


class PluginFactory(Protocol):
    """TensorRT's protocol, in which the plugin is a layer kind of an installed distribution.

    A plan then names that distribution, where TensorRT needed the same factory again to load it.
    """

    def is_plugin(self, layer_name: str) -> bool:
        """Whether this factory makes the custom operation of this node."""

    def create_plugin(self, layer_name: str, weights: Sequence[Array], fields: FieldCollection) -> CustomLayer:
        """``weights`` are the operation's constant inputs, which the layer gets only if they are given back."""


def collect(attrs: Mapping[str, Any]) -> FieldCollection:
    """Typed fields of plain values; fields that hold nothing are left out."""
    return FieldCollection(tuple(_field(name, attrs[name]) for name in sorted(attrs) if attrs[name] is not None))


def _field(name: str, value: Any) -> Field:
    if isinstance(value, UnknownDtype):
        return Field(name, value, FieldType.UNKNOWN, 0)
    if isinstance(value, Dtype):
        return Field(name, value, FieldType.DATATYPE, 1)
    if isinstance(value, str):
        return Field(name, value, FieldType.CHAR, len(value))
    if isinstance(value, (bool, int)):
        return Field(name, np.array([value], np.int64), FieldType.INT32, 1)
    if isinstance(value, float):
        return Field(name, np.array([value]), FieldType.FLOAT, 1)
    if isinstance(value, tuple) and all(isinstance(v, (bool, int)) for v in value):
        return Field(name, np.array(value, np.int64), FieldType.DIMS, len(value))
    if isinstance(value, tuple) and all(isinstance(v, float) for v in value):
        return Field(name, np.array(value), FieldType.FLOAT, len(value))
    return Field(name, value, FieldType.UNKNOWN, len(value) if hasattr(value, "__len__") else 0)


def made_by(factory: PluginFactory, builder: GraphBuilder, name: str, attrs: Mapping[str, Any],
            inputs: Sequence[Tensor | None]) -> Sequence[Tensor]:  # fmt: skip
    """The layer that a factory makes of a custom operation."""
    weights = [t.constant for t in inputs if t is not None and t.constant is not None]
    layer = factory.create_plugin(name, weights, collect(attrs))
    tensors = [t for t in inputs if t is None or t.constant is None]
    return builder.add(layer.kind, [*tensors, *layer.weights], layer.attrs)
