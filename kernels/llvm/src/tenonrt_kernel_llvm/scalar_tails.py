"""Tails that read nothing but the result and known numbers: they go with any anchor, in any format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tenonrt.contracts import GraphView, Layer, Problem, ProblemLayer, Tensor, only_reader

from tenonrt_kernel_llvm.emitter import Function, Value, element_of, is_float, lanes_of, vector
from tenonrt_kernel_llvm.operations import REGISTER, compute, scalar_values
from tenonrt_kernel_llvm.tails import MAX_TAIL, read_tail

_KINDS = frozenset({"Activation", "ParametricRelu", "Elementwise", "Unary", "Select"})


def regions_with_scalar_tail(view: GraphView, anchor: Layer) -> Iterator[Sequence[Layer]]:
    """The anchor with its longest tail of such layers."""
    region = [anchor]
    while len(region) < MAX_TAIL:
        result = region[-1].outputs[0]
        reader = only_reader(view, result)
        if reader is None or not _fits(reader, result):
            break
        region.append(reader)
    yield region


def _fits(layer: Layer, result: Tensor) -> bool:
    types = [t.type for t in (*layer.inputs, *layer.outputs) if t is not None]
    if layer.kind not in _KINDS or any(type.dtype != "float32" for type in types):
        return False
    others = [t for t in layer.inputs if t is not None and t is not result]
    known = all(t.constant is not None and t.constant.size == 1 for t in others)
    return known and layer.outputs[0].type.shape == result.type.shape


@dataclass(frozen=True)
class ScalarTail:
    """Layers after the anchor; ``result`` is the tensor that the anchor writes."""

    problem: Problem
    layers: tuple[ProblemLayer, ...]
    result: int

    def apply(self, fn: Function, value: Value) -> Value:
        """What the region's output is where the anchor's is ``value``."""
        if not self.layers:
            return value
        values = {self.result: value}
        for number, known in scalar_values(self.problem).items():
            element = REGISTER[self.problem.types[number].dtype]
            values[number] = fn.constant(vector(lanes_of(value.type), element), known)
        compute(fn, self.problem, self.layers, values)
        found = values[self.layers[-1].outputs[0]]
        assert is_float(element_of(found.type))
        return found


def scalar_tail(problem: Problem) -> ScalarTail | str:
    """The tail of a problem whose first layer is the anchor, or why it is no such tail."""
    tail = read_tail(problem)
    if isinstance(tail, str):
        return tail
    known = scalar_values(problem)
    if any(number not in known for number in tail.operands):
        return "its tail reads another tensor"
    if problem.types[problem.outputs[0]].dtype != "float32":
        return "its tail ends in no float32"
    return ScalarTail(problem, tail.layers, tail.result)
