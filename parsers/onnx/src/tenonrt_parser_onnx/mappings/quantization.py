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
    operands = _operands(builder, node, inputs, "y_scale")
    return list(emit(builder, node, "Quantize", operands, attrs))


def dequantize_linear(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The result's type is output_dtype, else the scale's."""
    scale, named = required(inputs, 1, "x_scale"), integer(node, "output_dtype", 0)
    attrs = {
        "dtype": dtype_named(named) if named else scale.info.dtype,
        "axis": integer(node, "axis", 1),
        "block": integer(node, "block_size", 0),
    }
    return list(emit(builder, node, "Dequantize", _operands(builder, node, inputs, "x_scale"), attrs))


def _operands(builder: GraphBuilder, node: SourceNode, inputs: Inputs, name: str) -> list[Tensor | None]:
    """Input, scale and zero point. Models pair a scalar with a vector of one; the layers want equal shapes."""
    x, scale, zero = required(inputs, 0, "x"), required(inputs, 1, name), present(inputs, 2)
    if zero is not None and scale.info.rank == 0 and zero.info.shape == (1,):
        (zero,) = emit(builder, node, "Squeeze", [zero], {"axes": (0,)}, part="zero_point")
    if zero is not None and zero.info.rank == 0 and scale.info.shape == (1,):
        (scale,) = emit(builder, node, "Squeeze", [scale], {"axes": (0,)}, part="scale")
    return [x, scale, zero]
