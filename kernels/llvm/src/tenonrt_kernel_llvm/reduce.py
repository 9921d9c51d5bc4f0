"""Reductions over any axes: sums, means, extremes, products, norms, also of whole images of blocked channels.

Axes are merged into groups that are reduced or kept in turn. Where the last group is kept its elements lie across the
lanes of vectors; where it is reduced the lanes are partial results, which are combined at the end. Long reductions to
few results are made in two phases, of parts and of their results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from tenonrt.contracts import (
    LINEAR,
    NCHW16C,
    Array,
    Code,
    Dim,
    Dimension,
    Format,
    GraphView,
    Layer,
    Problem,
    Support,
    Tactic,
    Weights,
)

from tenonrt_kernel_llvm.accumulation import (
    Accumulation,
    accumulation,
    combine_lanes,
    exponent_shift,
    shifted_exponentials,
    shifted_logarithm,
)
from tenonrt_kernel_llvm.emitter import FLOAT, I64, Index, Value, vector
from tenonrt_kernel_llvm.indexing import ChannelLanes, empty, is_blocked, items_phase, known, plus, times
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.reduction_layout import TILE, Operation, groups_of, layout_of, operation
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.scalar_tails import ScalarTail, regions_with_scalar_tail, scalar_tail
from tenonrt_kernel_llvm.target import BLOCK, Target


class ReduceKernel(LlvmKernel):
    """Reduce, and pooling whose window is the whole image."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return regions_with_scalar_tail(view, layer)

    def supports(self, problem: Problem) -> Support:
        why = _refusal(problem)
        symbols = runtime_symbols(problem)
        if not why and symbols == "all" and isinstance(groups_of(problem, LINEAR)[-1].size, Dim):
            symbols = ()  # the number of vectors must be known
        return Support(not why, why, symbols)

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        found = []
        if _reduces_images(problem):
            workspace = self._workspace(problem, NCHW16C)
            if problem.types[problem.outputs[0]].rank == problem.types[0].rank:
                blocked = Tactic("nchw16c", (NCHW16C,), (NCHW16C,), "float32", workspace, (), True, (0,), (0,))
                found.append(blocked)
            found.append(Tactic("nchw16c-linear", (NCHW16C,), (LINEAR,), "float32", workspace, (), True, (0,)))
        return [*found, Tactic("linear", workspace=self._workspace(problem, LINEAR))]

    def _workspace(self, problem: Problem, format: Format) -> Dimension:
        if problem.symbols and self.supports(problem).runtime_symbols != "all":
            return 0  # code is made for each size, of which the workspace could say nothing
        return layout_of(problem, format).workspace

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        routine = Routine(problem, tactic, target)
        _Reduction(routine).emit()
        return routine.code()

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """The numbers that tails read are part of the code."""
        return ()


def _refusal(problem: Problem) -> str:
    source, found = problem.types[0], operation(problem)
    if isinstance(found, str):
        return found
    if source.dtype != "float32":
        return f"a reduction of {source.dtype}"
    if empty(source, problem.types[problem.layer.outputs[0]]):
        return "an empty tensor"
    if not found.axes:
        return "nothing is reduced"
    tail = scalar_tail(problem)
    return tail if isinstance(tail, str) else ""


def _reduces_images(problem: Problem) -> bool:
    found, source = operation(problem), problem.types[0]
    assert isinstance(found, Operation)
    spatial = tuple(range(2, source.rank))
    return source.rank >= 3 and found.axes == spatial and isinstance(source.shape[1], int)


Range = tuple[Index, Index]


