"""Attributes of layers: from plain values to a layer type's struct, and back after decoding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tenonrt.contracts import Attributes, LayerType
from tenonrt.errors import GraphError
from tenonrt.plugins.registry import Registry
from tenonrt.problem import Problem


def make_attrs(layer_type: LayerType, kind: str, name: str, attrs: Mapping[str, Any] | Attributes | None) -> Any:
    """The layer type's attributes from plain values; `GraphError` names the attribute that does not fit."""
    if isinstance(attrs, layer_type.Attrs):
        return attrs
    plain = msgspec.to_builtins(attrs) if isinstance(attrs, Attributes) else dict(attrs or {})
    try:
        return msgspec.convert(plain, layer_type.Attrs)
    except msgspec.ValidationError as error:
        known = ", ".join(layer_type.Attrs.__struct_fields__) or "none"
        raise GraphError(f"layer {name!r} ({kind}): {error}; its attributes are {known}") from error


def restore_attrs(problem: Problem, registry: Registry) -> Problem:
    """A decoded problem with its attributes turned back into the layer types' structs."""
    layers = tuple(
        msgspec.structs.replace(
            layer, attrs=make_attrs(registry.layer_type(layer.kind), layer.kind, layer.kind, layer.attrs)
        )
        for layer in problem.layers
    )
    return msgspec.structs.replace(problem, layers=layers)
