"""Nodes that training for eight bits leaves in a graph: they round to what the integers could say."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import GraphBuilder, ParseError, SourceNode, Tensor

from tenonrt_parser_uff.emit import (
    Inputs,
    check_count,
    elementwise,
    flag,
    given,
    integer,
    number,
    single,
    unary,
)


def fake_quantization(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """FakeQuantWithMinMaxVars, whose range is two constants, and ...Args, where it is two attributes."""
    x = given(inputs, 0, "inputs")
    if node.type.endswith("Args"):
        check_count(inputs, 1)
        least, most = number(node, "min", -6.0), number(node, "max", 6.0)
    else:
        check_count(inputs, 3)
        least, most = (_constant(given(inputs, i, what)) for i, what in ((1, "min"), (2, "max")))
    bits, lowest = integer(node, "num_bits", 8), int(flag(node, "narrow_range"))
    if not 2 <= bits <= 16 or not least < most:
        raise ParseError(f"'num_bits' is {bits}, its range {least} to {most}")
    low, high, scale = nudged(least, most, lowest, 2**bits - 1)
    clipped = single(builder, "Activation", [x], {"function": "clip", "alpha": low, "beta": high})
    dtype = x.type.numpy
    steps = elementwise(
        builder, "div", elementwise(builder, "sub", clipped, np.array(low, dtype)), np.array(scale, dtype)
    )
    whole = unary(builder, "floor", elementwise(builder, "sum", steps, np.array(0.5, dtype)))
    spread = elementwise(builder, "prod", whole, np.array(scale, dtype))
    return [elementwise(builder, "sum", spread, np.array(low, dtype))]


def nudged(least: float, most: float, lowest: int, highest: int) -> tuple[float, float, float]:
    """A range that has zero among its integers, and the size of a step (Jacob et al. 2018)."""
    scale = (most - least) / (highest - lowest)
    zero = min(max(round(lowest - least / scale), lowest), highest)
    return (lowest - zero) * scale, (highest - zero) * scale, scale


def _constant(tensor: Tensor) -> float:
    if tensor.constant is None or tensor.constant.size != 1:
        raise ParseError(f"the range must be constant, but {tensor.name!r} is computed")
    return float(tensor.constant.reshape(-1)[0])
