"""Standard operators that ONNX itself defines as functions of others: expanded where no plugin maps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from tenonrt.contracts import Dim, ParseError, Tensor, contents, is_container, ranked

from tenonrt_parser_onnx.dtypes import CODES
from tenonrt_parser_onnx.native import native_onnx

if TYPE_CHECKING:
    from onnx import FunctionProto, NodeProto, TypeProto

OpSchema = Any  # onnx.defs.OpSchema, whose type stubs lack most of its attributes
MAX_BODY = 256  # nodes; the largest body of onnx 1.23, Attention's, has about half


@cache
def function_schema(domain: str, kind: str, version: int) -> OpSchema:
    """The definition of an operator that is a function; None when it is no such operator."""
    from onnx import defs

    try:
        schema: OpSchema = defs.get_schema(kind, version, domain)
    except defs.SchemaError:
        return None
    return schema if schema.has_function or schema.has_context_dependent_function else None


def defaults(schema: OpSchema) -> dict[str, Any]:
    """What the attributes are that a node leaves out, in plain values."""
    from onnx.helper import get_attribute_value

    found = {name: a.default_value for name, a in schema.attributes.items() if a.default_value.type}
    values = {name: get_attribute_value(value) for name, value in found.items()}
    return {name: v.decode() if isinstance(v, bytes) else v for name, v in values.items()}


def standard_function(
    schema: OpSchema, node: NodeProto, attributes: Mapping[str, Any], version: int, inputs: Sequence[Tensor | None]
) -> FunctionProto:
    """The body for a node with inputs of these types.

    A body that depends on them is made by onnx's native code, in its own process, and only for a node that passes the
    checks here.
    """
    from onnx import FunctionProto

    _check(schema, node)
    if not schema.has_context_dependent_function:
        static: FunctionProto = schema.function_body
        return static
    types = [b"" if tensor is None else _type(tensor).SerializeToString() for tensor in inputs]
    definition = max(v for v in schema.context_dependent_function_opset_versions if v <= version)
    plain = _resolved(node, attributes).SerializeToString()
    body = native_onnx().body(schema.name, version, schema.domain, definition, plain, types)
    function: FunctionProto = FunctionProto.FromString(body)
    if not function.node:
        given = ", ".join("absent" if t is None else str(t.type) for t in inputs)
        raise ParseError(f"has no definition in onnx for inputs ({given})")
    return function


def _check(schema: OpSchema, node: NodeProto) -> None:
    if not schema.min_input <= len(node.input) <= schema.max_input:
        limits = f"{schema.min_input} to {schema.max_input}"
        raise ParseError(f"has {len(node.input)} inputs; {schema.name} takes {limits}")
    if not schema.min_output <= len(node.output) <= schema.max_output:
        limits = f"{schema.min_output} to {schema.max_output}"
        raise ParseError(f"has {len(node.output)} outputs; {schema.name} gives {limits}")
    for attribute in node.attribute:
        known = schema.attributes.get(attribute.name)
        if known is None:
            raise ParseError(f"attribute {attribute.name!r} is unknown; those of {schema.name} are "
                             f"{', '.join(schema.attributes)}")  # fmt: skip
        if not attribute.ref_attr_name and attribute.type != known.type.value:
            raise ParseError(f"attribute {attribute.name!r} must be of type {known.type.name.lower()}")
    given = {attribute.name for attribute in node.attribute}
    for name, attribute in schema.attributes.items():
        if attribute.required and name not in given:
            raise ParseError(f"attribute {name!r} is missing")


def _resolved(node: NodeProto, attributes: Mapping[str, Any]) -> NodeProto:
    """The node with the values of attributes that refer to those of a function around it."""
    from onnx import NodeProto
    from onnx.helper import make_attribute

    plain = NodeProto()
    plain.CopyFrom(node)
    references = [a.name for a in plain.attribute if a.ref_attr_name]
    if references:
        kept = [a for a in node.attribute if not a.ref_attr_name]
        del plain.attribute[:]
        plain.attribute.extend(kept)
        plain.attribute.extend(make_attribute(name, attributes[name]) for name in references if name in attributes)
    return plain


def _type(tensor: Tensor) -> TypeProto:
    from onnx import TypeProto

    type = TypeProto()
    if is_container(tensor.type.dtype):
        _fill(type, tensor.type.dtype)
        return type
    type.tensor_type.elem_type = CODES[tensor.type.dtype]
    type.tensor_type.shape.SetInParent()
    for dimension in tensor.type.shape:
        dim = type.tensor_type.shape.dim.add()
        if isinstance(dimension, Dim):
            dim.dim_param = str(dimension)
        else:
            dim.dim_value = dimension
    return type


def _fill(type: TypeProto, name: str) -> None:
    """Make a type what the name of a container, or of the tensors in one, says."""
    if not is_container(name):
        dtype, rank = ranked(name)
        type.tensor_type.elem_type = CODES[dtype]
        if rank is not None:
            type.tensor_type.shape.SetInParent()
            for _ in range(rank):
                type.tensor_type.shape.dim.add()
        return
    kind, parts = contents(name)
    if kind == "map":
        type.map_type.key_type = CODES[parts[0]]
        _fill(type.map_type.value_type, parts[1])
    else:
        _fill(getattr(type, f"{kind}_type").elem_type, parts[0])
