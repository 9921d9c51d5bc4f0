"""Normalisations."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import Array, GraphBuilder, ParseError, SourceNode, Tensor, numpy_dtype

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

_STATISTICS = ("X", "scale", "B", "mean", "var")


def batch_normalization(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """With the statistics of training; training itself is refused."""
    if flag(node, "training_mode") or any(node.outputs[1:]):
        raise ParseError("is in training mode; export the model for inference")
    if node.version < 9 and not flag(node, "spatial", True):
        return [_per_position(builder, node, inputs)]
    operands = [required(inputs, index, name) for index, name in enumerate(_STATISTICS)]
    return list(emit(builder, node, "BatchNormalization", operands, {"epsilon": number(node, "epsilon", 1e-5)}))


def _per_position(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> Tensor:
    """spatial=0, until opset 9: statistics, scale and bias for each element of an image."""
    x, scale, bias, mean, variance = (required(inputs, index, name) for index, name in enumerate(_STATISTICS))
    epsilon = np.asarray(number(node, "epsilon", 1e-5), x.type.numpy)

    def combine(operation: str, part: str, a: Tensor, b: Tensor | Array) -> Tensor:
        return emit(builder, node, "Elementwise", [a, b], {"operation": operation}, part=part)[0]

    spread = combine("sum", "variance", variance, epsilon)
    (deviation,) = emit(builder, node, "Unary", [spread], {"operation": "sqrt"}, part="deviation")
    centered = combine("sub", "centered", x, mean)
    scaled = combine("prod", "scaled", combine("div", "normalized", centered, deviation), scale)
    return combine("sum", "", scaled, bias)


def layer_normalization(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Over the axes from ``axis`` on; mean and inverse deviation are made where they are used."""
    attrs = {
        "axis": integer(node, "axis", -1),
        "epsilon": number(node, "epsilon", 1e-5),
        "statistics": any(node.outputs[1:]),
    }
    operands = [required(inputs, 0, "X"), required(inputs, 1, "Scale"), present(inputs, 2)]
    return list(emit(builder, node, "LayerNormalization", operands, attrs))


def rms_normalization(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Over the axes from ``axis`` on (opset 23)."""
    attrs = {"axis": integer(node, "axis", -1), "epsilon": number(node, "epsilon", 1e-5)}
    operands = [required(inputs, 0, "X"), required(inputs, 1, "scale")]
    return list(emit(builder, node, "RmsNormalization", operands, attrs))


def instance_normalization(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Each channel of each image by itself."""
    operands = [required(inputs, index, name) for index, name in enumerate(("input", "scale", "B"))]
    return list(emit(builder, node, "InstanceNormalization", operands, {"epsilon": number(node, "epsilon", 1e-5)}))


def group_normalization(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Until opset 20 there was one scale and bias per group, since then per channel."""
    x, scale, bias = (required(inputs, index, name) for index, name in enumerate(("X", "scale", "bias")))
    groups = integer(node, "num_groups")
    if node.version < 21:
        scale = _per_channel(builder, node, scale, _group_shape(x, groups), "scale")
        bias = _per_channel(builder, node, bias, _group_shape(x, groups), "bias")
    attrs = {"groups": groups, "epsilon": number(node, "epsilon", 1e-5)}
    return list(emit(builder, node, "GroupNormalization", [x, scale, bias], attrs))


def _group_shape(x: Tensor, groups: int) -> tuple[int, int]:
    channels = x.info.shape[1] if x.info.rank > 1 else None
    if not isinstance(channels, int) or groups < 1 or channels % groups:
        raise ParseError(f"needs a known number of channels that {groups} groups divide; X is {x.info.type}")
    return groups, channels // groups


def _per_channel(builder: GraphBuilder, node: SourceNode, values: Tensor, shape: tuple[int, int], part: str) -> Tensor:
    (column,) = emit(builder, node, "Unsqueeze", [values], {"axes": (1,)}, part=f"{part}/column")
    (table,) = emit(builder, node, "Expand", [column, shape_constant(shape)], part=f"{part}/table")
    return emit(builder, node, "Reshape", [table, shape_constant([shape[0] * shape[1]])], part=part)[0]


def lp_normalization(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Divide by the l1 or l2 norm along an axis."""
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
