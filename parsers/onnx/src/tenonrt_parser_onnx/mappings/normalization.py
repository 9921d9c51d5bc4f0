"""Normalisations."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import GraphBuilder, ParseError, SourceNode, Tensor, numpy_dtype

from tenonrt_parser_onnx.mappings.arguments import (
    Inputs,
    emit,
    flag,
    integer,
    integers,
    number,
    present,
    required,
    shape_constant,
)


def batch_normalization(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    if flag(node, "training_mode") or any(node.outputs[1:]):
        raise ParseError("is in training mode; export the model for inference")
    if node.version < 9 and not flag(node, "spatial", True):
        raise ParseError("has spatial=0 (statistics per position), which is not supported")
    names = ("X", "scale", "B", "mean", "var")
    operands = [required(inputs, index, name) for index, name in enumerate(names)]
    return list(emit(builder, node, "BatchNormalization", operands, {"epsilon": number(node, "epsilon", 1e-5)}))


def layer_normalization(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    attrs = {
        "axis": integer(node, "axis", -1),
        "epsilon": number(node, "epsilon", 1e-5),
        "statistics": any(node.outputs[1:]),
    }
    operands = [required(inputs, 0, "X"), required(inputs, 1, "Scale"), present(inputs, 2)]
    return list(emit(builder, node, "LayerNormalization", operands, attrs))


def rms_normalization(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    attrs = {"axis": integer(node, "axis", -1), "epsilon": number(node, "epsilon", 1e-5)}
    operands = [required(inputs, 0, "X"), required(inputs, 1, "scale")]
    return list(emit(builder, node, "RmsNormalization", operands, attrs))


def instance_normalization(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    operands = [required(inputs, index, name) for index, name in enumerate(("input", "scale", "B"))]
    return list(emit(builder, node, "InstanceNormalization", operands, {"epsilon": number(node, "epsilon", 1e-5)}))


def group_normalization(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Until opset 20 there was one scale and bias per group, since then per channel."""
    x, scale, bias = (required(inputs, index, name) for index, name in enumerate(("X", "scale", "bias")))
    groups = integer(node, "num_groups")
    if node.version < 21:
        scale = _per_channel(builder, node, x, scale, groups, "scale")
        bias = _per_channel(builder, node, x, bias, groups, "bias")
    attrs = {"groups": groups, "epsilon": number(node, "epsilon", 1e-5)}
    return list(emit(builder, node, "GroupNormalization", [x, scale, bias], attrs))


def _per_channel(builder: GraphBuilder, node: SourceNode, x: Tensor, values: Tensor, groups: int, part: str) -> Tensor:
    channels = x.info.shape[1] if x.info.rank > 1 else None
    if not isinstance(channels, int) or groups < 1 or channels % groups:
        raise ParseError(f"needs a known number of channels that {groups} groups divide; X is {x.info.type}")
    (column,) = emit(builder, node, "Unsqueeze", [values], {"axes": (1,)}, part=f"{part}/column")
    shape = shape_constant([groups, channels // groups])
    (table,) = emit(builder, node, "Expand", [column, shape], part=f"{part}/table")
    return emit(builder, node, "Reshape", [table, shape_constant([channels])], part=part)[0]


def lp_normalization(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    attrs = {"axis": integer(node, "axis", -1), "p": integer(node, "p", 2)}
    return list(emit(builder, node, "LpNormalization", [required(inputs, 0, "input")], attrs))


def mean_variance_normalization(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """``(x - mean) / (standard deviation + 1e-9)``, the operator's definition in ONNX."""
    x = required(inputs, 0, "X")
    dtype = numpy_dtype(x.info.dtype)
    mean = {"operation": "mean", "axes": integers(node, "axes", (0, 2, 3)), "keep_dims": True}
    (centre,) = emit(builder, node, "Reduce", [x], mean, part="mean")
    (offset,) = emit(builder, node, "Elementwise", [x, centre], {"operation": "sub"}, part="centred")
    (square,) = emit(builder, node, "Elementwise", [offset, offset], {"operation": "prod"}, part="square")
    (variance,) = emit(builder, node, "Reduce", [square], mean, part="variance")
    (deviation,) = emit(builder, node, "Unary", [variance], {"operation": "sqrt"}, part="deviation")
    (guarded,) = emit(
        builder, node, "Elementwise", [deviation, np.asarray(1e-9, dtype)], {"operation": "sum"}, part="guarded"
    )
    return list(emit(builder, node, "Elementwise", [offset, guarded], {"operation": "div"}))
