"""The best elements of a softmax: rows are searched as they are, and only what is found becomes a share of the whole.

Exponentials keep the order, so that the search needs none of them; where they would be equal after rounding, the larger
argument comes first, as it does in exact numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tenonrt.contracts import (
    Array,
    Code,
    GraphView,
    Layer,
    Problem,
    Support,
    Tactic,
    Weights,
    normalize_axis,
    only_reader,
)

from tenonrt_kernel_llvm import mathematics as m
from tenonrt_kernel_llvm.accumulation import accumulation, combine_lanes
from tenonrt_kernel_llvm.emitter import Index, Value, vector
from tenonrt_kernel_llvm.kernel import LlvmKernel
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.rows import State, keep_lanes, sweep
from tenonrt_kernel_llvm.softmax import row_maxima
from tenonrt_kernel_llvm.sorting import KEY
from tenonrt_kernel_llvm.target import BLOCK, Target
from tenonrt_kernel_llvm.topk import Search, search_tactics, supports_search


class SoftmaxTopKKernel(LlvmKernel):
    """A Softmax, or its logarithm, along the last axis, of which nothing but the best elements is wanted."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        reader = only_reader(view, layer.outputs[0])
        if reader is not None and reader.kind == "TopK":
            yield (layer, reader)

    def supports(self, problem: Problem) -> Support:
        if problem.kinds != ("Softmax", "TopK") or problem.layers[0].outputs[0] in problem.outputs:
            return Support(False, f"the best elements of a softmax, not {'+'.join(problem.kinds)}")
        softmax, topk = problem.layers
        rank = problem.types[0].rank
        if {normalize_axis(layer.attrs.axis, rank) for layer in (softmax, topk)} != {rank - 1}:
            return Support(False, "the best along another axis than the last, which the softmax is of too")
        return supports_search(problem, topk)

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return search_tactics(problem, problem.layers[1])

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """How many are wanted is part of the code."""
        return ()

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        routine = Routine(problem, tactic, target)
        search = _Shares(routine, tactic)
        search.emit()
        return routine.code(scratch=2 * KEY * search.size)


class _Shares(Search):
    """The search of a row whose elements become shares when they are found."""

    def __init__(self, routine: Routine, tactic: Tactic) -> None:
        softmax, topk = routine.problem.layers
        super().__init__(routine, topk, tactic)
        self.log = bool(softmax.attrs.log)

    def look(self, source: Value) -> None:
        fn = self.fn
        (self.peak,) = row_maxima(fn, self.size, [source])

        def added(at: Index, count: int, state: State) -> State:
            power = m.exp_up_to_zero(fn, fn.load_lanes(vector(BLOCK), source, count, at) - self.peak)
            return [state[0] + keep_lanes(fn, power, count, fn.zero(power.type))]

        ((total,),) = sweep(fn, self.size, added, [[fn.zero(vector(BLOCK))]])
        self.total = fn.splat(combine_lanes(fn, accumulation(fn, "sum"), total), BLOCK)
        self.unordered = fn.extract(m.is_nan(fn, self.total), 0)
        self.scale = m.log(fn, self.total) if self.log else fn.constant(self.total.type, 1.0) / self.total

    def value(self, x: Value) -> Value:
        fn = self.fn
        below = fn.splat(x, BLOCK) - self.peak
        share = below - self.scale if self.log else m.exp_up_to_zero(fn, below) * self.scale
        return fn.extract(share, 0)

    def key(self, x: Value, place: Value) -> Value:
        """A row whose sum is no number has no number in it, and the first of equal elements wins."""
        return self.fn.select(self.unordered, place, super().key(x, place))
