"""Attention as graphs write it: which layers belong to it, and how its operands lie in the tensors that it reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tenonrt.contracts import MOVES, Dimension, GraphView, Layer, Problem, ProblemLayer, attention_layers

from tenonrt_kernel_llvm import operations
from tenonrt_kernel_llvm.layouts import Layout

_POINTWISE = frozenset({"Activation", "Elementwise", "Unary", "Select", "Cast"})


# regions of a graph -------------------------------------------------------------------------------------------------


def attention_regions(view: GraphView, first: Layer) -> Iterator[Sequence[Layer]]:
    """From a product of queries and keys to that with the values; then with the movement of data around it too."""
    found = attention_layers(view, first, _POINTWISE)
    if found is not None:
        wide = (*found.before, *found.core)
        yield from dict.fromkeys((found.core, wide, (*wide, *found.after)))


# the problem of a region --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """An operand: the tensor it is read from, how it lies there, and the factor it is multiplied by."""

    number: int
    layout: Layout
    factor: float


@dataclass(frozen=True)
class Attention:
    """scores = factor * queries @ keys, changed by ``middle``; result = softmax(scores) @ values.

    queries [*batch, rows, depth], keys [*batch, depth, keys], values [*batch, keys, columns], all strided.
    """

    batch: tuple[Dimension, ...]
    rows: int
    depth: int
    keys: int
    columns: int
    query: Source
    key: Source
    value: Source
    result: Layout
    middle: tuple[ProblemLayer, ...]
    operands: dict[int, Layout]  # what ``middle`` reads, over all scores
    scores: int
    changed: int
    guarded: bool  # rows that are NaN become zeros


def read_attention(problem: Problem) -> Attention | str:
    """The attention of a problem, or why it is none."""
    try:
        return _Reading(problem).attention()
    except _OtherwiseError as why:
        return str(why)


_T = TypeVar("_T")


class _OtherwiseError(Exception):
    """The problem is no attention that is known here."""


def _need(value: _T | None, why: str) -> _T:
    if value is None or value is False:
        raise _OtherwiseError(why)
    return value


class _Reading:
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.types = problem.types
        self.producers = {layer.outputs[0]: layer for layer in problem.layers}
        self.rest = dict.fromkeys(problem.layers)  # layers whose part is not yet known
        self.values = operations.scalar_values(problem)

    def attention(self) -> Attention:
        products = [layer for layer in self.problem.layers if layer.kind == "MatrixMultiply"]
        softmaxes = [layer for layer in self.problem.layers if layer.kind == "Softmax"]
        _need(len(products) == 2 and len(softmaxes) == 1 and len(self.problem.outputs) == 1, "it is no attention")
        (first, second), (softmax,) = products, softmaxes
        for layer in (first, second, softmax):
            self.rest.pop(layer, None)
        scores, type = first.outputs[0], self.types[first.outputs[0]]
        rank = type.rank
        _need(type.dtype == "float32" and rank >= 2, f"its scores are {type}")
        _need(not softmax.attrs.log and softmax.attrs.axis in (-1, rank - 1), "its softmax is along another axis")
        guarded = self._guard(softmax.outputs[0], second)
        _need(not second.attrs.transpose_a, "the probabilities are transposed")
        batch, rows, keys = type.shape[:-2], type.shape[-2], type.shape[-1]
        query = self._operand(first.inputs[0], first.attrs.transpose_a, batch)
        key = self._operand(first.inputs[1], first.attrs.transpose_b, batch)
        value = self._operand(second.inputs[1], second.attrs.transpose_b, batch)
        depth, columns = query.layout.shape[-1], value.layout.shape[-1]
        result = self._result(second.outputs[0])
        sizes = [rows, depth, keys, columns]
        _need(all(isinstance(n, int) and n > 0 for n in sizes), "a size of its matrices changes at run time or is 0")
        _need(result.shape == (*batch, rows, columns), "its values have more batches than its scores")
        operands = self._middle(scores, softmax.inputs[0])
        static = [n for n in sizes if isinstance(n, int)]
        return Attention(
            batch, static[0], static[1], static[2], static[3], query, key, value, result,
            tuple(self.rest), operands, scores, softmax.inputs[0], guarded,
        )  # fmt: skip

    def _guard(self, softmax: int, second: ProblemLayer) -> bool:
        """Whether NaN are replaced by zeros between the softmax and the product."""
        if second.inputs[0] == softmax:
            return False
        select = _need(self.producers.get(second.inputs[0]), "the probabilities are an input")
        _need(select.kind == "Select" and select.inputs[2] == softmax, f"{select.kind} follows its softmax")
        asked = _need(self.producers.get(select.inputs[0]), "the probabilities are chosen by an input")
        _need(
            asked.kind == "Unary" and asked.attrs.operation == "is_nan" and asked.inputs[0] == softmax,
            "the probabilities are chosen by something else than being NaN",
        )
        _need(self.values.get(select.inputs[1]) == 0, "NaN become something else than 0")
        self.rest.pop(select, None)
        self.rest.pop(asked, None)
        return True

    def _operand(self, number: int, transpose: bool, batch: Sequence[Dimension]) -> Source:
        found = self._trace(number)
        _need(self.types[found.number].dtype == "float32" and len(found.layout.shape) >= 2, "an operand is a vector")
        layout = found.layout.swap_last() if transpose else found.layout
        spread = _need(layout.broadcast((*batch, *layout.shape[-2:])), "its operands have more batches than its scores")
        return Source(found.number, spread, found.factor)

    def _trace(self, number: int) -> Source:
        layer = self.producers.get(number)
        if layer is None:
            layout = _need(Layout.dense(self.types[number]), "an inner size changes at run time")
            return Source(number, layout, 1.0)
        self.rest.pop(layer, None)
        if layer.kind == "Elementwise":
            return self._scaled(layer)
        source = self._trace(layer.inputs[0])
        return Source(source.number, self._moved(layer, source.layout), source.factor)

    def _scaled(self, layer: ProblemLayer) -> Source:
        a, b = layer.inputs
        if layer.attrs.operation == "prod" and a in self.values:
            a, b = b, a
        factor = _need(self.values.get(b), "an operand is scaled by more than one number")
        _need(layer.attrs.operation in ("prod", "div") and factor, f"an operand is changed by {layer.attrs.operation}")
        source = self._trace(a)
        _need(self.types[layer.outputs[0]].rank == len(source.layout.shape), "a scale adds axes")
        scaled = source.factor * factor if layer.attrs.operation == "prod" else source.factor / factor
        return Source(source.number, source.layout, scaled)

    def _moved(self, layer: ProblemLayer, layout: Layout) -> Layout:
        if layer.kind == "Transpose":
            return layout.permute(_order(layer, len(layout.shape)))
        _need(layer.kind in MOVES, f"{layer.kind} comes before it")
        return _need(layout.reshape(self.types[layer.outputs[0]].shape), "an operand's axes are merged across others")

    def _result(self, product: int) -> Layout:
        """How the product lies in the output, from there back through the layers that move it."""
        output = self.problem.outputs[0]
        _need(self.types[output].dtype == "float32", "its result is cast")
        layout = _need(Layout.dense(self.types[output]), "an inner size of the result changes at run time")
        while output != product:
            layer = _need(self.producers.get(output), "its result is not the output")
            self.rest.pop(layer, None)
            if layer.kind == "Transpose":
                order = _order(layer, len(layout.shape))
                layout = layout.permute([order.index(i) for i in range(len(order))])
            else:
                _need(layer.kind in MOVES, f"{layer.kind} follows it")
                layout = _need(layout.reshape(self.types[layer.inputs[0]].shape), "the result's axes are merged")
            output = layer.inputs[0]
        return layout

    def _middle(self, scores: int, changed: int) -> dict[int, Layout]:
        """What the layers between scores and softmax read beside the scores."""
        made, operands = {scores}, dict[int, Layout]()
        shape = self.types[scores].shape
        for layer in self.rest:
            _need(layer.kind in _POINTWISE, f"{layer.kind} is between its scores and its softmax")
            why = operations.refusal(self.problem, layer)
            _need(not why, f"between scores and softmax there is {why}")
            for number in layer.inputs:
                if number in made or number < 0:
                    continue
                _need(number < len(self.problem.inputs), "its mask is computed inside")
                layout = _need(Layout.dense(self.types[number]), "an inner size of its mask changes at run time")
                operands[number] = _need(layout.broadcast(shape), f"its mask is {self.types[number]}")
            made.update(layer.outputs)
        _need(changed in made and self.types[changed].dtype == "float32", "its softmax is of something else")
        return operands


def _order(layer: ProblemLayer, rank: int) -> list[int]:
    given = layer.attrs.permutation or tuple(reversed(range(rank)))
    return [axis % rank for axis in given]
