"""``AttributeProto`` to the plain values that mappings are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tenonrt.contracts import ParseError

from tenonrt_parser_onnx.external import ExternalFiles
from tenonrt_parser_onnx.nested import NestedGraph
from tenonrt_parser_onnx.tensors import read_tensor
from tenonrt_parser_onnx.text import text
from tenonrt_parser_onnx.values import container

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, NodeProto

Nest = Callable[["GraphProto"], NestedGraph]

# AttributeProto.AttributeType -> the field that holds the value.
_FIELDS = {1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 6: "floats", 7: "ints", 8: "strings", 9: "tensors", 10: "graphs",
           11: "sparse_tensor", 12: "sparse_tensors", 13: "tp", 14: "type_protos"}  # fmt: skip
_SINGLE = ("f", "i", "s", "t", "g", "sparse_tensor", "tp")
# Writers of proto3 leave out a scalar that is zero, so its absence is a value.
_ZERO_WHEN_ABSENT = ("f", "i", "s")


def read_attributes(
    node: NodeProto, arguments: Mapping[str, Any] | None, files: ExternalFiles, nest: Nest
) -> dict[str, Any]:
    """A node's attributes by name. ``arguments`` are those of the function call whose body the node is in."""
    values: dict[str, Any] = {}
    for attribute in node.attribute:
        name = text(attribute.name, "an attribute's name")
        if name in values:
            raise ParseError(f"attribute {name!r} is given twice")
        if attribute.ref_attr_name:
            if arguments is None:
                raise ParseError(f"attribute {name!r} refers to {attribute.ref_attr_name!r} outside of any function")
            if attribute.ref_attr_name in arguments:
                values[name] = arguments[attribute.ref_attr_name]
            continue
        try:
            values[name] = read_attribute(attribute, files, nest)
        except ParseError as error:
            raise ParseError(f"attribute {name!r} {error}") from error
    return values


def read_attribute(attribute: AttributeProto, files: ExternalFiles, nest: Nest) -> Any:
    """The value: int, float, str, array, `NestedGraph`, or a tuple of one of them. A type is its name."""
    field = _value_field(attribute)
    value = getattr(attribute, field)
    if field in ("f", "i"):
        return value
    if field == "s":
        return text(value, "is a string that")
    if field in ("floats", "ints"):
        return tuple(value)
    if field == "strings":
        return tuple(text(v, "holds a string that") for v in value)
    if field == "t":
        return read_tensor(value, files)
    if field == "tensors":
        return tuple(read_tensor(t, files) for t in value)
    if field == "g":
        return nest(value)
    if field == "graphs":
        return tuple(nest(g) for g in value)
    if field == "tp":
        return container(value)
    raise ParseError(f"is a {field}, which this parser does not read")


def _value_field(attribute: AttributeProto) -> str:
    filled = [f for f in _FIELDS.values() if _has(attribute, f)]
    if not attribute.type:  # IR version 1 had no types
        if len(filled) != 1:
            raise ParseError(f"has no type and {len(filled)} values")
        return filled[0]
    field = _FIELDS.get(attribute.type)
    if field is None:
        raise ParseError(f"has the unknown type {attribute.type}")
    stray = [f for f in filled if f != field]
    if stray:
        raise ParseError(f"is declared to hold its value in field {field!r}, but has one in {stray[0]!r}")
    if field in _SINGLE and field not in _ZERO_WHEN_ABSENT and not filled:
        raise ParseError(f"has no value (field {field!r} is missing)")
    return field


def _has(attribute: AttributeProto, field: str) -> bool:
    return bool(attribute.HasField(field) if field in _SINGLE else len(getattr(attribute, field)))
