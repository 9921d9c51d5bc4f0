"""Operators of one element at a time: arithmetic, comparison, logic, bits, selection and conversion."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import GraphBuilder, LayerMapping, ParseError, SourceNode, Tensor, numpy_dtype

from tenonrt_parser_onnx.dtypes import dtype_called, dtype_named
from tenonrt_parser_onnx.mappings.arguments import Inputs, emit, flag, integer, required, text


def unary(operation: str) -> LayerMapping:
    """The mapping to a unary layer."""

    def mapping(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
        return list(emit(builder, node, "Unary", [required(inputs, 0, "X")], {"operation": operation}))

    return mapping


def binary(operation: str) -> LayerMapping:
    """The mapping to a binary layer, with NumPy broadcasting (opset 7 on)."""

    def mapping(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
        return _binary(builder, node, inputs, operation)

    return mapping


def _binary(builder: GraphBuilder, node: SourceNode, inputs: Inputs, operation: str) -> list[Tensor]:
    if len(inputs) > 2:
        raise ParseError(f"takes 2 inputs, not {len(inputs)}")
    operands = [required(inputs, 0, "A"), required(inputs, 1, "B")]
    if node.version < 7 and flag(node, "broadcast"):
        operands[1] = _aligned(builder, node, *operands)
    return list(emit(builder, node, "Elementwise", operands, {"operation": operation}))


def _aligned(builder: GraphBuilder, node: SourceNode, a: Tensor, b: Tensor) -> Tensor:
    """Before opset 7 the attribute ``axis`` said where in A the axes of B lie; trailing ones are added here."""
    axis = integer(node, "axis", a.info.rank - b.info.rank)
    behind = a.info.rank - b.info.rank - (axis + a.info.rank if axis < 0 else axis)
    if behind <= 0:
        return b
    axes = tuple(range(b.info.rank, b.info.rank + behind))
    return emit(builder, node, "Unsqueeze", [b], {"axes": axes}, part="aligned")[0]


def variadic(operation: str) -> LayerMapping:
    """Sum, Max and Min of any number of inputs: a chain of binary layers."""

    def mapping(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
        return [_chain(builder, node, inputs, operation, "")]

    return mapping


def _chain(builder: GraphBuilder, node: SourceNode, inputs: Inputs, operation: str, last: str) -> Tensor:
    total = required(inputs, 0, "data_0")
    if len(inputs) == 1:
        return emit(builder, node, "Identity", [total], part=last)[0]
    for index in range(1, len(inputs)):
        part = last if index == len(inputs) - 1 else str(index)
        operands = [total, required(inputs, index, f"data_{index}")]
        (total,) = emit(builder, node, "Elementwise", operands, {"operation": operation}, part=part)
    return total


def mean(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The sum of any number of inputs divided by their number."""
    total = _chain(builder, node, inputs, "sum", "sum")
    count = np.asarray(len(inputs), numpy_dtype(total.info.dtype))
    return list(emit(builder, node, "Elementwise", [total, count], {"operation": "div"}))


def mod(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The remainder with the sign of the divisor, or with fmod=1 of the dividend."""
    return _binary(builder, node, inputs, "fmod" if flag(node, "fmod") else "mod")


def bit_shift(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Shift to the side that ``direction`` says."""
    direction = text(node, "direction", choices=("LEFT", "RIGHT"))
    return _binary(builder, node, inputs, f"shift_{direction.lower()}")


def is_inf(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Infinities of either sign, or of one."""
    attrs = {
        "operation": "is_inf",
        "detect_positive": flag(node, "detect_positive", True),
        "detect_negative": flag(node, "detect_negative", True),
    }
    return list(emit(builder, node, "Unary", [required(inputs, 0, "X")], attrs))


def where(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The first where the condition holds, else the second."""
    operands = [required(inputs, 0, "condition"), required(inputs, 1, "X"), required(inputs, 2, "Y")]
    return list(emit(builder, node, "Select", operands))


def cast(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Conversion to the data type numbered ``to``, which was its name before opset 6."""
    if node.version < 6:
        return _cast(builder, node, inputs, dtype_called(text(node, "to")))
    return _cast(builder, node, inputs, dtype_named(integer(node, "to")))


def cast_like(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Conversion to the second input's type."""
    return _cast(builder, node, inputs, required(inputs, 1, "target_type").info.dtype)


def _cast(builder: GraphBuilder, node: SourceNode, inputs: Inputs, dtype: str) -> list[Tensor]:
    rounding = text(node, "round_mode", "up", ("up", "down", "nearest"))
    if dtype == "float8_e8m0fnu" and rounding != "up":
        raise ParseError(f"round_mode {rounding!r} is not supported; only 'up' is")
    attrs = {"to": dtype, "saturate": flag(node, "saturate", True)}
    return list(emit(builder, node, "Cast", [required(inputs, 0, "input")], attrs))


abs_ = unary("abs")
neg = unary("neg")
exp = unary("exp")
log = unary("log")
sqrt = unary("sqrt")
reciprocal = unary("recip")
sin = unary("sin")
cos = unary("cos")
tan = unary("tan")
asin = unary("asin")
acos = unary("acos")
atan = unary("atan")
sinh = unary("sinh")
cosh = unary("cosh")
asinh = unary("asinh")
acosh = unary("acosh")
atanh = unary("atanh")
ceil = unary("ceil")
floor = unary("floor")
round_ = unary("round")
sign = unary("sign")
erf = unary("erf")
not_ = unary("not")
bitwise_not = unary("bitwise_not")
is_nan = unary("is_nan")

add = binary("sum")
sub = binary("sub")
mul = binary("prod")
div = binary("div")
pow_ = binary("pow")
equal = binary("equal")
greater = binary("greater")
greater_or_equal = binary("greater_equal")
less = binary("less")
less_or_equal = binary("less_equal")
and_ = binary("and")
or_ = binary("or")
xor = binary("xor")
bitwise_and = binary("bitwise_and")
bitwise_or = binary("bitwise_or")
bitwise_xor = binary("bitwise_xor")

sum_ = variadic("sum")
max_ = variadic("max")
min_ = variadic("min")
