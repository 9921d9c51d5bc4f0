"""Layer, RMS, instance, group and Lp normalization: statistics of dense rows in two passes, then the scaled result.

The variance is that of differences from the mean, which are read again from cache: sums of squares would lose it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from tenonrt.contracts import (
    Array,
    Code,
    Dimension,
    GraphView,
    Layer,
    Problem,
    ProblemLayer,
    Shape,
    Support,
    Tactic,
    Weights,
    normalize_axis,
)

from tenonrt_kernel_llvm import mathematics as m
from tenonrt_kernel_llvm.accumulation import accumulation, combine_lanes
from tenonrt_kernel_llvm.emitter import FLOAT, I64, Index, Value, vector
from tenonrt_kernel_llvm.indexing import empty, items_phase, known, plus, times
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.rows import (
    State,
    along_columns,
    column_tiles,
    each_column_tile,
    keep_lanes,
    leading_sizes,
    linear_index,
    row_ways,
    sweep,
)
from tenonrt_kernel_llvm.target import BLOCK, Target

_WAYS = 4  # sums at a time, which hides the latency of additions
_LATER = 0  # a size that is symbolic: code is made when it is known
_ROW_KINDS = ("LayerNormalization", "RmsNormalization")


class NormalizationKernel(LlvmKernel):
    """One kind of normalization, of its input or of the sum of two tensors just before it."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        yield [layer]
        source = layer.inputs[0]
        before = None if source is None else view.producer(source)
        if before is None or layer.kind not in _ROW_KINDS or before.kind != "Elementwise":
            return
        constants = all(t is None or t.constant is not None for t in layer.inputs[1:])
        alike = all(t is not None and t.type == before.outputs[0].type for t in before.inputs)
        if constants and alike and before.attrs.operation == "sum":
            yield [before, layer]

    def supports(self, problem: Problem) -> Support:
        shape = _read(problem)
        if isinstance(shape, str):
            return Support(False, shape)
        symbols = runtime_symbols(problem)
        return Support(True, runtime_symbols=symbols if shape.axis or not problem.symbols else ())

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        normalized = problem.layers[-1].outputs[0]
        last = problem.outputs.index(normalized) if normalized in problem.outputs else None
        pairs = () if last is None else ((last, 0),)
        return (Tactic("linear", inplace=pairs),)

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        routine = Routine(problem, tactic, target, packed=len(problem.constants))
        shape = _read(problem)
        assert isinstance(shape, _Normalized)
        code = _Columns(routine, shape) if shape.inner != 1 else _Rows(routine, shape)
        code.emit()
        return routine.code()

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Scale and bias as long as what they are applied to: a row, or the channels."""
        shape = _read(code.problem)
        assert isinstance(shape, _Normalized)
        return [_expanded(array, shape.parameter_shape) for array in weights.constants]


def _expanded(array: Array, shape: Shape) -> Array:
    """A parameter broadcast to a shape whose leading sizes of one it may have, too."""
    sizes = tuple(known(d) for d in shape)
    lead = array.ndim - len(sizes)
    trimmed = array.reshape(array.shape[lead:]) if lead > 0 else array
    return np.ascontiguousarray(np.broadcast_to(trimmed, sizes), np.float32)


@dataclass(frozen=True)
class _Normalized:
    """What is normalized: rows of ``size`` from ``axis`` on, or along an axis that ``inner`` elements lie behind.

    channels: how many values of scale and bias a row takes, each for size / channels elements; None: one an element.
    """

    layer: ProblemLayer
    axis: int
    outer: tuple[Dimension, ...]
    size: int
    inner: int = 1
    channels: int | None = None
    parameter_shape: Shape = ()

    @property
    def centered(self) -> bool:
        return self.layer.kind not in ("RmsNormalization", "LpNormalization")


def _read(problem: Problem) -> _Normalized | str:
    """The normalization of a problem, or why it is not computed here."""
    layer = problem.layers[-1]
    source = problem.types[layer.inputs[0]]
    if any(problem.types[t].dtype != "float32" for t in (*layer.inputs, *layer.outputs) if t >= 0):
        return f"a normalization of {source.dtype}, or with parameters of another type"
    if any(problem.types[t] != source for before in problem.layers[:-1] for t in before.inputs):
        return "a sum of tensors of different types"
    if empty(source):
        return "an empty tensor"
    found = _shape(layer, source.shape)
    if isinstance(found, str):
        return found
    return next((why for t in layer.inputs[1:] if t >= 0 and (why := _misfit(problem, t, found))), found)


def _shape(layer: ProblemLayer, shape: Shape) -> _Normalized | str:
    attrs = layer.attrs
    if layer.kind in (*_ROW_KINDS, "LpNormalization"):
        axis = normalize_axis(attrs.axis, len(shape))
        end = axis + 1 if layer.kind == "LpNormalization" else len(shape)
        sizes, inner = shape[axis:end], shape[end:]
        if not all(isinstance(d, int) for d in (*sizes, *inner)):
            return _Normalized(layer, axis, (), _LATER, parameter_shape=sizes)
        return _Normalized(
            layer, axis, shape[:axis], math.prod(map(known, sizes)), math.prod(map(known, inner)), None, sizes
        )
    if not all(isinstance(d, int) for d in shape[1:]):
        return _Normalized(layer, 1, (), _LATER, parameter_shape=shape[1:2])
    channels = known(shape[1])
    groups = attrs.groups if layer.kind == "GroupNormalization" else channels
    size = math.prod(known(d) for d in shape[1:]) // groups
    return _Normalized(layer, 1, (shape[0], groups), size, 1, channels // groups, (channels,))


def _misfit(problem: Problem, number: int, found: _Normalized) -> str:
    """Why a parameter cannot be read; empty when it can."""
    type, shape = problem.types[number], found.parameter_shape
    lead = type.shape[: max(0, type.rank - len(shape))]
    if any(d != 1 for d in lead):
        return f"a parameter {type} that differs from row to row"
    constant = problem.inputs[number].role == "constant" if number < len(problem.inputs) else False
    if not constant and type.shape[len(lead) :] != shape:
        return f"a computed parameter {type}, which would have to be broadcast"
    return ""


class _Rows:
    """The code where what is normalized together lies together."""

    def __init__(self, routine: Routine, shape: _Normalized) -> None:
        self.routine, self.fn, self.shape = routine, routine.function, shape
        problem = routine.problem
        self.outer = leading_sizes(shape.outer)
        self.attrs = shape.layer.attrs
        self.results = {n: o.pointer for n, o in zip(problem.outputs, routine.outputs, strict=True)}
        self.given = {n: o.pointer for n, o in zip(problem.activations, routine.inputs, strict=True)}
        self.given |= dict(zip(problem.constants, routine.packed, strict=True))
        self.parameters = [self.given[t] if t >= 0 else None for t in (*shape.layer.inputs[1:], -1, -1)][:2]

    def emit(self) -> None:
        """One phase over rows."""
        items_phase(self.routine, self.outer, 3 * self.shape.size, self._row_at)

    def _row_at(self, at: list[Index]) -> None:
        fn, row = self.fn, linear_index(at, self.outer)
        start = times(row, 4 * self.shape.size)
        target = self._written(self.shape.layer.outputs[0], start)
        source = self._source(start, target)
        mean, inverse = self._statistics(source)
        for number, value in zip(self.shape.layer.outputs[1:], (mean, inverse), strict=False):
            if number in self.results and value is not None:
                fn.store(fn.extract(value, 0), fn.offset(self.results[number], times(row, 4)))
        if self.shape.channels is None:
            self._scale_row(source, target, mean, inverse)
        else:
            self._scale_channels(at[-1], source, target, mean, inverse)

    def _written(self, number: int, start: Index) -> Value:
        return self.fn.offset(self.results[number], start)

    def _source(self, start: Index, target: Value) -> Value:
        """The row to normalize; the sum of two is first made, where it is wanted or else where the result will be."""
        fn, problem = self.fn, self.routine.problem
        if len(problem.layers) == 1:
            return fn.offset(self.given[self.shape.layer.inputs[0]], start)
        number = problem.layers[0].outputs[0]
        summed = self._written(number, start) if number in self.results else target
        a, b = (fn.offset(self.given[t], start) for t in problem.layers[0].inputs)

        def added(at: Index, count: int, state: State) -> State:
            x, y = (fn.load_lanes(vector(BLOCK), pointer, count, at) for pointer in (a, b))
            fn.store_lanes(x + y, summed, count, at)
            return []

        sweep(fn, self.shape.size, added, [[]] * row_ways(self.shape.size, 2))
        return summed

    # statistics ------------------------------------------------------------------------------------------------------

    def _total(self, name: str, source: Value, minus: Value | None = None) -> Value:
        """A sum over the row, in every lane."""
        fn, acc = self.fn, accumulation(self.fn, name)

        def added(at: Index, count: int, state: State) -> State:
            x = fn.load_lanes(vector(BLOCK), source, count, at)
            if minus is not None:
                x = keep_lanes(fn, x - minus, count, fn.zero(x.type))
            return [acc.step(state[0], x, 0)]

        first = [[acc.initial(BLOCK)]] * row_ways(self.shape.size, _WAYS)
        total, *others = [state[0] for state in sweep(fn, self.shape.size, added, first)]
        for other in others:
            total = acc.merge(total, other)
        return fn.splat(combine_lanes(fn, acc, total), BLOCK)

    def _statistics(self, source: Value) -> tuple[Value | None, Value]:
        """The mean, and what differences from it are multiplied by."""
        size = float(self.shape.size)
        if self.shape.layer.kind == "LpNormalization":
            return None, _reciprocal_norm(self, self._total("l1" if self.attrs.p == 1 else "sum_square", source))
        if not self.shape.centered:
            return None, self._inverse_root(self._total("sum_square", source) / size)
        mean = self._total("sum", source) / size
        return mean, self._inverse_root(self._total("sum_square", source, mean) / size)

    def _inverse_root(self, variance: Value) -> Value:
        """1 / sqrt(variance + epsilon)."""
        root = m.square_root(self.fn, variance + float(self.attrs.epsilon))
        return self.fn.constant(root.type, 1.0) / root

    # results ---------------------------------------------------------------------------------------------------------

    def _scale_row(self, source: Value, target: Value, mean: Value | None, inverse: Value) -> None:
        """(x - mean) * inverse * scale + bias, with a scale and a bias for each element."""
        fn, (scale, bias) = self.fn, self.parameters

        def scaled(at: Index, count: int, state: State) -> State:
            x = fn.load_lanes(vector(BLOCK), source, count, at)
            y = (x if mean is None else x - mean) * inverse
            factor = None if scale is None else fn.load_lanes(vector(BLOCK), scale, count, at)
            offset = None if bias is None else fn.load_lanes(vector(BLOCK), bias, count, at)
            fn.store_lanes(_affine(self, y, factor, offset), target, count, at)
            return []

        sweep(fn, self.shape.size, scaled, [[]] * row_ways(self.shape.size, 2))

    def _scale_channels(self, group: Index, source: Value, target: Value, mean: Value | None, inverse: Value) -> None:
        """The same with a scale and a bias for each channel of the group."""
        fn, channels = self.fn, self.shape.channels or 1
        size = self.shape.size // channels
        first = times(self._group(group), channels)

        def channel(number: Index, _: list[Value]) -> Sequence[Value]:
            start = times(number, 4 * size)
            at = times(plus(first, number), 4)
            scale, bias = (None if p is None else fn.splat(fn.load(FLOAT, p, at), BLOCK) for p in self.parameters)

            def scaled(at: Index, count: int, state: State) -> State:
                x = fn.load_lanes(vector(BLOCK), source, count, plus(at, start))
                y = (x if mean is None else x - mean) * inverse
                fn.store_lanes(_affine(self, y, scale, bias), target, count, plus(at, start))
                return []

            sweep(fn, size, scaled, [[]] * row_ways(size, 2))
            return ()

        if channels == 1:
            channel(0, [])
        else:
            fn.loop(0, channels, channel)

    def _group(self, row: Index) -> Index:
        """Which group a row is, where its coordinate counts the images, too."""
        return row if len(self.outer) > 1 else self.fn.as_value(row, I64) % known(self.shape.outer[1])


class _Columns(_Rows):
    """Lp normalization along an axis that is not the last."""

    def emit(self) -> None:
        """One phase over tiles of columns."""
        work = 3 * self.shape.size * min(self.shape.inner, 2 * BLOCK)
        items_phase(self.routine, [*self.outer, column_tiles(self.shape.inner)], work, self._columns_at)

    def _columns_at(self, at: list[Index]) -> None:
        start = times(linear_index(at[:-1], self.outer), 4 * self.shape.size * self.shape.inner)
        each_column_tile(
            self.fn, self.shape.inner, at[-1], lambda byte, counts: self._columns(plus(start, byte), counts)
        )

    def _columns(self, start: Index, counts: list[int]) -> None:
        fn, stride = self.fn, 4 * self.shape.inner
        acc = accumulation(fn, "l1" if self.attrs.p == 1 else "sum_square")
        source = fn.offset(self.given[self.shape.layer.inputs[0]], start)
        target = self._written(self.shape.layer.outputs[0], start)

        def added(at: Index, k: int, state: Value) -> Value:
            return acc.step(state, fn.load_lanes(vector(BLOCK), source, counts[k], at), 0)

        totals = along_columns(fn, self.shape.size, stride, added, [acc.initial(BLOCK)] * len(counts))

        def scaled(at: Index, k: int, state: Value) -> Value:
            fn.store_lanes(fn.load_lanes(vector(BLOCK), source, counts[k], at) * state, target, counts[k], at)
            return state

        along_columns(fn, self.shape.size, stride, scaled, [_reciprocal_norm(self, total) for total in totals])


def _reciprocal_norm(code: _Rows, total: Value) -> Value:
    """1 / norm from the sum of powers; a norm of 0 divides by 1."""
    fn = code.fn
    norm = total if code.attrs.p == 1 else m.square_root(fn, total)
    one = fn.constant(norm.type, 1.0)
    return one / fn.select(fn.compare("oeq", norm, 0.0), one, norm)


def _affine(code: _Rows, x: Value, scale: Value | None, bias: Value | None) -> Value:
    """X * scale + bias, either of which may be absent."""
    if scale is not None and bias is not None:
        return code.fn.fma(x, scale, bias)
    if scale is not None:
        return x * scale
    return x if bias is None else x + bias
