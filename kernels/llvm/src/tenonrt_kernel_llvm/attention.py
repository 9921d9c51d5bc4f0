"""Attention in one step: scores of a few rows at a time, their softmax, the product with the values, all in cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tenonrt.contracts import Code, GraphView, Layer, Problem, Support, Tactic, product

from tenonrt_kernel_llvm import mathematics as m
from tenonrt_kernel_llvm import operations
from tenonrt_kernel_llvm.attention_graph import Attention, Source, attention_regions, read_attention
from tenonrt_kernel_llvm.emitter import FLOAT, I1, I64, Function, Index, Value, vector
from tenonrt_kernel_llvm.indexing import distance, unravel
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.layouts import ITEM, known
from tenonrt_kernel_llvm.matrix_multiply import at_trial_sizes
from tenonrt_kernel_llvm.operands import Operands
from tenonrt_kernel_llvm.panels import Columns, Panel, Rows, pack_panel, tiling
from tenonrt_kernel_llvm.panels import product as tile_product
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.target import Target, host_target

_MAX_SCRATCH = 16 << 20


class LlvmAttention(LlvmKernel):
    """Softmax(Q K^T) V without scores in memory. A unit packs the keys and the values of one batch and head."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        """The attention that begins with this product, with and without the movement of data around it."""
        return attention_regions(view, layer)

    def supports(self, problem: Problem) -> Support:
        found = read_attention(at_trial_sizes(problem))
        if isinstance(found, str):
            return Support(False, found)
        if found.result.strides[-1] not in (0, ITEM):
            return Support(False, "its result is transposed")
        needed = _Scratch(found, host_target()).total
        if needed > _MAX_SCRATCH:
            return Support(False, f"its keys and values take {needed} bytes for each thread")
        general = runtime_symbols(problem) == "all" and not isinstance(read_attention(problem), str)
        return Support(True, runtime_symbols="all" if general else ())

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return (Tactic("rows"),)

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        found = read_attention(problem)
        assert isinstance(found, Attention)
        return _Writer(problem, tactic, target, found).code()


class _Scratch:
    """Where a thread keeps what: packed keys and values, scores, and per row the maxima and one over the sum."""

    def __init__(self, attention: Attention, target: Target) -> None:
        tile = tiling(target)
        self.width = tile.width
        self.rows = min(tile.rows, attention.rows)
        self.key_panels = -(-attention.keys // self.width)
        self.value_panels = -(-attention.columns // self.width)
        self.key_panel = attention.depth * self.width * ITEM
        self.value_panel = attention.keys * self.width * ITEM
        self.row = (self.key_panels * self.width + 16) * ITEM  # rows in different sets of the cache
        self.values = self.key_panels * self.key_panel
        self.scores = self.values + self.value_panels * self.value_panel
        self.maxima = self.scores + self.rows * self.row
        self.inverses = self.maxima + self.rows * self.width * ITEM
        self.total = self.inverses + -(-self.rows * ITEM // 64) * 64


class _Writer:
    """Writes the code of one attention."""

    def __init__(self, problem: Problem, tactic: Tactic, target: Target, attention: Attention) -> None:
        self.problem, self.attention = problem, attention
        self.routine = Routine(problem, tactic, target, len(problem.constants))
        self.fn: Function = self.routine.function
        self.operands = Operands(self.routine)
        self.scratch = _Scratch(attention, target)

    def code(self) -> Code:
        batch = product(self.attention.batch)
        self.routine.phase(batch * self._groups()[1], self._unit)
        return self.routine.code(self.scratch.total)

    def _groups(self) -> tuple[int, int]:
        """Rows of a unit and units of a head: more than one only where there are too few heads for the threads."""
        tile, rows = self.scratch.rows, self.attention.rows
        heads = known(product(d if isinstance(d, int) else 1 for d in self.attention.batch))
        wanted = max(1, min(-(-2 * self.problem.threads // max(1, heads)), rows // (4 * tile)))
        each = -(-rows // wanted // tile) * tile
        return each, -(-rows // each)

    def _unit(self, unit: Value) -> None:
        fn, attention = self.fn, self.attention
        each, groups = self._groups()
        *batch, group = unravel(unit, [*(self.routine.dimension(d) for d in attention.batch), groups])
        self._pack(attention.key, batch, attention.depth, 0, self.scratch.key_panel)
        self._pack(attention.value, batch, attention.keys, self.scratch.values, self.scratch.value_panel)
        start, rows, tile = group * each, attention.rows, self.scratch.rows
        end = fn.minimum(start + each, rows) if groups > 1 else rows

        def whole(row: Value, _: list[Value]) -> Sequence[Value]:
            self._rows(batch, row, tile)
            return ()

        fn.loop(start, end // tile * tile, whole, step=tile)
        if rest := rows % tile:
            at_end = fn.compare("eq", fn.as_value(end, I64), rows)
            fn.when(at_end, lambda: self._rows(batch, fn.constant(I64, rows - rest), rest))

    def _pointer(self, source: Source, batch: Sequence[Index]) -> Value:
        strides = source.layout.strides[: len(batch)]
        return self.fn.offset(self.operands.pointer(source.number), distance(batch, strides))

    def _pack(self, source: Source, batch: Sequence[Index], depth: int, at: int, panel_bytes: int) -> None:
        fn, width = self.fn, self.scratch.width
        begin = self._pointer(source, batch)
        step, column = source.layout.strides[-2:]
        column = column or ITEM

        def one(panel: Value, count: int) -> None:
            columns = Columns(fn.offset(begin, panel * (width * column)), column, step, count)
            pack_panel(fn, fn.offset(self.routine.scratch, panel * panel_bytes + at), columns, depth, width)

        self._panels(known(source.layout.shape[-1]), one)

    def _panels(self, columns: int, body: Callable[[Value, int], None]) -> None:
        whole, rest = divmod(columns, self.scratch.width)

        def full(panel: Value, _: list[Value]) -> Sequence[Value]:
            body(panel, self.scratch.width)
            return ()

        self.fn.loop(0, whole, full)
        if rest:
            body(self.fn.constant(I64, whole), rest)

    def _rows(self, batch: Sequence[Index], row: Value, rows: int) -> None:
        fn, scratch = self.fn, self.scratch
        lowest = fn.constant(vector(scratch.width), float("-inf"))
        for i in range(rows):
            fn.store(lowest, self.routine.scratch, scratch.maxima + i * scratch.width * ITEM)
        self._panels(self.attention.keys, lambda panel, count: self._scores(batch, row, rows, panel, count))

        def normalise(i: Value, _: list[Value]) -> Sequence[Value]:
            self._softmax(i)
            return ()

        fn.loop(0, rows, normalise)
        self._panels(self.attention.columns, lambda panel, count: self._result(batch, row, rows, panel, count))

    def _scores(self, batch: Sequence[Index], row: Value, rows: int, panel: Value, count: int) -> None:
        """One panel of scores for a few rows, kept with the maxima so far; absent keys are minus infinity."""
        fn, attention, scratch = self.fn, self.attention, self.scratch
        stride, step = attention.query.layout.strides[-2:]
        left = Rows(fn.offset(self._pointer(attention.query, batch), row * stride), stride, step)
        right = Panel(
            fn.offset(self.routine.scratch, panel * scratch.key_panel), ITEM * scratch.width, scratch.width,
            scratch.width,
        )  # fmt: skip
        sums = tile_product(fn, left, right, rows, attention.depth)
        changed = self._change((*batch, row, panel * scratch.width), sums, count)
        into = fn.offset(self.routine.scratch, panel * (scratch.width * ITEM) + scratch.scores)
        present = fn.lane_constants(I1, [int(lane < count) for lane in range(scratch.width)])
        for i, found in enumerate(changed):
            whole = count == scratch.width
            value = found if whole else fn.select(present, found, fn.constant(found.type, float("-inf")))
            fn.store(value, into, i * scratch.row)
            at = scratch.maxima + i * scratch.width * ITEM
            fn.store(m.maximum(fn, value, fn.load(value.type, self.routine.scratch, at)), self.routine.scratch, at)

    def _change(self, at: Sequence[Index], sums: Sequence[Value], count: int) -> list[Value]:
        """Scale, mask and whatever else is between scores and softmax."""
        fn, attention = self.fn, self.attention
        factor = attention.query.factor * attention.key.factor
        reads = {n: self.operands.spread(n, layout, at) for n, layout in attention.operands.items()}
        changed = []
        for i, value in enumerate(sums):
            values = {attention.scores: value if factor == 1 else value * factor}
            for n, read in reads.items():
                values[n] = read.load(i, self.scratch.width, count)
            operations.compute(fn, self.problem, attention.middle, values)
            changed.append(values[attention.changed])
        return changed

    def _softmax(self, row: Value) -> None:
        """exp(score - maximum) in place of a row's scores, and one over their sum."""
        fn, scratch = self.fn, self.scratch
        type = vector(scratch.width)
        maxima = fn.load(type, fn.offset(self.routine.scratch, row * (scratch.width * ITEM)), scratch.maxima)
        highest = fn.splat(_across(fn, maxima, m.maximum), scratch.width)
        scores = fn.offset(self.routine.scratch, row * scratch.row + scratch.scores)
        nbytes = scratch.key_panels * scratch.width * ITEM

        def power(at: Value, sums: list[Value]) -> list[Value]:
            found = m.exp_up_to_zero(fn, fn.load(type, scores, at) - highest)
            fn.store(found, scores, at)
            return [sums[0] + found]

        (sums,) = fn.loop(0, nbytes, power, [fn.zero(type)], step=scratch.width * ITEM)
        total = _across(fn, sums, lambda fn, a, b: a + b)
        inverse = fn.constant(FLOAT, 1.0) / total
        if self.attention.guarded:
            nothing = m.is_nan(fn, total)
            fn.when(nothing, lambda: self._clear(scores, nbytes))
            inverse = fn.select(nothing, fn.constant(FLOAT, 1.0), inverse)
        fn.store(inverse, fn.offset(self.routine.scratch, row * ITEM), scratch.inverses)

    def _clear(self, scores: Value, nbytes: int) -> None:
        fn, type = self.fn, vector(self.scratch.width)

        def clear(at: Value, _: list[Value]) -> Sequence[Value]:
            fn.store(fn.zero(type), scores, at)
            return ()

        fn.loop(0, nbytes, clear, step=self.scratch.width * ITEM)

    def _result(self, batch: Sequence[Index], row: Value, rows: int, panel: Value, count: int) -> None:
        fn, attention, scratch = self.fn, self.attention, self.scratch
        left = Rows(fn.offset(self.routine.scratch, scratch.scores), scratch.row, ITEM)
        begin = fn.offset(self.routine.scratch, panel * scratch.value_panel + scratch.values)
        right = Panel(begin, ITEM * scratch.width, scratch.width, scratch.width)
        sums = tile_product(fn, left, right, rows, attention.keys)
        strides = attention.result.strides
        factor = attention.value.factor
        at = distance((*batch, row, panel * scratch.width), (*strides[:-1], ITEM))
        into = fn.offset(self.operands.pointer(self.problem.outputs[0]), at)
        for i, value in enumerate(sums):
            inverse = fn.load(FLOAT, self.routine.scratch, scratch.inverses + i * ITEM)
            weighted = value * fn.splat(inverse if factor == 1 else inverse * factor, scratch.width)
            fn.store_lanes(weighted, into, count, i * strides[-2])


def _across(fn: Function, value: Value, combine: Callable[[Function, Value, Value], Value]) -> Value:
    """One number from all lanes, by halves."""
    lanes = int(value.type[1:].split(" ", maxsplit=1)[0])
    while lanes > 2:
        lanes //= 2
        low = fn.shuffle(value, value, list(range(lanes)))
        value = combine(fn, low, fn.shuffle(value, value, list(range(lanes, 2 * lanes))))
    return combine(fn, fn.extract(value, 0), fn.extract(value, 1))
