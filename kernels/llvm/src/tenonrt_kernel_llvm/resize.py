"""Resize of images' rows and columns: repetitions as copies, other nearest elements by table, linear blends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tenonrt.contracts import NCHW16C, Array, Code, Dim, Dimension, Problem, ResizedAxis, Support, Tactic, Weights

from tenonrt_kernel_llvm.copying import block_strides, copy_phase, copy_row
from tenonrt_kernel_llvm.emitter import FLOAT, I32, I64, Index, Value, vector
from tenonrt_kernel_llvm.indexing import distance, items_phase, known, plus, times
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.moves import Move, NotMovableError, Side, in_blocks, values_of
from tenonrt_kernel_llvm.routine import Operand, Routine
from tenonrt_kernel_llvm.sampling_axes import linear, nearest
from tenonrt_kernel_llvm.target import BLOCK, Target


class ResizeKernel(LlvmKernel):
    """Nearest (elements of 1, 2, 4 or 8 bytes) and linear (float32) of the last two axes, by known scales or sizes."""

    def supports(self, problem: Problem) -> Support:
        why = _refusal(problem)
        return Support(False, why) if why else Support(True, runtime_symbols=runtime_symbols(problem))

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        found = [Tactic("linear")]
        image = problem.types[problem.layer.inputs[0]]
        if image.rank == 4 and image.dtype == "float32" and isinstance(image.shape[1], int):
            blocks = (NCHW16C,)
            found.append(Tactic("blocks", blocks, blocks, reads_strided=(0,), writes_strided=(0,)))
        return found

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Tables of rows, then of columns: elements, and where there are several their weights."""
        axes, attrs = _axes(code.problem), code.problem.layer.attrs
        assert not isinstance(axes, str)
        if _repetition(code.problem) is not None:
            return []
        if attrs.mode == "nearest":
            return [nearest(axis, attrs.coordinate_transformation, attrs.nearest_rounding) for axis in axes]
        found: list[Array] = []
        for axis in axes:
            found += linear(axis, attrs.coordinate_transformation, exclude_outside=attrs.exclude_outside)
        return found

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        move = _repetition(problem)
        if move is not None:
            routine = Routine(problem, tactic, target)
            if tactic.output_format(0).blocks:
                move = in_blocks(move, problem)
                assert move is not None
            ends = {problem.layer.inputs[0]: routine.inputs[0], problem.layer.outputs[0]: routine.outputs[0]}
            copy_phase(routine, [move] if 0 not in move.sizes else [], ends.__getitem__)
            return routine.code()
        if problem.layer.attrs.mode == "nearest":
            routine = Routine(problem, tactic, target, packed=2)
            _Nearest(routine).write()
            return routine.code()
        routine = Routine(problem, tactic, target, packed=4)
        blend = _Linear(routine)
        blend.write()
        return routine.code(scratch=blend.scratch)


def _refusal(problem: Problem) -> str:
    if problem.kinds != ("Resize",) or len(problem.activations) != 1:
        return f"one Resize by known scales or sizes, not {'+'.join(problem.kinds)}"
    image, attrs = problem.types[problem.layer.inputs[0]], problem.layer.attrs
    if problem.inputs[problem.activations[0]].role == "host" or problem.layer.inputs[0] in problem.constants:
        return "the image is on the host or a constant"
    if attrs.mode not in {"nearest", "linear"} or attrs.antialias or attrs.keep_aspect != "stretch":
        return "nearest or linear, without antialias, stretching to any aspect"
    if attrs.coordinate_transformation == "tf_crop_and_resize":
        return f"not {attrs.coordinate_transformation}"
    if image.dtype != "float32" and (attrs.mode == "linear" or image.numpy.itemsize not in (1, 2, 4, 8)):
        return f"{attrs.mode} of {image.dtype}"
    axes = _axes(problem)
    return axes if isinstance(axes, str) else ""


def _axes(problem: Problem) -> tuple[ResizedAxis, ResizedAxis] | str:
    """The last two axes, or why others are resized too or sizes are not known."""
    before, after = (problem.types[t].shape for t in (problem.layer.inputs[0], problem.layer.outputs[0]))
    rank, attrs = len(before), problem.layer.attrs
    if rank < 2:
        return "images of at least two axes"
    try:
        scales, sizes = values_of(problem, 2), values_of(problem, 3)
    except NotMovableError as reason:
        return str(reason)
    chosen = list(range(rank)) if attrs.axes is None else [a % rank for a in attrs.axes]
    scale = [1.0] * rank
    for i, axis in enumerate(chosen):
        if scales:
            scale[axis] = float(scales[i])
        elif isinstance(before[axis], int):
            wanted = known((sizes or [])[i])
            scale[axis] = float(np.float32(wanted) / np.float32(max(1, known(before[axis]))))
    outer = range(rank - 2)
    if any(before[a] != after[a] or scale[a] != 1.0 for a in outer):
        return "only the last two axes are resized"
    if any(isinstance(d, Dim) for d in (*before[-2:], *after[-2:])):
        return "rows and columns of known number"
    rows, columns = (ResizedAxis(a, known(before[a]), known(after[a]), scale[a]) for a in (rank - 2, rank - 1))
    return rows, columns


