"""MatrixMultiply of float32: batches of any shapes, with a pointwise tail computed on the sums in registers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tenonrt.contracts import Code, Dimension, GraphView, Layer, Problem, Support, Tactic, TensorType, product

from tenonrt_kernel_llvm import operations
from tenonrt_kernel_llvm.emitter import I64, Function, Index, Value
from tenonrt_kernel_llvm.indexing import distance, unravel
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.layouts import ITEM, Layout, known
from tenonrt_kernel_llvm.operands import Operands
from tenonrt_kernel_llvm.panels import (
    Columns,
    Panel,
    Rows,
    Tiling,
    pack_panel,
    tiling,
)
from tenonrt_kernel_llvm.panels import product as tile_product
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.tails import Tail, read_tail, regions_with_tail
from tenonrt_kernel_llvm.target import Target

_PACKED_BYTES = 160 * 1024  # of panels that a unit keeps in the second-level cache
_MOST_DEPTH = 1 << 20


@dataclass(frozen=True)
class Geometry:
    """[*batch, rows, depth] times [*batch, depth, columns], every operand by its strides in bytes."""

    batch: tuple[Dimension, ...]
    rows: Dimension
    columns: int
    depth: int
    left: Layout
    right: Layout
    result: Layout

    @property
    def full(self) -> tuple[Dimension, ...]:
        """The shape of the result with both of its matrix axes."""
        return (*self.batch, self.rows, self.columns)


def geometry(problem: Problem) -> Geometry | str:
    """The product of a problem's first layer, or why it is not taken."""
    layer = problem.layers[0]
    a, b, result = (problem.types[i] for i in (*layer.inputs, layer.outputs[0]))
    if {a.dtype, b.dtype} != {"float32"}:
        return f"it multiplies {a.dtype}"
    left, right = _matrix(a, layer.attrs.transpose_a, row=True), _matrix(b, layer.attrs.transpose_b, row=False)
    if left is None or right is None:
        return "a size within a matrix changes at run time"
    columns, depth, rows = right.shape[-1], left.shape[-1], left.shape[-2]
    if not isinstance(columns, int) or not isinstance(depth, int) or depth > _MOST_DEPTH:
        return f"it sums {depth} products in each of {columns} columns"
    given = result.shape[: result.rank - (a.rank > 1) - (b.rank > 1)]
    full = (*given, rows, columns)
    dense = Layout.dense(TensorType(full))
    over_left, over_right = left.broadcast((*given, rows, depth)), right.broadcast((*given, depth, columns))
    if dense is None or over_left is None or over_right is None:
        return "its batch axes change at run time"
    return Geometry(given, rows, columns, depth, over_left, over_right, dense)


def _matrix(type: TensorType, transpose: bool, row: bool) -> Layout | None:
    """An operand with both matrix axes."""
    if type.rank == 1:
        type = type.reshape((1, *type.shape) if row else (*type.shape, 1))
    layout = Layout.dense(type)
    return layout.swap_last() if layout is not None and transpose else layout