class _Reduction:
    """The code of one reduction."""

    def __init__(self, routine: Routine) -> None:
        self.routine, self.fn = routine, routine.function
        problem, tactic = routine.problem, routine.tactic
        found, tail = operation(problem), scalar_tail(problem)
        assert isinstance(found, Operation)
        assert isinstance(tail, ScalarTail)
        self.name, self.tail = found.name, tail
        self.blocked = is_blocked(tactic.input_format(0))
        self.layout = layout_of(problem, tactic.input_format(0), in_parts=tactic.workspace != 0)
        self.sizes = [routine.dimension(g.size) for g in self.layout.groups]
        self.strides = list(routine.inputs[0].strides) if self.blocked else self._dense()
        count: Index = 1
        for size, group in zip(self.sizes, self.layout.groups, strict=True):
            count = times(count, size) if group.reduced else count
        self.count = count

    def _dense(self) -> list[Index]:
        strides: list[Index] = [4]
        for size in reversed(self.sizes[1:]):
            strides.insert(0, times(strides[0], size))
        return strides

    def emit(self) -> None:
        layout = self.layout
        work = math.prod(s for s in self._terms() if isinstance(s, int))
        if layout.split is None:
            items_phase(self.routine, layout.grid, work, lambda at: self._item(at, None))
            return
        grid = [*layout.grid, layout.parts]
        items_phase(self.routine, grid, work // layout.parts, lambda at: self._item(at[:-1], at[-1]))
        items_phase(self.routine, layout.grid, layout.parts * layout.vectors * BLOCK, self._combine_parts)

    def _terms(self) -> list[Index]:
        inner = [] if self.layout.inner.reduced else [self.layout.vectors * BLOCK]
        return [*[s for s, g in zip(self.sizes, self.layout.groups, strict=True) if g.reduced], *inner]

    # items -----------------------------------------------------------------------------------------------------------

    def _item(self, at: list[Index], part: Index | None) -> None:
        """Reduce one tile of results, or a part of them into the workspace."""
        for counts in self._tile_variants(at[-1]):
            self._with_tile(at, part, counts)

    def _with_tile(self, at: list[Index], part: Index | None, variant: tuple[Value | None, list[int]]) -> None:
        condition, counts = variant

        def run() -> None:
            results = self._reduce(self._start(at), self._ranges(part), counts)
            if part is None:
                self._finish(at, results, counts)
                return
            for k, value in enumerate(results):
                self.fn.store(value, self._slot(at, part), 64 * k, 64)

        if condition is None:
            run()
        else:
            self.fn.when(condition, run)

    def _tile_variants(self, tile: Index) -> list[tuple[Value | None, list[int]]]:
        """The lanes of each vector of a tile; the last tile may have fewer than the others."""
        if self.layout.inner.reduced:
            return [(None, [BLOCK])]
        size, tiles = known(self.sizes[-1]), self.layout.tiles
        full = [BLOCK] * TILE
        rest = size - (tiles - 1) * TILE * BLOCK
        last = [min(BLOCK, rest - first) for first in range(0, rest, BLOCK)]
        if tiles == 1 or last == full or isinstance(tile, int):
            return [(None, last if tiles == 1 else full)]
        return [
            (self.fn.compare("ne", tile, tiles - 1), full),
            (self.fn.compare("eq", tile, tiles - 1), last),
        ]

    def _start(self, at: Sequence[Index]) -> Value:
        start: Index = times(at[-1], TILE * BLOCK * 4)
        for coordinate, group in zip(at[:-1], self.layout.kept, strict=True):
            start = plus(start, times(coordinate, self.strides[group]))
        return self.fn.offset(self.routine.inputs[0].pointer, start)

    def _ranges(self, part: Index | None) -> list[Range]:
        ranges: list[Range] = []
        for group in self.layout.reduced:
            if group != self.layout.split or part is None:
                ranges.append((0, self.sizes[group]))
                continue
            size = self.sizes[group]
            assert isinstance(size, int)
            chunk = -(-size // self.layout.parts)
            first = times(part, chunk)
            ranges.append((self.fn.minimum(first, size), self.fn.minimum(plus(first, chunk), size)))
        return ranges

    # sweeps ----------------------------------------------------------------------------------------------------------

    def _reduce(self, start: Value, ranges: list[Range], counts: list[int]) -> list[Value]:
        """The reduced vectors of a tile; where the inner group is reduced, one vector of partial results."""
        fn = self.fn
        if self.name != "log_sum_exp":
            return self._sweep(accumulation(fn, self.name), start, ranges, counts)
        largest = self._sweep(accumulation(fn, "largest"), start, ranges, counts)
        if self.layout.inner.reduced:
            largest = [fn.splat(combine_lanes(fn, accumulation(fn, "largest"), largest[0]), BLOCK)]
        finite = [exponent_shift(fn, value) for value in largest]
        sums = self._sweep(shifted_exponentials(fn, finite), start, ranges, counts)
        if self.layout.inner.reduced:
            sums = [fn.splat(combine_lanes(fn, accumulation(fn, "sum"), sums[0]), BLOCK)]
        return [shifted_logarithm(fn, total, shift) for total, shift in zip(sums, finite, strict=True)]

    def _sweep(self, acc: Accumulation, start: Value, ranges: list[Range], counts: list[int]) -> list[Value]:
        if self.layout.inner.reduced:
            found = self._nest(start, ranges, [acc.initial(BLOCK)] * self._row_ways, lambda p, v: self._row(acc, p, v))
            return [_merge(acc, found)]
        ways = max(1, TILE // len(counts)) if ranges else 1
        carried = [acc.initial(BLOCK)] * (len(counts) * ways)
        found = self._nest(start, ranges[:-1], carried, lambda p, v: self._column(acc, p, ranges[-1], v, counts))
        return [_merge(acc, found[k :: len(counts)]) for k in range(len(counts))]

    def _nest(
        self, at: Value, ranges: list[Range], carried: list[Value], body: Callable[[Value, list[Value]], list[Value]]
    ) -> list[Value]:
        """Loops over the outer reduced groups."""
        if not ranges:
            return body(at, carried)
        (first, end), stride = ranges[0], self.strides[self._group_of(ranges)]
        return self.fn.loop(
            first, end, lambda i, v: self._nest(self.fn.offset(at, times(i, stride)), ranges[1:], v, body), carried
        )

    def _group_of(self, remaining: list[Range]) -> int:
        """Which group the first of the remaining ranges is of."""
        reduced = self.layout.reduced if self.layout.inner.reduced else self.layout.reduced[:-1]
        return reduced[len(reduced) - len(remaining)]

    @property
    def _row_ways(self) -> int:
        return max(1, min(TILE, known(self.sizes[-1]) // BLOCK))

    def _row(self, acc: Accumulation, at: Value, carried: list[Value]) -> list[Value]:
        """A dense row of the inner, reduced group."""
        fn, ways = self.fn, self._row_ways
        whole, rest = divmod(known(self.sizes[-1]), BLOCK)

        def some(index: Index, values: Sequence[Value], many: int) -> list[Value]:
            source = fn.offset(at, times(index, 4 * BLOCK))
            loaded = [fn.load(vector(BLOCK), source, 4 * BLOCK * k) for k in range(many)]
            return [acc.step(v, x, 0) for v, x in zip(values, loaded, strict=False)] + list(values[many:])

        turns = whole // ways
        carried = fn.loop(0, turns * ways, lambda i, v: some(i, v, ways), carried, ways)
        carried = some(turns * ways, carried, whole % ways)
        if rest:
            loaded = fn.load_lanes(vector(BLOCK), at, rest, 4 * BLOCK * whole)
            inside = fn.lane_constants("i1", [int(lane < rest) for lane in range(BLOCK)])
            carried = [fn.select(inside, acc.step(carried[0], loaded, 0), carried[0]), *carried[1:]]
        return list(carried)

    def _column(
        self, acc: Accumulation, at: Value, span: Range, carried: list[Value], counts: list[int]
    ) -> list[Value]:
        """Along the innermost reduced group, several steps at a time where a tile has few vectors."""
        fn, (first, end), width = self.fn, span, len(counts)
        ways, stride = len(carried) // width, self.strides[self.layout.reduced[-1]]

        def some(index: Value, values: list[Value], many: int) -> list[Value]:
            found = list(values)
            for way in range(many):
                source = fn.offset(at, times(plus(index, way), stride))
                for k, count in enumerate(counts):
                    loaded = fn.load_lanes(vector(BLOCK), source, count, 64 * k)
                    found[way * width + k] = acc.step(found[way * width + k], loaded, k)
            return found

        if ways == 1:
            return fn.loop(first, end, lambda i, v: some(i, v, 1), carried)
        length = plus(end, times(first, -1)) if isinstance(first, Value) else end
        turns = length // ways
        middle = plus(first, times(turns, ways))
        carried = fn.loop(first, middle, lambda i, v: some(i, v, ways), carried, ways)
        return fn.loop(middle, end, lambda i, v: some(i, v, 1), carried)

    # results ---------------------------------------------------------------------------------------------------------

    def _slot(self, at: Sequence[Index], part: Index) -> Value:
        number: Index = 0
        for coordinate, size in zip([*at, part], [*self.layout.grid, self.layout.parts], strict=True):
            number = plus(times(number, known(size)), coordinate)
        return self.fn.offset(self.routine.workspace, times(number, self.layout.vectors * 4 * BLOCK))

    def _combine_parts(self, at: list[Index]) -> None:
        acc = accumulation(self.fn, self.name)
        for condition, counts in self._tile_variants(at[-1]):

            def run(counts: list[int] = counts) -> None:
                first = self._slot(at, 0)
                step = self.layout.vectors * 4 * BLOCK

                def one(part: Value, values: list[Value]) -> list[Value]:
                    source = self.fn.offset(first, times(part, step))
                    loaded = [self.fn.load(vector(BLOCK), source, 64 * k, 64) for k in range(len(values))]
                    return [acc.merge(v, x) for v, x in zip(values, loaded, strict=True)]

                carried = [acc.initial(BLOCK)] * len(counts)
                self._finish(at, self.fn.loop(0, self.layout.parts, one, carried), counts)

            if condition is None:
                run()
            else:
                self.fn.when(condition, run)

    def _finish(self, at: Sequence[Index], results: Sequence[Value], counts: Sequence[int]) -> None:
        """The last steps of the operation, the tail, and the store."""
        fn, acc = self.fn, accumulation(self.fn, self.name)
        if self.layout.inner.reduced:
            scalar = fn.extract(results[0], 0) if self.name == "log_sum_exp" else combine_lanes(fn, acc, results[0])
            target = self._target(at, 1)
            fn.store(self.tail.apply(fn, acc.finish(scalar, self._count())), target)
            return
        found = [self.tail.apply(fn, acc.finish(value, self._count())) for value in results]
        if self.blocked:
            self._store_block(at, found[0])
            return
        target = fn.offset(self._target(at, known(self.sizes[-1])), times(at[-1], TILE * BLOCK * 4))
        for k, (value, count) in enumerate(zip(found, counts, strict=True)):
            fn.store_lanes(value, target, count, 64 * k)

    def _count(self) -> Value:
        """How many elements make one result, as a float."""
        if isinstance(self.count, int):
            return self.fn.constant(FLOAT, self.count)
        return self.fn.convert("sitofp", self.count, FLOAT)

    def _target(self, at: Sequence[Index], inner: int) -> Value:
        """Where the results of the kept coordinates begin in a dense output, ``inner`` of them together."""
        number: Index = 0
        for coordinate, group in zip(at[:-1], self.layout.kept, strict=True):
            number = plus(times(number, self.sizes[group]) if number != 0 else 0, coordinate)
        return self.fn.offset(self.routine.outputs[0].pointer, times(number, 4 * inner))

    def _store_block(self, at: Sequence[Index], value: Value) -> None:
        """One block of channels of one image, into blocks or into a row of channels."""
        fn, output, (image, block) = self.fn, self.routine.outputs[0], at[:2]
        channels = known(self.routine.problem.types[0].shape[1])
        if is_blocked(self.routine.tactic.output_format(0)):
            start = plus(times(image, output.strides[0]), times(block, output.strides[1]))
            fn.store(ChannelLanes(fn, channels, block).clear(value), fn.offset(output.pointer, start))
            return
        target = fn.offset(output.pointer, plus(times(image, 4 * channels), times(block, 4 * BLOCK)))
        whole, rest = divmod(channels, BLOCK)
        if not rest:
            fn.store(value, target)
            return
        last = fn.compare("eq", fn.as_value(block, I64), whole)
        fn.when(last, lambda: fn.store_lanes(value, target, rest), lambda: fn.store(value, target))


def _merge(acc: Accumulation, values: Sequence[Value]) -> Value:
    """Pairwise, so that sums stay accurate."""
    found = list(values)
    while len(found) > 1:
        pairs = [acc.merge(a, b) for a, b in zip(found[::2], found[1::2], strict=False)]
        found = pairs + ([found[-1]] if len(found) % 2 else [])
    return found[0]
