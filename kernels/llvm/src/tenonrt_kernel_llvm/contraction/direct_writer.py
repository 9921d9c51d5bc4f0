"""Writes the code of direct convolution: strips of pixels, register tiles in them, window and channels in each tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tenonrt.contracts import NCHW16C, Code

from tenonrt_kernel_llvm.contraction.direct_recipes import STRIP_BYTES, Recipe, row_runs
from tenonrt_kernel_llvm.contraction.epilogue import Epilogue, Place, bias_of
from tenonrt_kernel_llvm.contraction.geometry import Geometry, inside_rows
from tenonrt_kernel_llvm.contraction.grouping import read_grouping
from tenonrt_kernel_llvm.contraction.microkernel import BLOCK_BYTES, VECTOR, Steps, accumulate
from tenonrt_kernel_llvm.contraction.results import Piece, Result, results_of, store_pieces
from tenonrt_kernel_llvm.contraction.tiles import Run, narrow_lanes
from tenonrt_kernel_llvm.emitter import Index, Value, lanes_of, vector
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.target import BLOCK

# Bytes of a group of blocks, by the order of units, from which on its weights come from far away and are asked for in
# advance. In the order "p" they come back for each strip of pixels, and smaller ones are near by then.
FAR_WEIGHTS = {"c": 1 << 15, "p": 1 << 17}
AHEAD = 1 << 12  # bytes that take as long to be multiplied as they do to come from the last-level cache
MAX_BIASED = 512  # terms of a sum that begins with the bias


@dataclass(frozen=True)
class Work:
    """What a strip computes: a group of blocks of output channels of an image, from these inputs and weights."""

    image: Value
    group: Value
    source: Value
    weights: Value
    depth: Index  # whole blocks of input channels


@dataclass(frozen=True)
class Row:
    """An output row, or all of a flat image at y = 0: its first input row, and the rows of the window inside."""

    y: Index
    source: Value
    window: tuple[Index, Index]


class DirectWriter:
    """Writes the code of one recipe. source: the number of the activation that is convolved.

    skipped: bytes of the packed weights before those of this geometry. results: of several filters whose blocks of
    outputs follow each other; by default there is one.
    """

    def __init__(
        self,
        routine: Routine,
        geometry: Geometry,
        recipe: Recipe,
        source: int,
        results: Sequence[Result] | None = None,
        skipped: int = 0,
    ) -> None:
        self.routine, self.fn, self.geometry, self.recipe = routine, routine.function, geometry, recipe
        grouping = read_grouping(geometry)
        assert not isinstance(grouping, str)
        self.grouping = grouping
        problem = routine.problem
        self.source = routine.inputs[problem.activations.index(source)]
        self.weights = self.fn.offset(routine.packed[0], skipped)
        own = [(Epilogue(routine, bias_of(problem), geometry.outputs, 1), geometry.outputs)] if not results else []
        self.results = results or results_of(own)
        self.pixel = 4 if recipe.planes else BLOCK_BYTES
        self.row = geometry.x.size * self.pixel
        self.plane = geometry.y.size * self.row  # from one channel, or one block of them, to the next
        self.groups = -(-geometry.output_blocks // recipe.tile.blocks)
        self.biased = self._begins_with_bias()
        far = self.weights_bytes() > FAR_WEIGHTS.get(recipe.order, self.weights_bytes())
        self.ahead = AHEAD if far and geometry.flat and not recipe.planes else 0
        self.runs = row_runs(geometry, recipe.tile)
        self.whole, self.rest = (0, grouping.depth) if recipe.planes else divmod(grouping.depth, BLOCK)

    def _begins_with_bias(self) -> bool:
        """Whether sums begin with the bias: where a tile's blocks all exist, and are of one filter.

        Not for long sums, where that spares nothing and rounds every partial sum a little more.
        """
        geometry, recipe = self.geometry, self.recipe
        terms = self.grouping.depth * geometry.y.window * geometry.x.window
        whole = len(self.results) == 1 and geometry.output_blocks % recipe.tile.blocks == 0
        return whole and recipe.order != "k" and terms <= MAX_BIASED

    def code(self) -> Code:
        self.phase()
        return self.routine.code(self.scratch_bytes())

    def phase(self) -> None:
        """Add what computes all outputs to the routine."""
        geometry = self.geometry
        parts, part = self.strips()

        def unit(number: Value) -> None:
            if self.recipe.order == "p":
                rest, group = number // self.groups, number % self.groups
                image, strip = rest // parts, rest % parts
            else:
                rest, strip = number // parts, number % parts
                image, group = rest // self.groups, rest % self.groups
            self.unit(self.work(image, group), strip, part)

        self.routine.phase(geometry.batch * self.groups * parts, unit)

    def scratch_bytes(self) -> int:
        """Bytes that each thread needs."""
        return 0

    def strips(self) -> tuple[int, int]:
        """Into how many strips an image is cut, and how many rows, or tiles of a flat image, each has."""
        geometry, depth = self.geometry, self.grouping.depth
        if not geometry.flat:
            return geometry.y.output, 1
        tiles = sum(run.count for run in self.runs)
        wanted = max(1, STRIP_BYTES // (4 * depth * self.recipe.tile.width))
        strips = max(-(-tiles // max(wanted, 4)), min(4, tiles))
        each = -(-tiles // strips)
        return -(-tiles // each), each

    def work(self, image: Value, group: Value) -> Work:
        """All channels of a group of blocks."""
        fn = self.fn
        source = fn.offset(self.source.pointer, image * self.source.strides[0])
        source = fn.offset(source, self.grouping.first_block(group, self.recipe.tile.blocks) * self.plane)
        return Work(image, group, source, fn.offset(self.weights, group * self.weights_bytes()), self.whole)

    def weights_bytes(self) -> int:
        """Of a group of blocks."""
        geometry = self.geometry
        return self.grouping.depth * geometry.y.window * geometry.x.window * self.recipe.tile.blocks * BLOCK_BYTES

    def unit(self, work: Work, strip: Value, part: int) -> None:
        """The strip of this number."""
        fn = self.fn
        if self.geometry.flat:
            first = strip * part
            self.tiles(work, 0, (first, fn.minimum(first + part, sum(run.count for run in self.runs))))
        else:
            self.tiles(work, strip)

    def tiles(self, work: Work, y: Index, part: tuple[Value, Index] | None = None) -> None:
        """The tiles of output row y, or those numbered [a, b) of a flat image."""
        fn, row = self.fn, self._row(work, y)
        for run in self.runs:
            first, last = (0, run.count)  # type: tuple[Index, Index]
            if part is not None:
                first = fn.maximum(part[0] - run.first, 0)
                last = fn.minimum(part[1] - run.first, run.count)

            def tile(number: Value, _: list[Value], run: Run = run) -> Sequence[Value]:
                self.tile(work, row, number * run.width + run.start, run)
                return ()

            fn.loop(first, last, tile)

    def _row(self, work: Work, y: Index) -> Row:
        axis = self.geometry.y
        if not isinstance(y, Value):
            return Row(y, work.source, (0, axis.window))
        begin = y * axis.stride + -axis.padding
        window: tuple[Index, Index] = inside_rows(self.fn, begin, axis) if axis.padded else (0, axis.window)
        return Row(y, self.fn.offset(work.source, begin * self.row), window)

    def tile(self, work: Work, row: Row, x: Value, run: Run) -> None:
        """The outputs of a tile whose first pixel is x."""
        start = self._biases(work) * run.width if self.biased else self.zeros(run.width)
        self.store(work, row.y, x, self.sums(work, row, x, run, start))

    def zeros(self, width: int) -> list[Value]:
        """Sums of nothing, for this many pixels."""
        return ([self.fn.zero(VECTOR)] * (self.recipe.tile.blocks - 1) + [self.fn.zero(self._last_type)]) * width

    @property
    def _last_type(self) -> str:
        """Of the sums of a tile's last block: where it is the only one, of no more lanes than it has channels."""
        lanes = narrow_lanes(self.routine.target, self.geometry.outputs)
        return vector(lanes) if self.groups == 1 else VECTOR

    def _biases(self, work: Work) -> list[Value]:
        """What the sums of a pixel begin with."""
        fn, blocks = self.fn, self.recipe.tile.blocks
        place = Place(work.image, work.group * blocks, 0)
        found = [self.results[0].epilogue.start(place, block) for block in range(blocks)]
        lanes = lanes_of(self._last_type)
        return found if lanes == BLOCK else [*found[:-1], fn.shuffle(found[-1], found[-1], range(lanes))]

    def store(self, work: Work, y: Index, x: Value, sums: Sequence[Value]) -> None:
        """Finish the sums and write them; a tile may hold blocks of several results, the last one fewer."""
        geometry, blocks = self.geometry, self.recipe.tile.blocks
        assert all(output.type.format == NCHW16C for output in self.routine.outputs)
        whole = [self._whole(total) for total in sums]
        line, pixel = geometry.x.span * BLOCK_BYTES, geometry.x.step * BLOCK_BYTES
        block_bytes = geometry.y.span * line
        start = x * pixel + geometry.x.first * BLOCK_BYTES
        if isinstance(y, Value):
            start = start + (y * (geometry.y.step * line) + geometry.y.first * line)

        def write(piece: Piece) -> None:
            first = work.group * blocks + (piece.start - piece.result.first)
            place = Place(work.image, first, start + first * block_bytes)
            # Lanes past the last channel are stored as zeros: blocks are whole.
            own, steps = piece.of(whole, blocks), (pixel, block_bytes)
            piece.result.epilogue.store(own, piece.count, place, steps, biased=self.biased)

        store_pieces(self.fn, self.results, blocks, work.group, write)

    def _whole(self, total: Value) -> Value:
        """Sums of a whole block; the lanes that a narrow one lacks are zero."""
        lanes = lanes_of(total.type)
        if lanes == BLOCK:
            return total
        fn = self.fn
        return fn.shuffle(total, fn.zero(total.type), [min(lane, lanes) for lane in range(BLOCK)])

    def sums(self, work: Work, row: Row, x: Value, run: Run, sums: list[Value]) -> list[Value]:
        """The sums after all whole blocks of input channels, then the channels of a last one that is not whole."""
        fn, geometry, blocks = self.fn, self.geometry, self.recipe.tile.blocks
        corner = fn.offset(row.source, (x * geometry.x.stride + -geometry.x.padding) * self.pixel)
        weights_block = BLOCK * geometry.y.window * geometry.x.window * blocks * BLOCK_BYTES
        input_step = self.plane if self.recipe.planes else 4

        def block(number: Value, carried: list[Value]) -> Sequence[Value]:
            steps = Steps(BLOCK, input_step, blocks * BLOCK_BYTES, ahead=self.ahead)
            inputs, weights = fn.offset(corner, number * self.plane), fn.offset(work.weights, number * weights_block)
            return self._window(inputs, weights, run, row.window, carried, steps)

        sums = fn.loop(0, work.depth, block, sums)
        if self.rest:
            steps = Steps(self.rest, input_step, blocks * BLOCK_BYTES)
            inputs = fn.offset(corner, self.whole * self.plane)
            weights = fn.offset(work.weights, self.whole * weights_block)
            sums = self._window(inputs, weights, run, row.window, sums, steps)
        return sums

    def _window(
        self, inputs: Value, weights: Value, run: Run, rows: tuple[Index, Index], sums: list[Value], steps: Steps
    ) -> list[Value]:
        fn, geometry, blocks = self.fn, self.geometry, self.recipe.tile.blocks
        tap_bytes = steps.count * steps.weights
        pixels = [(p, p * geometry.x.stride * self.pixel) for p in range(run.width)]

        def row(number: Value, carried: list[Value]) -> Sequence[Value]:
            line = fn.offset(inputs, number * (geometry.y.dilation * self.row))
            first = fn.offset(weights, number * (geometry.x.window * tap_bytes))
            if run.taps is not None:
                return self._edge_taps(line, first, run.taps, pixels, carried, steps)

            def column(tap: Value, inner: list[Value]) -> Sequence[Value]:
                at = fn.offset(line, tap * (geometry.x.dilation * self.pixel))
                return accumulate(fn, inner, blocks, at, fn.offset(first, tap * tap_bytes), pixels, steps)

            return fn.loop(0, geometry.x.window, column, carried)

        return fn.loop(rows[0], rows[1], row, sums)

    def _edge_taps(
        self,
        line: Value,
        weights: Value,
        taps: Sequence[Sequence[int]],
        pixels: Sequence[tuple[int, int]],
        sums: list[Value],
        steps: Steps,
    ) -> list[Value]:
        """Column by column of the window, for the pixels that have it, each in a basic block of its own."""
        fn, geometry, blocks = self.fn, self.geometry, self.recipe.tile.blocks
        for tap, present in enumerate(taps):
            if not present:
                continue
            fn.new_block()
            at = fn.offset(line, tap * geometry.x.dilation * self.pixel)
            where = fn.offset(weights, tap * steps.count * steps.weights)
            sums = accumulate(fn, sums, blocks, at, where, [pixels[p] for p in present], steps)
        return sums
