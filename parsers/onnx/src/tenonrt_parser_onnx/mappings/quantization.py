"""QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from tenonrt.contracts import GraphBuilder, SourceNode, Tensor

from tenonrt_parser_onnx.dtypes import dtype_named
from tenonrt_parser_onnx.mappings.arguments import Inputs, emit, flag, integer, present, required


def quantize_linear(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The stored type is the zero point's, else output_dtype, else uint8."""
    zero, named = present(inputs, 2), integer(node, "output_dtype", 0)
    dtype = zero.info.dtype if zero is not None else dtype_named(named) if named else "uint8"
    attrs = {
        "dtype": dtype,
        "axis": integer(node, "axis", 1),
        "block": integer(node, "block_size", 0),
        "saturate": flag(node, "saturate", True),
    }
    operands = [required(inputs, 0, "x"), required(inputs, 1, "y_scale"), zero]
    return list(emit(builder, node, "Quantize", operands, attrs))


def dequantize_linear(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The result's type is output_dtype, else the scale's."""
    scale, named = required(inputs, 1, "x_scale"), integer(node, "output_dtype", 0)
    attrs = {
        "dtype": dtype_named(named) if named else scale.info.dtype,
        "axis": integer(node, "axis", 1),
        "block": integer(node, "block_size", 0),
    }
    return list(emit(builder, node, "Dequantize", [required(inputs, 0, "x"), scale, present(inputs, 2)], attrs))
