"""Layers that work element by element."""

from __future__ import annotations

from functools import reduce
from math import log as natural_log
from typing import Any

import numpy as np
from tenonrt.contracts import GraphBuilder, ParseError, SourceNode, Tensor

from tenonrt_parser_caffe.mappings.operands import (
    Inputs,
    affine,
    binary,
    bottom,
    bottoms,
    filler,
    one,
    rank,
    reshape,
    scalar,
    sizes,
)


def _activation(builder: GraphBuilder, x: Tensor, function: str, **attrs: Any) -> list[Tensor]:
    return [one(builder.add("Activation", [x], {"function": function, **attrs}))]


def relu(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """max(x, 0), or leaky with negative_slope."""
    slope = node.attrs["negative_slope"]
    if slope:
        return _activation(builder, bottom(inputs), "leaky_relu", alpha=slope)
    return _activation(builder, bottom(inputs), "relu")


def relu6(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """x between 0 and 6."""
    return _activation(builder, bottom(inputs), "clip", alpha=0.0, beta=6.0)


def prelu(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """A slope for each channel, or one for all."""
    x = bottom(inputs)
    if rank(x) < 2:
        raise ParseError(f"takes [N, C, ...]; the bottom is {x.type}")
    assumed = filler(node, "filler") or {"type": "constant", "value": 0.25}
    if node.attrs["channel_shared"]:
        slope = node.attrs["blobs"].take(0, (), assumed, "constant")
    else:
        slope = node.attrs["blobs"].take(0, sizes(x, 1, 2), assumed, "constant")
        slope = slope.reshape(1, -1, *(1,) * (rank(x) - 2))
    return [one(builder.add("ParametricRelu", [x, slope]))]


def elu(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """NVCaffe multiplies the result by lambda."""
    (y,) = _activation(builder, bottom(inputs), "elu", alpha=node.attrs["alpha"])
    return [affine(builder, y, scale=node.attrs["lambda"])]


def sigmoid(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """1 / (1 + exp(-x))."""
    return _activation(builder, bottom(inputs), "sigmoid")


def tanh(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The hyperbolic tangent."""
    return _activation(builder, bottom(inputs), "tanh")


def bnll(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """log(1 + exp(x))."""
    return _activation(builder, bottom(inputs), "softplus")


def swish(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """x * sigmoid(beta * x)."""
    return _activation(builder, bottom(inputs), "swish", alpha=node.attrs["beta"])


def clip(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """x between min and max."""
    low, high = node.attrs["min"], node.attrs["max"]
    if low is None or high is None:
        raise ParseError("needs both min and max")
    return _activation(builder, bottom(inputs), "clip", alpha=low, beta=high)


def absval(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """|x|."""
    return [one(builder.add("Unary", [bottom(inputs)], {"operation": "abs"}))]


def threshold(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """1 above the threshold, else 0."""
    above = binary(builder, "greater", bottom(inputs), scalar(node.attrs["threshold"]))
    return [one(builder.add("Cast", [above], {"to": "float32"}))]


def power(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """(shift + scale * x) ** power."""
    x, exponent = bottom(inputs), node.attrs["power"]
    inner = affine(builder, x, node.attrs["shift"], node.attrs["scale"])
    if exponent == 2:  # a product fuses with its neighbours, a general power is slow
        return [binary(builder, "prod", inner, inner)]
    return [affine(builder, x, node.attrs["shift"], node.attrs["scale"], exponent)]


def exp(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """base ** (shift + scale * x); the base -1 stands for e."""
    factor = _base(node)
    inner = affine(builder, bottom(inputs), node.attrs["shift"] * factor, node.attrs["scale"] * factor)
    return [one(builder.add("Unary", [inner], {"operation": "exp"}))]


def log(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The logarithm of shift + scale * x to a base; -1 stands for e."""
    factor = _base(node)
    if factor == 0:
        raise ParseError("base is 1, to which there is no logarithm")
    inner = affine(builder, bottom(inputs), node.attrs["shift"], node.attrs["scale"])
    return [affine(builder, one(builder.add("Unary", [inner], {"operation": "log"})), scale=1 / factor)]


def _base(node: SourceNode) -> float:
    base = node.attrs["base"]
    if base == -1:
        return 1.0
    if not base > 0:
        raise ParseError(f"base is {base}; it must be above 0, or -1 for e")
    return natural_log(base)


_ELTWISE = {"PROD": "prod", "SUM": "sum", "MAX": "max"}


def eltwise(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Sum with coefficients, product or maximum of bottoms of one shape."""
    operands, operation = bottoms(inputs, 2, -1), _ELTWISE[node.attrs["operation"]]
    coefficients = node.attrs["coeff"]
    for other in operands[1:]:
        if other.type.shape != operands[0].type.shape:
            raise ParseError(f"bottoms differ in shape: {operands[0].type} and {other.type}")
    if coefficients and (operation != "sum" or len(coefficients) != len(operands)):
        raise ParseError(f"has {len(coefficients)} coefficients and {len(operands)} bottoms; they are for sums")
    if not coefficients:
        return [reduce(lambda a, b: binary(builder, operation, a, b), operands)]
    total = affine(builder, operands[0], scale=coefficients[0])
    for x, factor in zip(operands[1:], coefficients[1:], strict=True):
        total = binary(builder, "sub" if factor == -1 else "sum", total,
                       x if factor == -1 else affine(builder, x, scale=factor))  # fmt: skip
    return [total]


def scale(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Multiply by a blob, or by the second bottom, along axes from ``axis``; then add a blob if bias_term says so."""
    x, *second = bottoms(inputs, 1, 2)
    start, shape = _covered(node, x, second)
    blobs = node.attrs["blobs"]
    ones = {"type": "constant", "value": 1.0}
    factor = second[0] if second else blobs.take(0, shape, filler(node, "filler") or ones, "constant")
    bias = None
    if node.attrs["bias_term"]:
        covered = sizes(x, start, start + rank(second[0])) if second else shape
        bias = blobs.take(0 if second else 1, covered, filler(node, "bias_filler"), "constant")
    if not second:
        return [_scaled(builder, x, start, factor, bias)]
    product = binary(builder, "prod", x, _aligned(builder, factor, start, x))
    return [product if bias is None else _scaled(builder, product, start, None, bias)]


def axpy(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The first bottom, [N, C] or [N, C, 1, 1], times the second, plus the third (SENet)."""
    factor, x, y = bottoms(inputs, 3)
    if x.type.shape != y.type.shape or rank(x) < 2 or factor.type.shape[:2] != x.type.shape[:2]:
        raise ParseError(f"bottoms are {factor.type}, {x.type} and {y.type}; they must be [N, C] and two [N, C, ...]")
    if any(size != 1 for size in factor.type.shape[2:]):
        raise ParseError(f"the first bottom is {factor.type}; it must have one value for each channel")
    factor = reshape(builder, factor, (*x.type.shape[:2], *[1] * (rank(x) - 2)))
    return [binary(builder, "sum", binary(builder, "prod", x, factor), y)]


def bias(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Add a blob, or the second bottom, along axes from ``axis``."""
    x, *second = bottoms(inputs, 1, 2)
    start, shape = _covered(node, x, second)
    if second:
        return [binary(builder, "sum", x, _aligned(builder, second[0], start, x))]
    return [_scaled(builder, x, start, None, node.attrs["blobs"].take(0, shape, filler(node, "filler"), "constant"))]


def _covered(node: SourceNode, x: Tensor, second: list[Tensor]) -> tuple[int, tuple[int, ...]]:
    """The first axis, and the sizes of those that a learned parameter spans."""
    start, count = int(node.attrs["axis"]), int(node.attrs["num_axes"])
    if not -rank(x) <= start < max(rank(x), 1):
        raise ParseError(f"axis is {start}; the bottom is {x.type}")
    start = start % rank(x) if rank(x) else 0
    if second:
        end = start + rank(second[0])
    elif count == -1:
        end = rank(x)
    else:
        end = start + count
    if not start <= end <= rank(x):
        raise ParseError(f"axis {start} and num_axes {count} reach past the bottom, {x.type}")
    if second:
        if x.type.shape[start:end] != second[0].type.shape:
            raise ParseError(f"the second bottom, {second[0].type}, does not fit {x.type} from axis {start} on")
        return start, ()
    return start, sizes(x, start, end)


def _aligned(builder: GraphBuilder, y: Tensor, start: int, x: Tensor) -> Tensor:
    """y with axes of length one behind, so that its first one lies at ``start`` of x."""
    behind = rank(x) - start - rank(y)
    if not behind:
        return y
    return one(builder.add("Unsqueeze", [y], {"axes": tuple(range(rank(y), rank(y) + behind))}))


def _scaled(builder: GraphBuilder, x: Tensor, start: int, factor: Any, shift: Any) -> Tensor:
    values = factor if factor is not None else shift
    if values.size == 1:
        flat = [None if v is None else v.reshape(1) for v in (shift, factor)]
        return one(builder.add("Scale", [x, *flat], {"mode": "uniform"}))
    if values.ndim == 1:
        return one(builder.add("Scale", [x, shift, factor], {"mode": "channel", "axis": start}))
    behind = (1,) * (rank(x) - start - values.ndim)
    operands = [None if v is None else np.ascontiguousarray(v.reshape(*v.shape, *behind)) for v in (shift, factor)]
    return one(builder.add("Scale", [x, *operands], {"mode": "elementwise"}))
