"""Pooling over windows and over the whole image, and LRN."""

from __future__ import annotations

from typing import Any

import numpy as np
from tenonrt.contracts import GraphBuilder, LayerMapping, ParseError, SourceNode, Tensor, numpy_dtype

from tenonrt_parser_onnx.mappings.arguments import Inputs, emit, flag, integer, integers, number, required
from tenonrt_parser_onnx.mappings.convolution import window_attributes


def _pool(
    builder: GraphBuilder, node: SourceNode, inputs: Inputs, function: str, extra: dict[str, Any]
) -> list[Tensor]:
    window = integers(node, "kernel_shape")
    attrs = window_attributes(node, len(window)) | extra
    attrs |= {"function": function, "window": window, "ceil": flag(node, "ceil_mode")}
    return list(emit(builder, node, "Pooling", [required(inputs, 0, "X")], attrs))


def max_pool(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The largest of a window, and where it is found if the second output is used."""
    indices = len(node.outputs) > 1 and node.outputs[1]
    extra = {"with_indices": indices, "storage_order": integer(node, "storage_order", 0)}
    return _pool(builder, node, inputs, "max", extra)


def average_pool(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The mean of a window, padding counted or not."""
    extra = {"count_includes_padding": flag(node, "count_include_pad")}
    return _pool(builder, node, inputs, "average", extra)


def lp_pool(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The p-norm of a window."""
    return _pool(builder, node, inputs, "lp", {"p": integer(node, "p", 2)})


def global_pool(operation: str) -> LayerMapping:
    """A reduction over every spatial axis."""

    def mapping(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
        x = required(inputs, 0, "X")
        attrs = {"operation": operation, "axes": _spatial_axes(x), "keep_dims": True}
        return list(emit(builder, node, "Reduce", [x], attrs))

    return mapping


def _spatial_axes(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.info.rank))


def global_lp_pool(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The p-norm over every spatial axis."""
    x, p = required(inputs, 0, "X"), integer(node, "p", 2)
    if p < 1:
        raise ParseError(f"attribute 'p' is {p}, expected at least 1")
    if p in (1, 2):
        return list(global_pool(f"l{p}")(builder, node, inputs))
    dtype = numpy_dtype(x.info.dtype)
    (size,) = emit(builder, node, "Unary", [x], {"operation": "abs"}, part="abs")
    (power,) = emit(builder, node, "Elementwise", [size, np.asarray(p, dtype)], {"operation": "pow"}, part="power")
    attrs = {"operation": "sum", "axes": _spatial_axes(x), "keep_dims": True}
    (total,) = emit(builder, node, "Reduce", [power], attrs, part="sum")
    return list(emit(builder, node, "Elementwise", [total, np.asarray(1 / p, dtype)], {"operation": "pow"}))


def lrn(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Local response normalisation across channels."""
    attrs = {
        "window": integer(node, "size"),
        "alpha": number(node, "alpha", 1e-4),
        "beta": number(node, "beta", 0.75),
        "k": number(node, "bias", 1.0),
    }
    return list(emit(builder, node, "LRN", [required(inputs, 0, "X")], attrs))


global_average_pool = global_pool("mean")
global_max_pool = global_pool("max")