def _repetition(problem: Problem) -> Move | None:
    """The move that repeats every row and column a whole number of times; None for other resizes."""
    axes, attrs = _axes(problem), problem.layer.attrs
    assert not isinstance(axes, str)
    if attrs.mode != "nearest" or any(axis.size == 0 for axis in axes):
        return None
    times_: list[int] = []
    for axis in axes:
        count, rest = divmod(axis.resized, axis.size)
        picked = nearest(axis, attrs.coordinate_transformation, attrs.nearest_rounding)
        if rest or not np.array_equal(picked, np.arange(axis.resized) // max(1, count)):
            return None
        times_.append(count)
    source, target = problem.layer.inputs[0], problem.layer.outputs[0]
    shape = problem.types[source].shape
    rank = len(shape)
    outer = tuple((axis, 1) for axis in range(rank - 2))
    (down, across), (row, column) = times_, (rank - 2, rank - 1)
    sizes = (*shape[:-2], shape[-2], down, shape[-1], across)
    origin = Side(source, (0,) * rank, (*outer, (row, 1), None, (column, 1), None))
    place = Side(target, (0,) * rank, (*outer, (row, down), (row, 1), (column, across), (column, 1)))
    return Move(sizes, origin, place)


@dataclass(frozen=True)
class _Row:
    """One row of the result: its number, where it begins, and where its plane of the image begins."""

    number: Index
    target: Value
    plane: Value


class _Rows:
    """Writes a phase over the rows of the result. A pixel is one element, or a block of channels."""

    def __init__(self, routine: Routine) -> None:
        self.routine, self.fn = routine, routine.function
        self.given, self.made = routine.inputs[0], routine.outputs[0]
        axes = _axes(routine.problem)
        assert not isinstance(axes, str)
        self.rows, self.columns = axes
        self.lanes = BLOCK if self.made.type.format.blocks else 1
        self.pixel = self.lanes * self.made.type.numpy.itemsize

    def write(self) -> None:
        shape: Sequence[Dimension] = self.made.type.physical_shape
        planes = shape[: len(self.made.type.shape) - 2]
        if any(d == 0 for d in shape):
            self.routine.phase(0, lambda unit: None)
            return

        def row(at: list[Index]) -> None:
            *outer, number = at
            self.row(_Row(number, self._at(self.made, at), self._at(self.given, outer)))

        items_phase(self.routine, [*planes, self.rows.resized], self.columns.resized * self.lanes, row)

    def _at(self, operand: Operand, at: Sequence[Index]) -> Value:
        return self.fn.offset(operand.pointer, distance(at, block_strides(operand)[: len(at)]))

    def row(self, row: _Row) -> None:
        raise NotImplementedError

    def element(self, table: Value, index: Index) -> Value:
        """A number of a table of elements."""
        return self.fn.convert("sext", self.fn.load(I32, table, times(index, 4)), I64)


class _Nearest(_Rows):
    """Rows picked by table, their pixels too."""

    def row(self, row: _Row) -> None:
        fn, (rows, columns) = self.fn, self.routine.packed
        source = fn.offset(row.plane, self.element(rows, row.number) * (self.columns.size * self.pixel))

        def pixel(index: Value, _: list[Value]) -> Sequence[Value]:
            picked = fn.offset(source, self.element(columns, index) * self.pixel)
            copy_row(fn, self.pixel, picked, fn.offset(row.target, index * self.pixel))
            return ()

        fn.loop(0, self.columns.resized, pixel)


class _Linear(_Rows):
    """Two rows are blended into one, of which pairs of pixels are blended then."""

    @property
    def scratch(self) -> int:
        """Bytes of a blended row of the image."""
        return self.columns.size * self.pixel

    def row(self, row: _Row) -> None:
        if self.columns.identity:
            self._blend_rows(row, row.target)
            return
        source = self.routine.scratch
        if self.rows.identity:
            source = self.fn.offset(row.plane, times(row.number, self.scratch))
        else:
            self._blend_rows(row, source)
        self._blend_pixels(source, row.target)

    def _blend_rows(self, row: _Row, target: Value) -> None:
        fn, (table, weights) = self.fn, self.routine.packed[:2]
        if self.rows.identity:
            copy_row(fn, self.scratch, fn.offset(row.plane, times(row.number, self.scratch)), target)
            return
        places = [plus(row.number, tap * self.rows.resized) for tap in range(2)]
        sources = [fn.offset(row.plane, self.element(table, place) * self.scratch) for place in places]
        factors = [fn.load(FLOAT, weights, times(place, 4)) for place in places]
        length = self.columns.size * self.lanes
        wide = [fn.splat(factor, BLOCK) for factor in factors]

        def blend(at: Index, factors: Sequence[Value], lanes: int) -> None:
            first, second = (fn.load(vector(lanes), source, at) for source in sources)
            fn.store(fn.fma(second, factors[1], first * factors[0]), target, at)

        def whole(index: Value, _: list[Value]) -> Sequence[Value]:
            blend(index * (4 * BLOCK), wide, BLOCK)
            return ()

        def single(index: Value, _: list[Value]) -> Sequence[Value]:
            blend(index * 4, factors, 1)
            return ()

        fn.loop(0, length // BLOCK, whole)
        fn.loop(length // BLOCK * BLOCK, length, single)

    def _blend_pixels(self, source: Value, target: Value) -> None:
        fn, (table, weights) = self.fn, self.routine.packed[2:]

        def pixel(index: Value, _: list[Value]) -> Sequence[Value]:
            places = [plus(index, tap * self.columns.resized) for tap in range(2)]
            taps = [fn.load(vector(self.lanes), source, self.element(table, place) * self.pixel) for place in places]
            factors = [fn.splat(fn.load(FLOAT, weights, times(place, 4)), self.lanes) for place in places]
            fn.store(fn.fma(taps[1], factors[1], taps[0] * factors[0]), target, index * self.pixel)
            return ()

        fn.loop(0, self.columns.resized, pixel)
