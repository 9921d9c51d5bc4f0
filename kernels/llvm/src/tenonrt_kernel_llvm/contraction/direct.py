"""Direct convolution: register tiles of pixels by blocks of output channels, padded taps skipped instead of multiplied.

Tactics differ in the tile, in the order of units (all pixels for a block of channels, or all channels for a strip of
pixels) and in the input's format: blocks of 16 channels, or planes for the few channels of a first layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from tenonrt.contracts import (
    LINEAR,
    NCHW16C,
    Array,
    Code,
    Format,
    GraphView,
    Layer,
    Problem,
    Support,
    Tactic,
    Weights,
)

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
from tenonrt_kernel_llvm.contraction.grouping import Grouping, read_grouping
from tenonrt_kernel_llvm.contraction.microkernel import BLOCK_BYTES, VECTOR, Steps, accumulate
from tenonrt_kernel_llvm.contraction.tiles import (
    Run,
    Tile,
    divide,
    narrow_lanes,
    narrow_tile,
    padded_runs,
    runs_of,
    tiles_for,
)
from tenonrt_kernel_llvm.emitter import Index, Value, lanes_of, vector
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.tails import read_tail, regions_with_tail, tail_of
from tenonrt_kernel_llvm.target import BLOCK, Target, host_target

MAX_PLANES = BLOCK - 1  # channels of an image that is read plane by plane
MAX_EDGES = 12  # tiles of a row that stand alone; code grows with them
STRIP_BYTES = 1 << 15  # of input that a strip of pixels takes: what the first-level cache holds


@dataclass(frozen=True)
class Recipe:
    """What a tactic's key says: ``c6x1``: channels outermost, tiles of 6 pixels by 1 block."""

    order: str  # "c": all pixels for a block of channels; "p": all channels for a strip of pixels
    tile: Tile
    planes: bool

    @property
    def key(self) -> str:
        return f"{'planes-' if self.planes else ''}{self.order}{self.tile.width}x{self.tile.blocks}"

    @classmethod
    def parse(cls, key: str) -> Recipe:
        planes, _, rest = key.rpartition("-")
        width, _, blocks = rest[1:].partition("x")
        return cls(rest[0], Tile(int(width), int(blocks)), bool(planes))


class DirectConvolution(LlvmKernel):
    """float32, 1 or 2 spatial axes, any stride, dilation, padding and batch; constant weights; pointwise tails."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return regions_with_tail(view, layer)

    def supports(self, problem: Problem) -> Support:
        geometry, tail = read_geometry(problem), read_tail(problem)
        why = next((found for found in (geometry, tail) if isinstance(found, str)), "")
        if not why and not isinstance(geometry, str) and not isinstance(tail, str):
            grouping = read_grouping(geometry)
            why = grouping if isinstance(grouping, str) else tail_refusal(problem, tail)
        return Support(False, why) if why else Support(True, runtime_symbols=runtime_symbols(problem))

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        geometry, tail = geometry_of(problem), tail_of(problem)
        found = []
        for recipe in recipes(geometry, host_target()):
            formats = operand_formats(problem, tail, _source_format(geometry, recipe), NCHW16C)
            found.append(
                Tactic(
                    recipe.key, formats, (NCHW16C,),
                    reads_strided=strided_operands(problem, formats), writes_strided=(0,),
                )
            )  # fmt: skip
        return found

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        """Cycles that multiplying takes at the tile's best, as if the clock were 3 GHz."""
        geometry = geometry_of(problem)
        return cycles(geometry, Recipe.parse(tactic.key), host_target()) / 3e9 / problem.threads

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Weights by blocks of outputs, blocks of inputs, window rows and columns; then the epilogue's."""
        problem, layer, recipe = code.problem, code.problem.layer, Recipe.parse(code.tactic.key)
        geometry, tail, arrays = geometry_of(problem), tail_of(problem), named(code, weights)
        dense = arrays[layer.inputs[1]].reshape(geometry.outputs, -1, geometry.y.window, geometry.x.window)
        packed = pack_weights(dense, geometry, recipe.tile.blocks, recipe.planes)
        return [packed, *pack_epilogue(problem, tail, bias_of(problem), geometry.outputs, arrays)]

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        geometry, tail = geometry_of(problem), tail_of(problem)
        rows = epilogue_rows(problem, tail, bias_of(problem), geometry.outputs)
        routine = Routine(problem, tactic, target, packed=1 + rows)
        return DirectWriter(routine, geometry, Recipe.parse(tactic.key), problem.layer.inputs[0]).code()


