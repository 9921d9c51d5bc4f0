"""Softmax and its logarithm: the maximum, exponentials and their sum, then the scaling, in rows that stay in cache."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tenonrt.contracts import (
    Array,
    Code,
    Dim,
    Dimension,
    GraphView,
    Layer,
    Problem,
    Support,
    Tactic,
    Weights,
    normalize_axis,
)

from tenonrt_kernel_llvm import mathematics as m
from tenonrt_kernel_llvm.accumulation import accumulation, combine_lanes
from tenonrt_kernel_llvm.emitter import Function, Index, Value, vector
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
from tenonrt_kernel_llvm.scalar_tails import ScalarTail, regions_with_scalar_tail, scalar_tail
from tenonrt_kernel_llvm.target import BLOCK, Target

_SHORT = 1024  # elements of a row up to which the latencies at its ends count


class SoftmaxKernel(LlvmKernel):
    """Any axis; vectors run along the rows when it is the last one, else across the columns."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return regions_with_scalar_tail(view, layer)

    def supports(self, problem: Problem) -> Support:
        why = _refusal(problem)
        if why:
            return Support(False, why)
        axis = normalize_axis(problem.layer.attrs.axis, problem.types[0].rank)
        return Support(True, runtime_symbols=runtime_symbols(problem) if axis or not problem.symbols else ())

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return (Tactic("linear", inplace=((0, 0),)),)

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        routine = Routine(problem, tactic, target)
        _Softmax(routine).emit()
        return routine.code()

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """The numbers that tails read are part of the code."""
        return ()


def _refusal(problem: Problem) -> str:
    if problem.types[0].dtype != "float32":
        return f"softmax of {problem.types[0].dtype}"
    if empty(problem.types[0]):
        return "an empty tensor"
    tail = scalar_tail(problem)
    return tail if isinstance(tail, str) else ""