class LlvmMatrixMultiply(LlvmKernel):
    """Sums in tiles of registers. packed: panels of b are copied for each unit; direct: rows of b are read in place."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        """The product with its pointwise tail."""
        return regions_with_tail(view, layer)

    def supports(self, problem: Problem) -> Support:
        if problem.kinds[0] != "MatrixMultiply" or "MatrixMultiply" in problem.kinds[1:]:
            return Support(False, "it begins with no matrix product, or has several")
        trial = at_trial_sizes(problem)
        why = refusal(trial)
        if why:
            return Support(False, why)
        return Support(True, runtime_symbols=runtime_symbols(problem) if not refusal(problem) else ())

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        """Both ways where rows of b are dense, the likelier first."""
        shape = geometry(at_trial_sizes(problem))
        assert isinstance(shape, Geometry)
        packed, direct = Tactic("packed"), Tactic("direct")
        if shape.right.strides[-1] != ITEM and shape.columns > 1:
            return (packed,)
        few = isinstance(shape.rows, int) and shape.rows < 8
        return (direct, packed) if few else (packed, direct)

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        shape, tail = geometry(problem), read_tail(problem)
        assert isinstance(shape, Geometry)
        assert isinstance(tail, Tail)
        return _Writer(problem, tactic, target, _merged(problem, shape, tail), tail).code()


def at_trial_sizes(problem: Problem) -> Problem:
    """The problem with a size for every symbol: to ask whether it is taken at all."""
    import msgspec

    values = {s.name: max(2, s.lower) for s in problem.symbols}
    return msgspec.structs.replace(problem, types=tuple(t.reshape(t.concrete(values)) for t in problem.types))


def refusal(problem: Problem) -> str:
    """Why a problem is not taken, empty when it is."""
    shape, tail = geometry(problem), read_tail(problem)
    if isinstance(shape, str):
        return shape
    if isinstance(tail, str):
        return tail
    if tail.layers and problem.types[tail.result].rank != len(shape.full):
        return "its tail follows a product with a vector"
    for number in tail.operands:
        layout = Layout.dense(problem.types[number])
        if layout is None or layout.broadcast(shape.full) is None:
            return f"its tail reads {problem.types[number]}, sizes of which change at run time"
    return ""


def _merged(problem: Problem, shape: Geometry, tail: Tail) -> Geometry:
    """Batches that share b and lie behind each other as rows of one matrix."""
    batch = len(shape.batch)
    known = all(isinstance(d, int) for d in (*shape.batch, shape.rows))
    if not batch or not known or any(shape.right.strides[:batch]):
        return shape
    rows = product((*shape.batch, shape.rows))
    left, result = shape.left.reshape((rows, shape.depth)), shape.result.reshape((rows, shape.columns))
    operands = [Layout.dense(problem.types[number]) for number in tail.operands]
    spread = [layout.broadcast(shape.full) if layout else None for layout in operands]
    if left is None or result is None or any(s is None or s.reshape(result.shape) is None for s in spread):
        return shape
    right = Layout(shape.right.shape[batch:], shape.right.strides[batch:])
    return Geometry((), rows, shape.columns, shape.depth, left, right, result)


@dataclass(frozen=True)
class _Split:
    """panels, rows: what one unit has of them at most."""

    panels: int
    panel_groups: int
    rows: int
    row_groups: int


class _Writer:
    """Writes the code of one product."""

    def __init__(self, problem: Problem, tactic: Tactic, target: Target, shape: Geometry, tail: Tail) -> None:
        self.problem, self.shape, self.tail = problem, shape, tail
        self.packs = tactic.key == "packed"
        self.routine = Routine(problem, tactic, target, len(problem.constants))
        self.fn: Function = self.routine.function
        self.operands = Operands(self.routine)
        self.tile = self._tiling(target)
        self.split = self._split()

    def _tiling(self, target: Target) -> Tiling:
        rows = self.shape.rows
        tile = tiling(target, rows if isinstance(rows, int) and rows else None)
        width = tile.width
        while width > 16 and width >= 2 * self.shape.columns:
            width //= 2
        return Tiling(tile.rows, width)

    def _split(self) -> _Split:
        """Units enough for every thread to have several, unless they would pack more than they compute."""
        shape, tile = self.shape, self.tile
        panels = -(-shape.columns // tile.width)
        batch = known(product(d if isinstance(d, int) else 1 for d in shape.batch))
        wanted = max(1, 4 * self.problem.threads // max(1, batch))
        fitting = max(1, _PACKED_BYTES // max(1, shape.depth * tile.width * ITEM)) if self.packs else panels
        each = max(1, min(fitting, panels, -(-panels // wanted)))
        groups = -(-panels // each)
        if not isinstance(shape.rows, int):
            return _Split(each, groups, 0, 1)
        row_groups = max(1, min(wanted // max(1, groups), shape.rows // (16 * tile.rows)))
        rows = -(-shape.rows // row_groups // tile.rows) * tile.rows
        rows = max(tile.rows, rows)
        return _Split(each, groups, rows, max(1, -(-shape.rows // rows)))

    def code(self) -> Code:
        split, scratch = self.split, 0
        if self.packs:
            scratch = split.panels * max(1, self.shape.depth) * self.tile.width * ITEM
        units = product(self.shape.batch) * (split.panel_groups * split.row_groups)
        self.routine.phase(units, self._unit)
        return self.routine.code(scratch)

    def _unit(self, unit: Value) -> None:
        fn, shape, split = self.fn, self.shape, self.split
        sizes = [*(self.routine.dimension(d) for d in shape.batch), split.row_groups, split.panel_groups]
        *batch, row_group, panel_group = unravel(unit, sizes)
        last_panel = -(-shape.columns // self.tile.width)
        first = panel_group * split.panels
        past = fn.minimum(first + split.panels, last_panel)
        right = self._start(self.problem.layers[0].inputs[1], shape.right, batch)
        if self.packs:
            self._each_panel(first, past, lambda panel, count: self._pack(panel, first, right, count))
        start = row_group * split.rows
        end = self.routine.dimension(shape.rows)
        if split.row_groups > 1:
            end = fn.minimum(start + split.rows, end)
        self._each_rows(start, end, lambda row, rows: self._row_of_tiles(batch, row, rows, (first, past), right))

    def _start(self, number: int, layout: Layout, batch: Sequence[Index]) -> Value:
        """Where the matrices of a batch begin."""
        return self.fn.offset(self.operands.pointer(number), distance(batch, layout.strides[: len(batch)]))

    def _each_panel(self, first: Index, past: Index, body: Callable[[Value, int], None]) -> None:
        """``body(panel, columns)`` for panels from first to before past; the last one may be narrower."""
        fn, width = self.fn, self.tile.width
        whole, rest = divmod(self.shape.columns, width)
        ends = fn.minimum(past, whole) if rest else past

        def full(panel: Value, _: list[Value]) -> Sequence[Value]:
            body(panel, width)
            return ()

        if whole:
            fn.loop(first, ends, full)
        if rest:
            here = fn.as_value(past, I64)
            fn.when(fn.compare("sgt", here, whole), lambda: body(fn.constant(I64, whole), rest))

    def _each_rows(self, start: Index, end: Index, body: Callable[[Value, int], None]) -> None:
        """``body(row, rows)`` for whole tiles, then for the rows that are left."""
        fn, rows, total = self.fn, self.tile.rows, self.shape.rows

        def step(count: int) -> Callable[[Value, list[Value]], Sequence[Value]]:
            def tiles(row: Value, _: list[Value]) -> Sequence[Value]:
                body(row, count)
                return ()

            return tiles

        whole = end // rows * rows
        fn.loop(start, whole, step(rows), step=rows)
        if not isinstance(total, int):
            fn.loop(whole, end, step(1))
        elif rest := total % rows:
            at_end = fn.compare("eq", fn.as_value(end, I64), total)
            fn.when(at_end, lambda: body(fn.constant(I64, total - rest), rest))

    def _pack(self, panel: Value, first: Index, right: Value, count: int) -> None:
        fn, width, depth = self.fn, self.tile.width, self.shape.depth
        step, column = self.shape.right.strides[-2:]
        column = column or ITEM  # a single column
        source = Columns(fn.offset(right, panel * (width * column)), column, step, count)
        pack_panel(fn, self._packed(panel, first), source, depth, width)

    def _packed(self, panel: Value, first: Index) -> Value:
        return self.fn.offset(self.routine.scratch, (panel - first) * (self.shape.depth * self.tile.width * ITEM))

    def _row_of_tiles(
        self, batch: Sequence[Index], row: Value, rows: int, panels: tuple[Index, Index], right: Value
    ) -> None:
        fn, shape = self.fn, self.shape
        left = self._start(self.problem.layers[0].inputs[0], shape.left, batch)
        stride, step = shape.left.strides[-2:]
        a = Rows(fn.offset(left, row * stride), stride, step)

        def tile(panel: Value, count: int) -> None:
            width = self.tile.width
            if self.packs:
                b = Panel(self._packed(panel, panels[0]), ITEM * width, width, width)
            else:
                b = Panel(fn.offset(right, panel * (width * ITEM)), shape.right.strides[-2], width, count)
            sums = tile_product(fn, a, b, rows, shape.depth)
            self._finish((*batch, row, panel * width), sums, count)

        self._each_panel(*panels, tile)

    def _finish(self, at: Sequence[Index], sums: Sequence[Value], count: int) -> None:
        """The tail and the result of a tile whose first element is ``at``."""
        fn, problem, tail = self.fn, self.problem, self.tail
        number = problem.outputs[0]
        type = problem.types[number]
        layout = Layout(self.shape.full, tuple(s // ITEM * type.numpy.itemsize for s in self.shape.result.strides))
        into = fn.offset(self.operands.pointer(number), distance(at, layout.strides))
        reads = {n: self.operands.spread(n, self._full_shape(n), at) for n in tail.operands}
        for i, value in enumerate(sums):
            values = {tail.result: value}
            for n, read in reads.items():
                values[n] = read.load(i, self.tile.width, count)
            operations.compute(fn, problem, tail.layers, values)
            operations.store(fn, type.dtype, values[number], into, i * layout.strides[-2], count)

    def _full_shape(self, number: int) -> Layout:
        """A tail's operand over the whole result, batches merged as the product's are."""
        shape = self.shape
        layout = Layout.dense(self.problem.types[number])
        assert layout is not None
        given = self.problem.types[self.tail.result].shape
        spread = layout.broadcast(given)
        assert spread is not None
        merged = spread if len(given) == len(shape.full) else spread.reshape(shape.full)
        assert merged is not None
        return merged