def strided_operands(problem: Problem, formats: Sequence[Format]) -> tuple[int, ...]:
    """The activations that may be slices: those with an image's stride of their own."""
    return tuple(k for k, i in enumerate(problem.activations) if problem.types[i].rank >= 3 and formats[k].blocks)


def _source_format(geometry: Geometry, recipe: Recipe) -> Format:
    return LINEAR if recipe.planes else NCHW16C


def recipes(geometry: Geometry, target: Target) -> list[Recipe]:
    """The tiles that fit the target, in both orders, best guess first."""
    found = []
    for planes in (False, True):
        if planes and (geometry.channels > MAX_PLANES or geometry.groups > 1):
            continue
        narrow = narrow_tile(target, geometry.outputs) if geometry.groups == 1 else None
        extra = [*_single_pixel_tiles(geometry), *([narrow] if narrow else [])]
        for tile in dict.fromkeys((*tiles_for(target, read_blocks(geometry)), *extra)):
            if len([r for r in row_runs(geometry, tile) if r.taps is not None]) > MAX_EDGES:
                continue
            found += [Recipe(order, tile, planes) for order in ("c", "p")]
    return sorted(found, key=lambda recipe: cycles(geometry, recipe, target))


def _single_pixel_tiles(geometry: Geometry) -> list[Tile]:
    """For one pixel, as squeeze-and-excite has, sums of several blocks keep the multipliers busy."""
    single = geometry.flat and geometry.y.size * geometry.x.size == 1 and geometry.groups == 1
    return [Tile(1, blocks) for blocks in (4, 6) if single and blocks <= geometry.output_blocks]


def read_blocks(geometry: Geometry) -> int:
    """Blocks of output channels that may share a tile."""
    grouping = read_grouping(geometry)
    return grouping.together if isinstance(grouping, Grouping) else 1


def row_runs(geometry: Geometry, tile: Tile) -> list[Run]:
    """The tiles of a row, or of a whole flat image."""
    if geometry.flat:
        return runs_of(geometry.y.size * geometry.x.size, tile.width)
    if geometry.x.padded:
        return padded_runs(geometry.x.output, tile.width, geometry.x.taps())
    return runs_of(geometry.x.output, tile.width)


