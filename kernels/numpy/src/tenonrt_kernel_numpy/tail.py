"""The pointwise tail that a matrix product takes along: ReLU or clip, and the sum with a tensor of the same shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tenonrt.contracts import Array, GraphView, Layer, Problem, ProblemLayer, only_reader


@dataclass(frozen=True)
class Step:
    """``ufunc(y, value)``, or ``ufunc(y, input)`` with a position in launch's inputs."""

    ufunc: np.ufunc
    value: float = 0.0
    operand: int | None = None


def regions_with_tail(view: GraphView, layer: Layer) -> Iterator[Sequence[Layer]]:
    """The layer alone, then with each longer tail; every kind of follower at most once."""
    region = [layer]
    while True:
        yield tuple(region)
        follower = _follower(view, region[-1])
        if follower is None or follower.kind in [member.kind for member in region]:
            return
        region.append(follower)


def _follower(view: GraphView, layer: Layer) -> Layer | None:
    """The only reader of a layer's result, when it can be applied in place."""
    result = layer.outputs[0]
    reader = only_reader(view, result)
    if reader is None or reader.outputs[0].type != result.type:
        return None
    if reader.kind == "Activation" and reader.attrs.function in ("relu", "clip"):
        return reader
    if reader.kind == "Elementwise" and reader.attrs.operation == "sum":
        others = [t for t in reader.inputs if t is not None and t is not result]
        if len(others) == 1 and others[0].constant is None and others[0].type == result.type:
            return reader
    return None


def read_tail(problem: Problem) -> list[Step] | str:
    """What the layers after the first do to its result, or why they are no such tail."""
    current, steps = problem.layers[0].outputs[0], list[Step]()
    for layer in problem.layers[1:]:
        if current not in layer.inputs or current in problem.outputs:
            return "the region is not a chain"
        more = _activation(layer) if layer.kind == "Activation" else _sum(problem, layer, current)
        if isinstance(more, str):
            return more
        steps += more
        current = layer.outputs[0]
    return steps if problem.outputs == (current,) else "an interior result is wanted outside of the region"


def _activation(layer: ProblemLayer) -> list[Step] | str:
    attrs = layer.attrs
    if attrs.function == "relu":
        return [Step(np.maximum, 0.0)]
    if attrs.function != "clip":
        return f"the activation {attrs.function} does not work in place"
    bounds = ((np.maximum, attrs.alpha), (np.minimum, attrs.beta))
    return [Step(ufunc, float(value)) for ufunc, value in bounds if value is not None]


def _sum(problem: Problem, layer: ProblemLayer, current: int) -> list[Step] | str:
    if layer.kind != "Elementwise" or layer.attrs.operation != "sum":
        return f"{layer.kind} is no activation and no sum"
    others = [t for t in layer.inputs if t != current]
    if len(others) != 1 or others[0] not in problem.activations:
        return "the sum is not with one computed tensor from outside of the region"
    if problem.types[others[0]] != problem.types[current]:
        return f"the sum broadcasts {problem.types[others[0]]}"
    return [Step(np.add, operand=problem.activations.index(others[0]))]


def finish(result: Array, bias: Array | None, steps: Sequence[Step], operands: Sequence[Array | None]) -> None:
    """Add the bias and apply the tail in place; ``operands`` are launch's inputs, cut as ``result`` was."""
    if bias is not None:
        np.add(result, bias, out=result)
    for step in steps:
        other = step.value if step.operand is None else operands[step.operand]
        step.ufunc(result, other, out=result)
