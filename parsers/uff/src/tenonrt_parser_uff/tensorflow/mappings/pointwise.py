"""Operations on each element. One function serves all that differ only in the name of the layer's operation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tenonrt.contracts import Array, GraphBuilder, ParseError, SourceNode, Tensor

from tenonrt_parser_uff.emit import (
    Inputs,
    activation,
    cast,
    check_count,
    elementwise,
    given,
    integer,
    number,
    reshape,
    scalar_like,
    single,
    text,
    unary,
)
from tenonrt_parser_uff.fields import UnknownDtype
from tenonrt_parser_uff.tensorflow.mappings.arguments import channels_last
from tenonrt_parser_uff.windows import static

_UNARY = {
    "Abs": "abs", "Neg": "neg", "Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Rsqrt": "rsqrt", "Square": "square",
    "Sin": "sin", "Cos": "cos", "Tan": "tan", "Asin": "asin", "Acos": "acos", "Atan": "atan", "Sinh": "sinh",
    "Cosh": "cosh", "Asinh": "asinh", "Acosh": "acosh", "Atanh": "atanh", "Ceil": "ceil", "Floor": "floor",
    "Round": "round", "Rint": "round", "Sign": "sign", "Erf": "erf", "Reciprocal": "recip", "Inv": "recip",
    "LogicalNot": "not", "IsNan": "is_nan", "IsInf": "is_inf",
}  # fmt: skip
_BINARY = {
    "Add": "sum", "AddV2": "sum", "Sub": "sub", "Mul": "prod", "Div": "div", "RealDiv": "div", "TruncateDiv": "div",
    "FloorDiv": "floor_div", "FloorMod": "mod", "Mod": "fmod", "TruncateMod": "fmod", "Maximum": "max",
    "Minimum": "min", "Pow": "pow", "Equal": "equal", "Greater": "greater", "GreaterEqual": "greater_equal",
    "Less": "less", "LessEqual": "less_equal", "LogicalAnd": "and", "LogicalOr": "or",
    "BitwiseAnd": "bitwise_and", "BitwiseOr": "bitwise_or", "BitwiseXor": "bitwise_xor",
}  # fmt: skip
_ACTIVATIONS = {
    "Relu": "relu", "Relu6": "relu6", "Elu": "elu", "Selu": "selu", "Sigmoid": "sigmoid", "Tanh": "tanh",
    "Softplus": "softplus", "Softsign": "softsign",
}  # fmt: skip


def unary_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Abs, Exp, Rsqrt and so on."""
    check_count(inputs, 1)
    return [unary(builder, _UNARY[node.type], given(inputs, 0, "x"))]


