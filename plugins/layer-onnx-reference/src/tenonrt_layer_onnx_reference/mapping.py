"""From operators of a model to OnnxReference layers: one function for all of them."""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt.contracts import GraphBuilder, ParseError, SourceNode, Tensor, TensorType, is_container

from tenonrt_layer_onnx_reference.nodes import encode


def operator(builder: GraphBuilder, node: SourceNode, inputs: Sequence[Tensor | None]) -> Sequence[Tensor]:
    """The layer of an operator whose implementation draws nothing."""
    return _layer("OnnxReference", builder, node, inputs)


def random(builder: GraphBuilder, node: SourceNode, inputs: Sequence[Tensor | None]) -> Sequence[Tensor]:
    """The layer of an operator that draws random numbers."""
    return _layer("OnnxReferenceRandom", builder, node, inputs)


def _layer(kind: str, builder: GraphBuilder, node: SourceNode, inputs: Sequence[Tensor | None]) -> Sequence[Tensor]:
    name = f"{node.domain}:{node.type}"
    try:
        encoded = encode(name, node.attrs)
    except ValueError as error:
        raise ParseError(str(error)) from error
    declared = tuple(_named(type) for type in node.declared)
    attrs = {
        "operator": name,
        "version": node.version,
        "node": encoded,
        "outputs": node.outputs,
        "declared": declared if any(declared) else (),
    }
    return builder.add(kind, inputs, attrs, name=node.name)


def _named(type: TensorType | None) -> str | None:
    """An element type and rank as those of containers are written."""
    if type is None or is_container(type.dtype):
        return None if type is None else type.dtype
    return f"{type.dtype}:{type.rank}"
