"""Depthwise convolution: every channel by its own window, as many channels at once as a register has lanes.

A tile is a number of pixels of one row; each input element is loaded once for all the pixels that it serves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from tenonrt.contracts import NCHW16C, Array, Code, GraphView, Layer, Problem, Support, Tactic, Weights

from tenonrt_kernel_llvm.contraction.direct import strided_operands
from tenonrt_kernel_llvm.contraction.direct_recipes import MAX_EDGES
from tenonrt_kernel_llvm.contraction.epilogue import (
    Epilogue,
    Place,
    bias_of,
    epilogue_rows,
    named,
    operand_formats,
    pack_epilogue,
    tail_refusal,
)
from tenonrt_kernel_llvm.contraction.geometry import Geometry, geometry_of, inside_rows, read_geometry
from tenonrt_kernel_llvm.contraction.microkernel import BLOCK_BYTES
from tenonrt_kernel_llvm.contraction.pooled import Means, Pooled, read_pooled, regions_with_mean, total_of
from tenonrt_kernel_llvm.contraction.tiles import Run, padded_runs, runs_of
from tenonrt_kernel_llvm.emitter import Index, Value, vector
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.tails import read_tail, regions_with_tail, tail_of
from tenonrt_kernel_llvm.target import BLOCK, Target, host_target


class DepthwiseConvolution(LlvmKernel):
    """float32, one filter for each channel, any window, stride, dilation, padding and batch; pointwise tails."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        for region in regions_with_tail(view, layer):
            yield from regions_with_mean(view, region)

    def supports(self, problem: Problem) -> Support:
        whole, problem = problem, read_pooled(problem).problem
        geometry, tail = read_geometry(problem), read_tail(problem)
        if isinstance(geometry, str) or isinstance(tail, str):
            return Support(False, geometry if isinstance(geometry, str) else str(tail))
        if not geometry.depthwise:
            return Support(False, "computes one filter for each channel only")
        why = tail_refusal(problem, tail)
        return Support(False, why) if why else Support(True, runtime_symbols=runtime_symbols(whole))

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        pooled = read_pooled(problem)
        geometry, tail = geometry_of(pooled.problem), tail_of(pooled.problem)
        formats = operand_formats(problem, tail, NCHW16C, NCHW16C)
        strided = strided_operands(problem, formats)
        return [
            Tactic(
                f"w{width}", formats, (NCHW16C,) * len(problem.outputs), workspace=pooled.workspace(geometry),
                reads_strided=strided, writes_strided=(pooled.result,),
            )
            for width in widths(geometry, host_target())
        ]  # fmt: skip

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Weights as [blocks, window rows, columns, 16], zero in channels that are not there."""
        problem, arrays = read_pooled(code.problem).problem, named(code, weights)
        geometry, tail = geometry_of(problem), tail_of(problem)
        rows, columns = geometry.y.window, geometry.x.window
        packed = pack_windows(arrays[problem.layer.inputs[1]].reshape(-1, rows, columns))
        return [
            packed,
            *pack_epilogue(problem, tail, bias_of(problem), geometry.outputs, arrays),
        ]

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        pooled = read_pooled(problem)
        geometry, tail = geometry_of(pooled.problem), tail_of(pooled.problem)
        rows = epilogue_rows(problem, tail, bias_of(problem), geometry.outputs)
        routine = Routine(problem, tactic, target, packed=1 + rows)
        return DepthwiseWriter(routine, geometry, int(tactic.key[1:]), target, pooled=pooled).code()


def pack_windows(windows: Array) -> Array:
    """[channels, rows, columns] as [blocks, rows, columns, 16]."""
    channels, rows, columns = windows.shape
    padded = np.zeros((-(-channels // BLOCK) * BLOCK, rows, columns), np.float32)
    padded[:channels] = windows
    return np.ascontiguousarray(padded.reshape(len(padded) // BLOCK, BLOCK, rows, columns).transpose(0, 2, 3, 1))


def widths(geometry: Geometry, target: Target) -> list[int]:
    """Pixels of a tile: accumulators, one row of the window and an input element fit into the registers."""
    largest = max(2, target.registers - geometry.x.window - 2)
    wanted = {min(width, largest, geometry.x.output) for width in (largest, 8, 7, 4)}
    return sorted((w for w in wanted if len(_edges(geometry, w)) <= MAX_EDGES), reverse=True) or [1]


def _runs(geometry: Geometry, width: int) -> list[Run]:
    if geometry.x.padded:
        return padded_runs(geometry.x.output, width, geometry.x.taps())
    return runs_of(geometry.x.output, width)


def _edges(geometry: Geometry, width: int) -> list[Run]:
    return [run for run in _runs(geometry, width) if run.taps is not None]


class DepthwiseWriter:
    """Writes the code for one width of tiles. skipped: bytes of the packed weights before those of this geometry.

    pooled: how the routine's problem is pooled, by default not at all.
    """

    def __init__(
        self, routine: Routine, geometry: Geometry, width: int, target: Target, skipped: int = 0,
        pooled: Pooled | None = None,
    ) -> None:  # fmt: skip
        self.routine, self.fn, self.geometry = routine, routine.function, geometry
        self.weights = self.fn.offset(routine.packed[0], skipped)
        self.lanes = min(target.lanes, BLOCK)
        pooled = pooled or Pooled(routine.problem)
        self.epilogue = Epilogue(
            routine, bias_of(pooled.problem), geometry.outputs, 1, lanes=self.lanes, tail=tail_of(pooled.problem),
            output=pooled.result,
        )  # fmt: skip
        self.means = None if pooled.mean is None else Means(routine, geometry, pooled.mean, self.lanes)
        self.runs = _runs(geometry, width)
        self.row = geometry.x.size * BLOCK_BYTES

    def code(self) -> Code:
        self.phase()
        return self.routine.code()

    def phase(self) -> None:
        """Add what computes all outputs to the routine."""
        geometry, problem = self.geometry, self.routine.problem
        rows, blocks = geometry.y.output, geometry.output_blocks
        input = self.routine.inputs[problem.activations.index(problem.layer.inputs[0])]

        def unit(number: Value) -> None:
            """One row of one block of channels."""
            rest, y = number // rows, number % rows
            image, block = rest // blocks, rest % blocks
            source = self.fn.offset(input.pointer, image * input.strides[0])
            begin = y * geometry.y.stride + -geometry.y.padding
            source = self.fn.offset(source, block * (geometry.y.size * self.row) + begin * self.row)
            step = geometry.y.dilation * self.row
            self.output_row(image, block, y, lambda number: self.fn.offset(source, number * step))

        self.routine.phase(geometry.batch * (blocks * rows), unit)
        if self.means is not None:
            self.means.phase()

    def output_row(self, image: Value, block: Value, y: Value, line: Callable[[Value], Value]) -> None:
        """Row y of one block of channels. line: where the input row under a row of the window, counted from 0, is."""
        fn, axis = self.fn, self.geometry.y
        window = axis.window * self.geometry.x.window
        weights = fn.offset(self.weights, block * (window * BLOCK_BYTES))
        rows = inside_rows(fn, y * axis.stride + -axis.padding, axis) if axis.padded else (0, axis.window)
        sums = [] if self.means is None else self.means.zeros()
        for run in self.runs:

            def tile(number: Value, carried: list[Value], run: Run = run) -> Sequence[Value]:
                x = number * run.width + run.start
                parts = range(0, BLOCK_BYTES, 4 * self.lanes)
                stored = [self._tile(image, block, line, weights, (y, x), run, rows, part) for part in parts]
                return [total + total_of(values) for total, values in zip(carried, stored, strict=False)]

            sums = fn.loop(0, run.count, tile, sums)
        if self.means is not None:
            self.means.keep(image, block, y, sums)

    def _tile(
        self, image: Value, block: Value, line: Callable[[Value], Value], weights: Value, at: tuple[Value, Value],
        run: Run, rows: tuple[Index, Index], part: int,
    ) -> list[Value]:  # fmt: skip
        """Compute and store a tile; what was stored."""
        fn, geometry, axis = self.fn, self.geometry, self.geometry.x
        corner = (at[1] * axis.stride + -axis.padding) * BLOCK_BYTES

        def row(number: Value, sums: list[Value]) -> Sequence[Value]:
            start, row_weights = (
                fn.offset(line(number), corner),
                fn.offset(weights, number * (axis.window * BLOCK_BYTES)),
            )
            return self._row(start, row_weights, run, sums, part)

        start = self.epilogue.start(Place(image, block, 0, part), 0)
        sums = fn.loop(rows[0], rows[1], row, [start] * run.width)
        width, pixel = axis.span * BLOCK_BYTES, axis.step * BLOCK_BYTES
        begin = at[0] * (geometry.y.step * width) + at[1] * pixel
        begin = begin + (geometry.y.first * width + axis.first * BLOCK_BYTES + part)
        place = Place(image, block, block * (geometry.y.span * width) + begin, part)
        return self.epilogue.store(sums, 1, place, (pixel, 0), biased=True)

    def _row(self, line: Value, weights: Value, run: Run, sums: list[Value], part: int) -> list[Value]:
        """One row of the window: every input element times the weights of all pixels that see it."""
        fn, axis, type = self.fn, self.geometry.x, vector(self.lanes)
        sums = list(sums)
        taps = run.taps or [range(run.width)] * axis.window
        seen: dict[int, list[tuple[int, int]]] = {}
        for tap, present in enumerate(taps):
            for pixel in present:
                seen.setdefault(pixel * axis.stride + tap * axis.dilation, []).append((pixel, tap))
        loaded = [fn.load(type, weights, tap * BLOCK_BYTES + part) for tap in range(axis.window)]
        for column in sorted(seen):
            element = fn.load(type, line, column * BLOCK_BYTES + part)
            for pixel, tap in seen[column]:
                sums[pixel] = fn.fma(element, loaded[tap], sums[pixel])
        return sums