def shifted_log(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Log1p."""
    check_count(inputs, 1)
    x = given(inputs, 0, "x")
    return [unary(builder, "log", elementwise(builder, "sum", x, scalar_like(x, 1)))]


def shifted_exp(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Expm1."""
    check_count(inputs, 1)
    x = given(inputs, 0, "x")
    return [elementwise(builder, "sub", unary(builder, "exp", x), scalar_like(x, 1))]


def binary(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Arithmetic, comparison and logic, broadcast as in NumPy."""
    check_count(inputs, 2)
    return [elementwise(builder, _BINARY[node.type], given(inputs, 0, "x"), given(inputs, 1, "y"))]


def not_equal(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Where elements differ."""
    check_count(inputs, 2)
    return [unary(builder, "not", elementwise(builder, "equal", given(inputs, 0, "x"), given(inputs, 1, "y")))]


def squared_difference(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """(x - y)^2."""
    check_count(inputs, 2)
    return [unary(builder, "square", elementwise(builder, "sub", given(inputs, 0, "x"), given(inputs, 1, "y")))]


def guarded_division(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """DivNoNan: 0 where the divisor is."""
    check_count(inputs, 2)
    x, y = given(inputs, 0, "x"), given(inputs, 1, "y")
    zero, one = scalar_like(y, 0), scalar_like(y, 1)
    is_zero = elementwise(builder, "equal", y, zero)
    quotient = elementwise(builder, "div", x, single(builder, "Select", [is_zero, one, y]))
    return [single(builder, "Select", [is_zero, zero, quotient])]


def add_n(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The sum of any number of tensors of one shape."""
    total = given(inputs, 0, "input")
    for index in range(1, len(inputs)):
        total = elementwise(builder, "sum", total, given(inputs, index, "input"))
    return [total]


def bias_add(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """One value per channel."""
    check_count(inputs, 2)
    x, bias = given(inputs, 0, "value"), given(inputs, 1, "bias")
    if bias.type.rank != 1:
        raise ParseError(f"the bias is {bias.type}, expected a vector")
    if not channels_last(node) and x.type.rank > 2:
        bias = reshape(builder, bias, (*static(bias, "the bias"), *(1,) * (x.type.rank - 2)))
    return [elementwise(builder, "sum", x, bias)]


def activation_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Relu, Sigmoid and so on."""
    check_count(inputs, 1)
    return [activation(builder, _ACTIVATIONS[node.type], given(inputs, 0, "features"))]


def leaky_relu(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """x, or alpha x below zero."""
    check_count(inputs, 1)
    return [activation(builder, "leaky_relu", given(inputs, 0, "features"), number(node, "alpha", 0.2))]


def softmax(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Softmax and LogSoftmax, over the last axis."""
    check_count(inputs, 1)
    return [single(builder, "Softmax", [given(inputs, 0, "logits")], {"axis": -1, "log": node.type == "LogSoftmax"})]


def clip(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """ClipByValue."""
    check_count(inputs, 3)
    x, low, high = (given(inputs, i, what) for i, what in enumerate(("t", "least", "greatest")))
    return [elementwise(builder, "max", elementwise(builder, "min", x, high), low)]


def cast_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Another element type."""
    check_count(inputs, 1)
    return [cast(builder, given(inputs, 0, "x"), element_type(node, "DstT"))]


def element_type(node: SourceNode, name: str, default: str | None = None) -> str:
    """An attribute that is an element type."""
    found = text(node, name, default)
    if isinstance(node.attrs.get(name), UnknownDtype):
        raise ParseError(f"{name!r} is {found}, which is not supported")
    return str(found)


def select(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """x where the condition holds, else y. Version 1 takes a vector of conditions as one for each row."""
    check_count(inputs, 3)
    condition, x, y = (given(inputs, i, what) for i, what in enumerate(("condition", "x", "y")))
    if node.type == "Select" and condition.type.rank == 1 and x.type.rank > 1:
        condition = single(builder, "Unsqueeze", [condition], {"axes": tuple(range(1, x.type.rank))})
    return [single(builder, "Select", [condition, x, y])]


def forward(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Identity, StopGradient, CheckNumerics and others that pass their inputs on."""
    return [given(inputs, i, "input") for i in range(max(len(inputs), 1))]


def forward_first(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """EnsureShape and Print, whose further inputs do not count."""
    return [given(inputs, 0, "input")]


def likeness(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """ZerosLike and OnesLike."""
    check_count(inputs, 1)
    x, value = given(inputs, 0, "x"), int(node.type == "OnesLike")
    shape = single(builder, "Shape", [x])
    return [single(builder, "Fill", [shape], {"value": value, "dtype": x.type.dtype})]


def batch_normalization(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """BatchNormWithGlobalNormalization of 2015: (t - mean) / sqrt(variance + epsilon) * gamma + beta."""
    check_count(inputs, 5)
    x, mean, variance, beta, gamma = (
        given(inputs, i, what) for i, what in enumerate(("t", "mean", "variance", "beta", "gamma"))
    )
    epsilon = scalar_like(variance, number(node, "variance_epsilon"))
    factor = unary(builder, "rsqrt", elementwise(builder, "sum", variance, epsilon))
    if integer(node, "scale_after_normalization", 1):
        factor = elementwise(builder, "prod", factor, gamma)
    scaled = elementwise(builder, "prod", elementwise(builder, "sub", x, mean), factor)
    return [elementwise(builder, "sum", scaled, beta)]


def vector(values: Sequence[int]) -> Array:
    """As layers take shapes."""
    return np.array(values, np.int64)
