"""Convolutions and fully connected layers in bfloat16, where a configuration permits it; sums are of float32.

Activations stay float32 in memory. Weights are rounded once, inputs as they are copied for the multiplication.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tenonrt.contracts import NCHW16C, Array, Code, GraphView, Layer, Problem, Support, Tactic, Weights

from tenonrt_kernel_llvm.contraction.direct import strided_operands
from tenonrt_kernel_llvm.contraction.epilogue import Place, named, operand_formats
from tenonrt_kernel_llvm.contraction.filters import Filters, filters_of, read_filters
from tenonrt_kernel_llvm.contraction.fully_connected import matrices_of, read_matrices
from tenonrt_kernel_llvm.contraction.geometry import Geometry
from tenonrt_kernel_llvm.contraction.microkernel import BLOCK_BYTES, VECTOR
from tenonrt_kernel_llvm.contraction.pairs import DEPTH, Columns, Lines, halved, pack_pairs, rounded, tile_rows
from tenonrt_kernel_llvm.contraction.pairs_writer import PairsWriter
from tenonrt_kernel_llvm.contraction.results import Piece
from tenonrt_kernel_llvm.emitter import Function, Index, Value
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.tails import regions_with_tail
from tenonrt_kernel_llvm.target import BLOCK, DOT_BF16, TILES_BF16, Target, bfloat16_targets

# How a tactic multiplies, the first word of its key, and what its code is generated for. A key that ends in "columns"
# copies the inputs of every window, which few pixels of deep images repay: tiles are full, and read from end to end.
WAYS = {"amx": TILES_BF16, "dot": DOT_BF16}
_RATES = {"amx": 200.0, "dot": 16.0}  # multiply-adds a cycle, for estimates
_LEAST_CHANNELS = BLOCK  # of fewer a step would be mostly padding
_COLUMNS_BYTES = 4 << 20  # that such a copy may take


def _ways() -> list[str]:
    return [way for way, target in WAYS.items() if target in bfloat16_targets()]


class _Bfloat16(LlvmKernel):
    aggregates = True

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return regions_with_tail(view, layer)

    def supports(self, problem: Problem) -> Support:
        why = self.refusal(problem)
        if not why and not _ways():
            why = "the processor, or the target that was asked for, does not multiply bfloat16"
        return Support(False, why) if why else Support(True, runtime_symbols=runtime_symbols(problem))

    def refusal(self, problem: Problem) -> str:
        raise NotImplementedError

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        """Cycles of the multiplications, as if the clock were 3 GHz."""
        work = 0
        for layer in problem.layers:
            if layer.kind in ("Convolution", "FullyConnected"):
                weights, result = problem.types[layer.inputs[1]], problem.types[layer.outputs[0]]
                sizes = [d if isinstance(d, int) else 1 for d in result.shape]
                channels = sizes[1] if layer.kind == "Convolution" else sizes[-1]
                pixels = 1
                for size in sizes:
                    pixels *= size
                work += pixels // max(1, channels) * weights.concrete({})[0] * _depth(weights.concrete({}))
        return work / _RATES[_way(tactic)] / 3e9 / problem.threads


def _way(tactic: Tactic) -> str:
    return tactic.key.partition("-")[0]


def _depth(shape: Sequence[int]) -> int:
    depth = 1
    for size in shape[1:]:
        depth *= size
    return depth


# convolution ----------------------------------------------------------------------------------------------------------


class Bfloat16Convolution(_Bfloat16):
    """Images in blocks of 16 channels, any window, stride, dilation, padding and batch, one group."""

    def refusal(self, problem: Problem) -> str:
        """Why a problem is not computed."""
        filters = read_filters(problem)
        if isinstance(filters, str):
            return filters
        if filters.geometry.groups > 1 or filters.geometry.channels < _LEAST_CHANNELS:
            return f"multiplies at least {_LEAST_CHANNELS} channels in one group"
        return ""

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        filters, results = filters_of(problem), tuple(range(len(problem.outputs)))
        formats = operand_formats(problem, filters.reach, NCHW16C, NCHW16C)
        common: dict[str, Any] = {
            "inputs": formats, "outputs": (NCHW16C,) * len(results), "precision": "bfloat16",
            "reads_strided": strided_operands(problem, formats), "writes_strided": results,
        }  # fmt: skip
        geometry = filters.geometry
        found = []
        for way in _ways():
            columns = _columns(geometry, way).nbytes
            if columns <= _COLUMNS_BYTES or _single(geometry):
                found.append(Tactic(f"{way}-columns", workspace=geometry.batch * columns, **common))
            if not _single(geometry):
                found.append(Tactic(way, workspace=geometry.batch * _lines_bytes(geometry), **common))
        return found

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        filters, arrays = filters_of(code.problem), named(code, weights)
        dense = filters.dense(arrays)
        return [pack_pairs(dense.reshape(*dense.shape[:2], -1)), *filters.pack_epilogues(arrays)]

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        filters = filters_of(problem)
        routine = Routine(problem, tactic, WAYS[_way(tactic)], packed=1 + sum(filters.rows))
        return _Convolution(routine, filters, tactic).code()


def _single(geometry: Geometry) -> bool:
    """Whether windows have one element."""
    return geometry.y.window == geometry.x.window == 1


def _steps(geometry: Geometry) -> int:
    return rounded(geometry.channels) // DEPTH


def _columns(geometry: Geometry, way: str) -> Columns:
    taps = geometry.y.window * geometry.x.window
    return Columns.of(way, geometry.y.output * geometry.x.output, taps * _steps(geometry))


def _around(geometry: Geometry) -> tuple[int, int]:
    """Lines and pixels that windows reach."""
    y, x = geometry.y, geometry.x
    return (
        (y.output - 1) * y.stride + (y.window - 1) * y.dilation + 1,
        (x.output - 1) * x.stride + (x.window - 1) * x.dilation + 1,
    )


def _lines_bytes(geometry: Geometry) -> int:
    lines, width = _around(geometry)
    return lines * width * 2 * rounded(geometry.channels)


def _lines(geometry: Geometry, way: str) -> Lines:
    y, x, pixel = geometry.y, geometry.x, 2 * rounded(geometry.channels)
    line, rows = _around(geometry)[1] * pixel, tile_rows(way, x.output)
    parts = -(-x.output // rows)
    return Lines(
        rows, y.output * parts, x.stride * pixel, 2 * DEPTH, _steps(geometry),
        ((y.window, y.dilation * line), (x.window, x.dilation * pixel)), x.output, parts, y.stride * line,
    )  # fmt: skip


class _Convolution:
    """Writes the code of one tactic."""

    def __init__(self, routine: Routine, filters: Filters, tactic: Tactic) -> None:
        self.routine, self.fn, self.filters, self.geometry = routine, routine.function, filters, filters.geometry
        problem = routine.problem
        self.way, self.columns = _way(tactic), tactic.key.endswith("columns")
        self.source = routine.inputs[problem.activations.index(problem.layer.inputs[0])]
        self.plane = self.geometry.y.size * self.geometry.x.size * BLOCK_BYTES

    def code(self) -> Code:
        geometry = self.geometry
        if self.columns:
            window: Columns | Lines = _columns(geometry, self.way)
            assert isinstance(window, Columns)
            units, nbytes = window.tiles, window.nbytes
        else:
            window, units, nbytes = _lines(geometry, self.way), _around(geometry)[0], _lines_bytes(geometry)
        results = self.filters.results(self.routine)
        writer = PairsWriter(self.routine, self.way, window, results, geometry.batch, nbytes)
        fn, output_plane = self.fn, geometry.y.output * geometry.x.output * BLOCK_BYTES

        def copy(unit: Value) -> None:
            image, number = unit // units, unit % units
            begin = fn.offset(self.source.pointer, image * self.source.strides[0])
            target = fn.offset(self.routine.workspace, image * nbytes)
            if isinstance(window, Columns):
                self._copy_tile(window, begin, target, number)
            else:
                self._copy_line(begin, target, number)

        def placed(piece: Piece, image: Value, group: Value, pixel: Value) -> tuple[Place, tuple[int, int]]:
            block = group * 2 + (piece.start - piece.result.first)
            return Place(image, block, block * output_plane + pixel * BLOCK_BYTES), (0, output_plane)

        return writer.code(geometry.batch * units, copy, placed)

    # columns -------------------------------------------------------------------------------------------------------

    def _copy_tile(self, window: Columns, source: Value, target: Value, tile: Value) -> None:
        """The inputs of a tile: tap by tap; those of pixels that follow each other step by step."""
        fn, y, x = self.fn, self.geometry.y, self.geometry.x
        _, start, count = window.corner(fn, tile)
        at = fn.offset(target, tile * (window.steps * window.step))
        steps = _steps(self.geometry)
        if y.plain and x.plain:
            self._copy_run(fn.offset(source, start * BLOCK_BYTES), at, count, window.step)
            return

        def tap(number: Value, _: list[Value]) -> Sequence[Value]:
            row, column = number // x.window, number % x.window
            begin = fn.offset(at, number * (steps * window.step))

            def pixel(index: Value, _: list[Value]) -> Sequence[Value]:
                place = fn.offset(begin, index * window.pixel)
                output = index + start
                line = output // x.output * y.stride + row * y.dilation + -y.padding
                here = output % x.output * x.stride + column * x.dilation + -x.padding
                inside = self._inside(line, here)
                there = fn.offset(source, line * (x.size * BLOCK_BYTES) + here * BLOCK_BYTES)
                if inside is None:
                    self._copy_steps(there, place, window.step)
                else:
                    fn.when(
                        inside,
                        lambda: self._copy_steps(there, place, window.step),
                        lambda: self._clear_steps(place, window.step),
                    )
                return ()

            fn.loop(0, count, pixel)
            return ()

        fn.loop(0, y.window * x.window, tap)

    def _copy_run(self, source: Value, target: Value, count: Index, step: int) -> None:
        """Pixels that follow each other in the image and in the tile."""
        fn, blocks = self.fn, -(-self.geometry.channels // BLOCK)

        def pixels(begin: Value, place: Value, whole: bool) -> None:
            def pixel(number: Value, _: list[Value]) -> Sequence[Value]:
                at = fn.offset(begin, number * BLOCK_BYTES)
                high = fn.load(VECTOR, at, self.plane) if whole else fn.zero(VECTOR)
                fn.store(halved(fn, fn.load(VECTOR, at), high), fn.offset(place, number * (2 * DEPTH)), 0, 2)
                return ()

            fn.loop(0, count, pixel)

        def both(number: Value, _: list[Value]) -> Sequence[Value]:
            pixels(fn.offset(source, number * (2 * self.plane)), fn.offset(target, number * step), True)
            return ()

        fn.loop(0, blocks // 2, both)
        if blocks % 2:
            last = blocks // 2
            pixels(fn.offset(source, last * 2 * self.plane), fn.offset(target, last * step), False)

    def _inside(self, line: Value, here: Value) -> Value | None:
        """Whether a pixel is in the image; None where all are."""
        fn, y, x = self.fn, self.geometry.y, self.geometry.x
        # Negative as an unsigned number is large, so one comparison finds pixels on either side.
        tests = [fn.compare("ult", at, axis.size) for at, axis in ((line, y), (here, x)) if axis.padded]
        if len(tests) == 2:
            return fn.binary("and", tests[0], tests[1])
        return tests[0] if tests else None

    def _copy_steps(self, source: Value, target: Value, step: int) -> None:
        """A pixel's channels, 32 at a time."""
        fn, blocks = self.fn, -(-self.geometry.channels // BLOCK)

        def both(number: Value, _: list[Value]) -> Sequence[Value]:
            at = fn.offset(source, number * (2 * self.plane))
            found = halved(fn, fn.load(VECTOR, at), fn.load(VECTOR, at, self.plane))
            fn.store(found, fn.offset(target, number * step), 0, 2)
            return ()

        fn.loop(0, blocks // 2, both)
        if blocks % 2:
            low = fn.load(VECTOR, source, (blocks - 1) * self.plane)
            fn.store(halved(fn, low, fn.zero(VECTOR)), target, blocks // 2 * step, 2)

    def _clear_steps(self, target: Value, step: int) -> None:
        fn = self.fn

        def one(number: Value, _: list[Value]) -> Sequence[Value]:
            fn.store(fn.zero(VECTOR), fn.offset(target, number * step))
            return ()

        fn.loop(0, _steps(self.geometry), one)

    # lines ---------------------------------------------------------------------------------------------------------

    def _copy_line(self, source: Value, target: Value, line: Value) -> None:
        """A line of the copy: pixels of the image, zeros around it."""
        fn, y, x = self.fn, self.geometry.y, self.geometry.x
        width, pixel = _around(self.geometry)[1], 2 * rounded(self.geometry.channels)
        at, there = fn.offset(target, line * (width * pixel)), line + -y.padding
        first = min(width, max(0, x.padding))  # pixels of the copy before the image, and the first one behind it
        last = max(first, min(width, x.size + x.padding))

        def inside() -> None:
            self._zeros(at, first * pixel)
            begin = fn.offset(source, there * (x.size * BLOCK_BYTES) + (first - x.padding) * BLOCK_BYTES)

            def one(number: Value, _: list[Value]) -> Sequence[Value]:
                place = fn.offset(at, number * pixel + first * pixel)
                self._copy_steps(fn.offset(begin, number * BLOCK_BYTES), place, 2 * DEPTH)
                return ()

            fn.loop(0, last - first, one)
            self._zeros(fn.offset(at, last * pixel), (width - last) * pixel)

        fn.when(fn.compare("ult", there, y.size), inside, lambda: self._zeros(at, width * pixel))

    def _zeros(self, target: Value, nbytes: int) -> None:
        """Lines and pixels are whole numbers of 64 bytes."""
        fn = self.fn

        def some(number: Value, _: list[Value]) -> Sequence[Value]:
            fn.store(fn.zero(VECTOR), fn.offset(target, number * BLOCK_BYTES))
            return ()

        fn.loop(0, nbytes // BLOCK_BYTES, some)


# fully connected ------------------------------------------------------------------------------------------------------


class Bfloat16Product(_Bfloat16):
    """Rows of a known number times constant weights."""

    def refusal(self, problem: Problem) -> str:
        """Why a problem is not computed."""
        found = read_matrices(problem)
        if isinstance(found, str):
            return found
        if not isinstance(found.product.rows, int) or not found.product.rows:
            return "the number of rows must be known"
        return "" if found.product.depth >= DEPTH else f"sums at least {DEPTH} products"

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        product = matrices_of(problem).product
        assert isinstance(product.rows, int)
        steps = rounded(product.depth) // DEPTH
        return [
            Tactic(way, precision="bfloat16", workspace=Columns.of(way, product.rows, steps).nbytes) for way in _ways()
        ]

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        found, arrays = matrices_of(code.problem), named(code, weights)
        dense = found.dense(arrays)
        return [pack_pairs(dense[..., None]), *found.pack_epilogues(arrays)]

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        found = matrices_of(problem)
        product = found.product
        assert isinstance(product.rows, int)
        routine = Routine(problem, tactic, WAYS[tactic.key], packed=1 + sum(found.rows))
        fn, depth = routine.function, product.depth
        source = routine.inputs[problem.activations.index(problem.layer.inputs[0])]
        window = Columns.of(tactic.key, product.rows, rounded(depth) // DEPTH)
        writer = PairsWriter(routine, tactic.key, window, found.results(routine), 1, 0)

        def copy(tile: Value) -> None:
            _, start, count = window.corner(fn, tile)
            at = fn.offset(routine.workspace, tile * (window.steps * window.step))

            def row(number: Value, _: list[Value]) -> Sequence[Value]:
                begin = fn.offset(source.pointer, (number + start) * (4 * depth))
                _copy_row(fn, begin, fn.offset(at, number * window.pixel), depth, window.step)
                return ()

            fn.loop(0, count, row)

        def placed(piece: Piece, _: Value, group: Value, pixel: Value) -> tuple[Place, tuple[int, int]]:
            block, row_bytes = group * 2 + (piece.start - piece.result.first), 4 * piece.result.channels
            return Place(0, block, pixel * row_bytes + block * BLOCK_BYTES), (row_bytes, BLOCK_BYTES)

        return writer.code(window.tiles, copy, placed)


def _copy_row(fn: Function, source: Value, target: Value, depth: int, step: int) -> None:
    """A row of inputs, 32 at a time."""

    def some(number: Value, _: list[Value]) -> Sequence[Value]:
        at = fn.offset(source, number * (4 * DEPTH))
        found = halved(fn, fn.load(VECTOR, at), fn.load(VECTOR, at, BLOCK_BYTES))
        fn.store(found, fn.offset(target, number * step), 0, 2)
        return ()

    whole, rest = divmod(depth, DEPTH)
    fn.loop(0, whole, some)
    if rest:
        at = fn.offset(source, whole * 4 * DEPTH)
        low = fn.load_lanes(VECTOR, at, min(rest, BLOCK))
        high = fn.load_lanes(VECTOR, at, rest - BLOCK, BLOCK_BYTES) if rest > BLOCK else fn.zero(VECTOR)
        fn.store(halved(fn, low, high), target, whole * step, 2)