class _Softmax:
    """The code of one softmax."""

    def __init__(self, routine: Routine) -> None:
        self.routine, self.fn = routine, routine.function
        problem = routine.problem
        tail = scalar_tail(problem)
        assert isinstance(tail, ScalarTail)
        self.tail, self.log = tail, bool(problem.layer.attrs.log)
        shape = problem.types[0].shape
        axis = normalize_axis(problem.layer.attrs.axis, len(shape))
        self.outer = leading_sizes(shape[:axis])
        self.size = known(shape[axis])
        self.inner = math.prod(known(d) for d in shape[axis + 1 :])
        self.source, self.result = routine.inputs[0].pointer, routine.outputs[0].pointer

    def emit(self) -> None:
        """One phase over rows, or over tiles of columns.

        Rows are taken two at a time where their number is even: the end of one hides behind the other.
        """
        if self.inner != 1:
            work = 4 * self.size * min(self.inner, 2 * BLOCK)
            items_phase(self.routine, [*self.outer, column_tiles(self.inner)], work, self._columns_at)
            return
        *lead, rows = self.outer
        even = not isinstance(rows, Dim) and rows % 2 == 0 and self.size <= _SHORT
        together = 2 if even else 1
        grid = [*lead, known(rows) // 2] if even else self.outer
        items_phase(self.routine, grid, 4 * self.size * together, lambda at: self._rows_at(at, grid, together))

    def _rows_at(self, at: list[Index], grid: Sequence[Dimension], together: int) -> None:
        fn, first = self.fn, times(linear_index(at, grid), together)
        starts = [times(plus(first, k), 4 * self.size) for k in range(together)]
        self._rows([fn.offset(self.source, start) for start in starts], [fn.offset(self.result, s) for s in starts])

    def _rows(self, sources: list[Value], targets: list[Value]) -> None:
        """Rows side by side: each step is emitted for all of them before the next."""
        fn, rows = self.fn, range(len(sources))
        largest = row_maxima(fn, self.size, sources)

        def added(at: Index, count: int, state: State) -> State:
            found = []
            for k in rows:
                power = m.exp_up_to_zero(fn, fn.load_lanes(vector(BLOCK), sources[k], count, at) - largest[k])
                if not self.log:
                    fn.store_lanes(power, targets[k], count, at)
                found.append(state[k] + keep_lanes(fn, power, count, fn.zero(power.type)))
                fn.new_block()  # or the exponentials of both rows would be interleaved, and spilled
            return found

        (sums,) = sweep(fn, self.size, added, [[fn.zero(vector(BLOCK))] * len(rows)])
        plain = accumulation(fn, "sum")
        scales = [self._scale(fn.splat(combine_lanes(fn, plain, total), BLOCK)) for total in sums]

        def scaled(at: Index, count: int, state: State) -> State:
            for k in rows:
                value = fn.load_lanes(vector(BLOCK), (sources if self.log else targets)[k], count, at)
                fn.store_lanes(self._scaled(value, largest[k], scales[k]), targets[k], count, at)
            return []

        sweep(fn, self.size, scaled, [[]] * row_ways(self.size, 4 // len(rows)))

    def _scale(self, total: Value) -> Value:
        """What exponentials are multiplied by, or what is subtracted from differences."""
        return m.log(self.fn, total) if self.log else self.fn.constant(total.type, 1.0) / total

    def _scaled(self, value: Value, largest: Value, scale: Value) -> Value:
        result = value - largest - scale if self.log else value * scale
        return self.tail.apply(self.fn, result)

    def _columns_at(self, at: list[Index]) -> None:
        start = times(linear_index(at[:-1], self.outer), 4 * self.size * self.inner)
        each_column_tile(self.fn, self.inner, at[-1], lambda byte, counts: self._columns(plus(start, byte), counts))

    def _columns(self, start: Index, counts: list[int]) -> None:
        fn, acc, stride = self.fn, accumulation(self.fn, "largest"), 4 * self.inner
        source, target = fn.offset(self.source, start), fn.offset(self.result, start)

        def loaded(pointer: Value, at: Index, k: int) -> Value:
            return fn.load_lanes(vector(BLOCK), pointer, counts[k], at)

        def larger(at: Index, k: int, state: Value) -> Value:
            return acc.step(state, loaded(source, at, k), 0)

        best = along_columns(fn, self.size, stride, larger, [acc.initial(BLOCK)] * len(counts))

        def added(at: Index, k: int, state: Value) -> Value:
            power = m.exp_up_to_zero(fn, loaded(source, at, k) - best[k])
            if not self.log:
                fn.store_lanes(power, target, counts[k], at)
            return state + power

        totals = along_columns(fn, self.size, stride, added, [fn.zero(vector(BLOCK))] * len(counts))
        scales = [self._scale(total) for total in totals]

        def scaled(at: Index, k: int, state: Value) -> Value:
            value = loaded(source if self.log else target, at, k)
            fn.store_lanes(self._scaled(value, best[k], state), target, counts[k], at)
            return state

        along_columns(fn, self.size, stride, scaled, scales)


def row_maxima(fn: Function, size: int, sources: Sequence[Value]) -> list[Value]:
    """The maximum of each of some rows of ``size`` floats, in every lane; it may lose a NaN."""
    acc = accumulation(fn, "largest")

    def larger(at: Index, count: int, state: State) -> State:
        loaded = [fn.load_lanes(vector(BLOCK), source, count, at) for source in sources]
        lanes = [keep_lanes(fn, x, count, acc.initial(BLOCK)) for x in loaded]
        return [acc.step(best, x, 0) for best, x in zip(state, lanes, strict=True)]

    first = [[acc.initial(BLOCK)] * len(sources)] * row_ways(size, 4 // len(sources))
    best, *others = sweep(fn, size, larger, first)
    for other in others:
        best = [acc.merge(a, b) for a, b in zip(best, other, strict=True)]
    return [fn.splat(combine_lanes(fn, acc, value), BLOCK) for value in best]