def cycles(geometry: Geometry, recipe: Recipe, target: Target) -> float:
    """Two multiply-adds or two loads a cycle, four cycles until a sum can be used again."""
    tile, each = recipe.tile, target.registers_per_block
    grouping = read_grouping(geometry)
    depth = grouping.depth if isinstance(grouping, Grouping) else geometry.channels
    steps = depth * geometry.y.window * geometry.x.window
    groups = -(-geometry.output_blocks // tile.blocks)
    rows = 1 if geometry.flat else geometry.y.output
    pixels = geometry.y.output * geometry.x.output if geometry.flat else geometry.x.output
    total = 0.0
    for count, width in divide(pixels, tile.width):
        vectors = tile.blocks * each
        if tile.blocks == geometry.output_blocks:
            vectors -= (BLOCK - narrow_lanes(target, geometry.outputs)) // target.lanes
        sums = width * vectors
        total += count * max(sums / 2, (vectors + width) / 2, 4.0 if sums < 8 else 0.0)
    batch = geometry.batch if isinstance(geometry.batch, int) else 1
    order = 1.0 if recipe.order == "c" else 1.001
    return batch * total * steps * groups * rows * order


def pack_weights(dense: Array, geometry: Geometry, blocks: int, planes: bool) -> Array:
    """[group of blocks][block of inputs][row][column][input][block][16]; the last group's surplus blocks are zero."""
    grouping = read_grouping(geometry)
    assert not isinstance(grouping, str)
    dense = grouping.dense(dense)
    outputs, depth, rows, columns = dense.shape
    groups = -(-geometry.output_blocks // blocks)
    padded = np.zeros((groups * blocks * BLOCK, depth, rows, columns), np.float32)
    padded[:outputs] = dense
    parts = []
    for start in range(0, depth, depth if planes else BLOCK):
        part = padded[:, start : start + (depth if planes else BLOCK)]
        split = part.reshape(groups, blocks, BLOCK, part.shape[1], rows, columns)
        parts.append(split.transpose(0, 4, 5, 3, 1, 2).reshape(groups, -1))
    return np.ascontiguousarray(np.concatenate(parts, axis=1))


class DirectWriter:
    """Writes the code of one recipe. source: the number of the activation that is convolved."""

    def __init__(self, routine: Routine, geometry: Geometry, recipe: Recipe, source: int) -> None:
        self.routine, self.fn, self.geometry, self.recipe = routine, routine.function, geometry, recipe
        grouping = read_grouping(geometry)
        assert not isinstance(grouping, str)
        self.grouping = grouping
        problem = routine.problem
        self.source = routine.inputs[problem.activations.index(source)]
        self.weights = routine.packed[0]
        self.epilogue = Epilogue(routine, bias_of(problem), geometry.outputs, 1)
        self.pixel = 4 if recipe.planes else BLOCK_BYTES
        self.row = geometry.x.size * self.pixel
        self.plane = geometry.y.size * self.row  # from one channel, or one block of them, to the next
        self.groups = -(-geometry.output_blocks // recipe.tile.blocks)
        self.runs = row_runs(geometry, recipe.tile)

    def code(self) -> Code:
        geometry = self.geometry
        parts, part = self._strips()

        def unit(number: Value) -> None:
            if self.recipe.order == "c":
                rest, strip = number // parts, number % parts
                image, group = rest // self.groups, rest % self.groups
            else:
                rest, group = number // self.groups, number % self.groups
                image, strip = rest // parts, rest % parts
            self._unit(image, group, strip, part)

        self.routine.phase(geometry.batch * self.groups * parts, unit)
        return self.routine.code()

    def _strips(self) -> tuple[int, int]:
        """Into how many strips an image is cut, and how many rows, or tiles of a flat image, each has."""
        geometry, depth = self.geometry, self.grouping.depth
        if not geometry.flat:
            return geometry.y.output, 1
        tiles = sum(run.count for run in self.runs)
        wanted = max(1, STRIP_BYTES // (4 * depth * self.recipe.tile.width))
        strips = max(-(-tiles // max(wanted, 4)), min(4, tiles))
        each = -(-tiles // strips)
        return -(-tiles // each), each

    def _unit(self, image: Value, group: Value, strip: Value, part: int) -> None:
        fn, geometry = self.fn, self.geometry
        source = fn.offset(self.source.pointer, image * self.source.strides[0])
        source = fn.offset(source, self.grouping.first_block(group, self.recipe.tile.blocks) * self.plane)
        weights = fn.offset(self.weights, group * self.weights_bytes())
        if geometry.flat:
            tiles = sum(run.count for run in self.runs)
            first = strip * part
            self.row_of_tiles(image, group, source, weights, 0, (first, fn.minimum(first + part, tiles)))
        else:
            self.row_of_tiles(image, group, source, weights, strip, None)

    def weights_bytes(self) -> int:
        geometry = self.geometry
        return self.grouping.depth * geometry.y.window * geometry.x.window * self.recipe.tile.blocks * BLOCK_BYTES

    def row_of_tiles(
        self, image: Value, group: Value, source: Value, weights: Value, y: Index, tiles: tuple[Value, Index] | None
    ) -> None:
        """The tiles of one output row, or those numbered [a, b) of a flat image."""
        fn, geometry = self.fn, self.geometry
        axis = geometry.y
        begin = y * axis.stride + -axis.padding if isinstance(y, Value) else 0
        source = fn.offset(source, begin * self.row if isinstance(begin, Value) else begin)
        rows: tuple[Index, Index] = (0, axis.window)
        if axis.padded and isinstance(begin, Value):
            rows = inside_rows(fn, begin, axis)
        for run in self.runs:
            first, last = (0, run.count)  # type: tuple[Index, Index]
            if tiles is not None:
                first = fn.maximum(tiles[0] - run.first, 0)
                last = fn.minimum(tiles[1] - run.first, run.count)

            def tile(number: Value, _: list[Value], run: Run = run) -> Sequence[Value]:
                x = number * run.width + run.start
                self._tile(image, group, source, weights, y, x, run, rows)
                return ()

            fn.loop(first, last, tile)

    def _tile(
        self, image: Value, group: Value, source: Value, weights: Value, y: Index, x: Value, run: Run,
        rows: tuple[Index, Index],
    ) -> None:  # fmt: skip
        fn, geometry, blocks = self.fn, self.geometry, self.recipe.tile.blocks
        corner = fn.offset(source, (x * geometry.x.stride + -geometry.x.padding) * self.pixel)
        narrow = vector(narrow_lanes(self.routine.target, geometry.outputs)) if self.groups == 1 else VECTOR
        zeros = [fn.zero(VECTOR)] * (blocks - 1) + [fn.zero(narrow)]
        sums = self._channels(corner, weights, run, rows, zeros * run.width)
        sums = [self._whole(total) for total in sums]
        width = geometry.x.output if not geometry.flat else 0
        out = self.routine.outputs[0]
        place_y = y * (width * BLOCK_BYTES) if isinstance(y, Value) else 0
        block_bytes = geometry.y.output * geometry.x.output * BLOCK_BYTES
        offset = x * BLOCK_BYTES + place_y + group * (blocks * block_bytes)
        assert out.type.format == NCHW16C
        place = Place(image, group * blocks, offset)
        rest = geometry.output_blocks % blocks
        if rest == 0:
            self.epilogue.store(sums, blocks, place, (BLOCK_BYTES, block_bytes))
            return
        last = fn.compare("eq", group, self.groups - 1)
        few = [s for i, s in enumerate(sums) if i % blocks < rest]
        fn.when(
            last,
            lambda: self.epilogue.store(few, rest, place, (BLOCK_BYTES, block_bytes)),
            lambda: self.epilogue.store(sums, blocks, place, (BLOCK_BYTES, block_bytes)),
        )

    def _whole(self, total: Value) -> Value:
        """Sums of a whole block; the lanes that a narrow one lacks are zero."""
        lanes = lanes_of(total.type)
        if lanes == BLOCK:
            return total
        fn = self.fn
        return fn.shuffle(total, fn.zero(total.type), [min(lane, lanes) for lane in range(BLOCK)])

    def _channels(
        self, corner: Value, weights: Value, run: Run, rows: tuple[Index, Index], sums: list[Value]
    ) -> list[Value]:
        """All whole blocks of input channels, then the channels of a last one that is not whole."""
        fn, geometry, blocks = self.fn, self.geometry, self.recipe.tile.blocks
        whole, rest = divmod(self.grouping.depth, BLOCK)
        if self.recipe.planes:
            whole, rest = 0, self.grouping.depth
        window = geometry.y.window * geometry.x.window
        weights_block = BLOCK * window * blocks * BLOCK_BYTES
        input_step = self.plane if self.recipe.planes else 4

        def block(number: Value, carried: list[Value]) -> Sequence[Value]:
            steps = Steps(BLOCK, input_step, blocks * BLOCK_BYTES)
            inputs = fn.offset(corner, number * self.plane)
            return self._window(inputs, fn.offset(weights, number * weights_block), run, rows, carried, steps)

        sums = fn.loop(0, whole, block, sums)
        if rest:
            steps = Steps(rest, input_step, blocks * BLOCK_BYTES)
            inputs, last = fn.offset(corner, whole * self.plane), fn.offset(weights, whole * weights_block)
            sums = self._window(inputs, last, run, rows, sums, steps)
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
