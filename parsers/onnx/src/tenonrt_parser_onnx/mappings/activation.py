"""Activation functions. A parameter that the model leaves out is left to the layer, whose defaults are ONNX's."""

from __future__ import annotations

from tenonrt.contracts import GraphBuilder, LayerMapping, SourceNode, Tensor, is_float

from tenonrt_parser_onnx.mappings.arguments import (
    Inputs,
    constant_number,
    emit,
    optional_number,
    present,
    required,
    text,
)


def activation(function: str, alpha: str | None = None, beta: str | None = None) -> LayerMapping:
    """A function whose parameters are the attributes named."""

    def mapping(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
        parameters = {
            "alpha": optional_number(node, alpha) if alpha else None,
            "beta": optional_number(node, beta) if beta else None,
        }
        attrs = {"function": function, **parameters}
        return list(emit(builder, node, "Activation", [required(inputs, 0, "X")], attrs))

    return mapping


def gelu(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The exact function, or its tanh approximation (opset 20)."""
    approximate = text(node, "approximate", "none", ("none", "tanh"))
    attrs = {"function": "gelu" if approximate == "none" else "gelu_tanh"}
    return list(emit(builder, node, "Activation", [required(inputs, 0, "X")], attrs))


def prelu(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """A slope for negative inputs, broadcast to them; before opset 7 a vector of slopes was one per channel."""
    x, slope = required(inputs, 0, "X"), required(inputs, 1, "slope")
    if node.version < 7 and slope.info.rank == 1 and slope.info.shape != (1,) and x.info.rank > 2:
        axes = tuple(range(1, x.info.rank - 1))
        (slope,) = emit(builder, node, "Unsqueeze", [slope], {"axes": axes}, part="slope")
    return list(emit(builder, node, "ParametricRelu", [x, slope]))


def clip(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Bounds are attributes before opset 11, then inputs; those that are not constants, or not floats, are compared."""
    x = required(inputs, 0, "input")
    if node.version < 11:
        return _clip(builder, node, x, optional_number(node, "min"), optional_number(node, "max"))
    lower, upper = present(inputs, 1), present(inputs, 2)
    low = constant_number(lower) if lower is not None else None
    high = constant_number(upper) if upper is not None else None
    known = (low is None) == (lower is None) and (high is None) == (upper is None)
    if known and is_float(x.info.dtype):
        return _clip(builder, node, x, low, high)
    return _compare(builder, node, x, lower, upper)


def _clip(builder: GraphBuilder, node: SourceNode, x: Tensor, low: float | None, high: float | None) -> list[Tensor]:
    return list(emit(builder, node, "Activation", [x], {"function": "clip", "alpha": low, "beta": high}))


def _compare(
    builder: GraphBuilder, node: SourceNode, x: Tensor, lower: Tensor | None, upper: Tensor | None
) -> list[Tensor]:
    """The smaller of upper and (the larger of lower and x), which is upper where the bounds cross, as ONNX says."""
    if lower is None and upper is None:
        return list(emit(builder, node, "Identity", [x]))
    if lower is not None:
        part = "max" if upper is not None else ""
        (x,) = emit(builder, node, "Elementwise", [x, lower], {"operation": "max"}, part=part)
    if upper is not None:
        (x,) = emit(builder, node, "Elementwise", [x, upper], {"operation": "min"})
    return [x]


relu = activation("relu")
sigmoid = activation("sigmoid")
tanh = activation("tanh")
softsign = activation("softsign")
softplus = activation("softplus")
hard_swish = activation("hard_swish")
mish = activation("mish")
leaky_relu = activation("leaky_relu", "alpha")
elu = activation("elu", "alpha")
celu = activation("celu", "alpha")
thresholded_relu = activation("thresholded_relu", "alpha")
swish = activation("swish", "alpha")
selu = activation("selu", "alpha", "gamma")
hard_sigmoid = activation("hard_sigmoid", "alpha", "beta")
shrink = activation("shrink", "lambd", "bias")
