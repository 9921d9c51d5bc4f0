"""The best elements of an axis, by sorting keys of all of them, or by looking for a few: a unit is one row."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tenonrt.contracts import Array, Code, Problem, ProblemLayer, Support, Tactic, Weights, normalize_axis

from tenonrt_kernel_llvm import mathematics as m
from tenonrt_kernel_llvm.emitter import FLOAT, I64, Index, Value
from tenonrt_kernel_llvm.indexing import empty, items_phase, known, plus, times
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.rows import leading_sizes, linear_index
from tenonrt_kernel_llvm.sorting import KEY, key_of, place_of, sort
from tenonrt_kernel_llvm.suppression import MAX_SCRATCH
from tenonrt_kernel_llvm.target import Target

_FEW = 16  # of which each may be looked for through all keys
_LAST = -1 << 32  # the upper half of a key that no number has


class TopKKernel(LlvmKernel):
    """float32 along any axis; NaN counts as the largest, of equal elements the first wins."""

    def supports(self, problem: Problem) -> Support:
        if problem.kinds != ("TopK",):
            return Support(False, f"the best elements of a tensor, not {'+'.join(problem.kinds)}")
        return supports_search(problem, problem.layer)

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return search_tactics(problem, problem.layer)

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """How many are wanted is part of the code."""
        return ()

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        routine = Routine(problem, tactic, target)
        search = Search(routine, problem.layer, tactic)
        search.emit()
        return routine.code(scratch=2 * KEY * search.size)


def supports_search(problem: Problem, layer: ProblemLayer) -> Support:
    """Whether `Search` finds the results of a TopK layer, of a problem that reads one tensor."""
    if len(problem.activations) != 1 or problem.types[0].dtype != "float32":
        return Support(False, "the best of computed elements in float32, as many as is known")
    if empty(*problem.types):
        return Support(False, "an empty tensor")
    source = problem.types[layer.inputs[0]]
    axis = normalize_axis(layer.attrs.axis, source.rank)
    sizes = (source.shape[axis], problem.types[problem.outputs[0]].shape[axis])
    if not all(isinstance(size, int) for size in sizes) or 2 * KEY * known(sizes[0]) > MAX_SCRATCH:
        return Support(False, f"an axis of {sizes[0]} elements")
    return Support(True, runtime_symbols=runtime_symbols(problem) if axis or not problem.symbols else ())


def search_tactics(problem: Problem, layer: ProblemLayer) -> Sequence[Tactic]:
    """Each of a few best is looked for; many are in order when all are."""
    axis = normalize_axis(layer.attrs.axis, problem.types[layer.inputs[0]].rank)
    few = known(problem.types[problem.outputs[0]].shape[axis]) <= _FEW
    return (Tactic("select"), Tactic("sort")) if few else (Tactic("sort"),)


class Search:
    """The code of a TopK layer. A row's elements are ``inner`` elements apart."""

    def __init__(self, routine: Routine, layer: ProblemLayer, tactic: Tactic) -> None:
        self.routine, self.fn, self.few = routine, routine.function, tactic.key == "select"
        problem = routine.problem
        source, self.largest = problem.types[layer.inputs[0]], bool(layer.attrs.largest)
        axis = normalize_axis(layer.attrs.axis, source.rank)
        self.outer = leading_sizes(source.shape[:axis])
        self.size = known(source.shape[axis])
        self.inner = math.prod(known(d) for d in source.shape[axis + 1 :])
        self.source = routine.inputs[0].pointer
        # Either output may be unused, and then is none of the problem's.
        pointers = {n: o.pointer for n, o in zip(problem.outputs, routine.outputs, strict=True)}
        self.values, self.places = (pointers.get(number) for number in layer.outputs)
        self.count = known(problem.types[problem.outputs[0]].shape[axis])

    def emit(self) -> None:
        work = self.size * max(1, self.size.bit_length())
        items_phase(self.routine, [*self.outer, self.inner], work, self._row)

    def _row(self, at: list[Index]) -> None:
        fn, scratch, (*outer, column) = self.fn, self.routine.scratch, at
        row = linear_index(outer, self.outer)
        source = fn.offset(self.source, times(plus(times(row, self.size * self.inner), column), 4))
        self.look(source)

        def key(place: Value, _: list[Value]) -> Sequence[Value]:
            x = fn.load(FLOAT, source, place * (4 * self.inner))
            fn.store(self.key(x, place), scratch, place * KEY, 8)
            return ()

        fn.loop(0, self.size, key)
        spare = fn.offset(scratch, KEY * self.size)
        if self.few:
            self._select(scratch, spare)
        ordered = spare if self.few else sort(fn, scratch, spare, fn.constant(I64, self.size), self.size)
        first = plus(times(row, self.count * self.inner), column)

        def best(number: Value, _: list[Value]) -> Sequence[Value]:
            place = place_of(fn, fn.load(I64, ordered, number * KEY, 8))
            at = number * self.inner + first
            if self.values is not None:
                fn.store(self.value(fn.load(FLOAT, source, place * (4 * self.inner))), self.values, at * 4)
            if self.places is not None:
                fn.store(place, self.places, at * 8, 8)
            return ()

        fn.loop(0, self.count, best)

    def _select(self, keys: Value, best: Value) -> None:
        """The least keys in order: each the least of those beyond the one before it, for none is there twice."""
        fn = self.fn

        def one(number: Value, least: list[Value]) -> Sequence[Value]:
            def lesser(place: Value, found: list[Value]) -> Sequence[Value]:
                key = fn.load(I64, keys, place * KEY, 8)
                beyond = fn.select(fn.compare("uge", key, least[0]), key, -1)
                return [fn.select(fn.compare("ult", beyond, found[0]), beyond, found[0])]

            (found,) = fn.loop(0, self.size, lesser, [fn.constant(I64, -1)])
            fn.store(found, best, number * KEY, 8)
            return [found + 1]

        fn.loop(0, self.count, one, [fn.constant(I64, 0)])

    def look(self, source: Value) -> None:
        """What has to be known of a row before its elements are compared."""

    def value(self, x: Value) -> Value:
        """The result for one of the best elements."""
        return x

    def key(self, x: Value, place: Value) -> Value:
        """NaN comes before all others, or after all where the smallest are wanted."""
        fn = self.fn
        key = key_of(fn, x if self.largest else -x, place)
        return fn.select(m.is_nan(fn, x), place if self.largest else fn.binary("or", place, _LAST), key)
