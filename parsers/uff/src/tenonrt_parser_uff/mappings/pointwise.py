"""Operations on each element."""

from __future__ import annotations

from tenonrt.contracts import GraphBuilder, SourceNode, Tensor

from tenonrt_parser_uff.emit import Inputs, activation, check_count, chosen, elementwise, given, number, unary

_BINARY = {"min": "min", "max": "max", "mul": "prod", "sub": "sub", "div": "div", "add": "sum", "pow": "pow"}
_UNARY = {
    name: name
    for name in "neg exp log abs sqrt rsqrt square sin cos tan sinh cosh asin acos atan asinh acosh atanh ceil floor "
    "pow".split()
}
_ACTIVATIONS = {name: name for name in "relu relu6 sigmoid tanh elu selu softsign softplus".split()}


def binary(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Broadcast as NumPy does."""
    check_count(inputs, 2)
    operation = chosen(node, "func", _BINARY)
    return [elementwise(builder, operation, given(inputs, 0, "left"), given(inputs, 1, "right"))]


def unary_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """With one exception: converters write TensorFlow's Pow, of two inputs, as the Unary "pow"."""
    operation = chosen(node, "func", _UNARY)
    check_count(inputs, 2 if operation == "pow" else 1)
    x = given(inputs, 0, "input")
    return [
        elementwise(builder, "pow", x, given(inputs, 1, "exponent"))
        if operation == "pow"
        else unary(builder, operation, x)
    ]


def activation_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """relu, relu6, sigmoid and so on."""
    check_count(inputs, 1)
    return [activation(builder, chosen(node, "func", _ACTIVATIONS), given(inputs, 0, "input"))]


def leaky_relu(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """TensorFlow's slope where the file gives none."""
    check_count(inputs, 1)
    return [activation(builder, "leaky_relu", given(inputs, 0, "input"), number(node, "alpha", 0.2))]


def identity(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Its input."""
    check_count(inputs, 1)
    return [given(inputs, 0, "input")]
