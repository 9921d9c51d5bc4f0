"""Convolution to a few channels, as images are made of, or from one to a few, as they are read: vectors along rows.

A block of 16 channels that holds three wastes the rest of every multiplication. Here a register holds 16 pixels of one
output channel, and weights are broadcast. A unit is a band of rows of the output; the rows of the input it sees are
copied beside zeros for their padding, and every tap is then a load at its own offset. A tile is a few rows, vectors and
output channels: a pixel serves all its channels, a weight all its pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tenonrt.contracts import LINEAR, Array, Code, Dimension, GraphView, Layer, Problem, Support, Tactic, Weights

from tenonrt_kernel_llvm.contraction.epilogue import bias_of, named
from tenonrt_kernel_llvm.contraction.geometry import Geometry, geometry_of, read_geometry
from tenonrt_kernel_llvm.contraction.halved import halve, read_halved, with_pooling
from tenonrt_kernel_llvm.emitter import FLOAT, I64, Value, vector
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.scalar_tails import ScalarTail, regions_with_scalar_tail, scalar_tail
from tenonrt_kernel_llvm.target import BLOCK, Target, host_target

MAX_OUTPUTS = 8
IMAGE_CHANNELS, IMAGE_OUTPUTS = 4, 32  # of few input channels more outputs are made: their blocks may be ragged
MAX_SCRATCH = 1 << 20  # bytes of input rows, of each thread
_BAND_BYTES = 16 << 10  # that stay in the first-level cache beside what is written
_BANDS = 4  # of an image, so that threads have something to share
_MAX_ROWS, _MAX_VECTORS, _OFFERED = 4, 4, 3
_TILE_CYCLES = 30  # to begin a tile's sums and to end them
_VECTOR = 4 * BLOCK  # bytes


@dataclass(frozen=True)
class Tile:
    """What is summed in registers at once: vectors of some rows, of some output channels."""

    width: int
    rows: int
    outputs: int

    @property
    def key(self) -> str:
        """Of the tactic: ``v2r2o6``."""
        return f"v{self.width}r{self.rows}o{self.outputs}"

    @classmethod
    def of(cls, key: str) -> Tile:
        width, _, rest = key[1:].partition("r")
        rows, _, outputs = rest.partition("o")
        return cls(int(width), int(rows), int(outputs))


class PlanarConvolution(LlvmKernel):
    """float32, stride 1 along rows, ungrouped; constant weights; tails of known numbers.

    Up to 8 output channels, or up to 32 of up to 4 input channels.
    """

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        for region in regions_with_scalar_tail(view, layer):
            yield region
            if pooled := with_pooling(view, region):
                yield pooled

    def supports(self, problem: Problem) -> Support:
        found = _read(problem)
        if isinstance(found, str):
            return Support(False, found)
        return Support(True, runtime_symbols=runtime_symbols(problem))

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        (geometry, _, factor), target = _accepted(problem), host_target()
        tiles = _tiles(geometry, target, factor)
        best = sorted(tiles, key=lambda tile: (_cycles(geometry, target, tile), tile.key))
        return [Tactic(tile.key, (LINEAR,), (LINEAR,)) for tile in best[:_OFFERED]]

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        """At 3 GHz."""
        geometry, _, _ = _accepted(problem)
        batch = geometry.batch if isinstance(geometry.batch, int) else 1
        return batch * _cycles(geometry, host_target(), Tile.of(tactic.key)) / 3e9 / problem.threads

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """[input channel][row][column][output channel], then the bias."""
        problem, geometry, arrays = code.problem, geometry_of(code.problem), named(code, weights)
        dense = arrays[problem.layer.inputs[1]]
        dense = dense if dense.ndim == 4 else dense[:, :, None]
        bias = bias_of(problem)
        offsets = np.zeros(geometry.outputs, np.float32) if bias < 0 else arrays[bias].reshape(-1)
        return [np.ascontiguousarray(dense.transpose(1, 2, 3, 0)), np.ascontiguousarray(offsets)]

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        routine, (geometry, tail, factor) = Routine(problem, tactic, target, packed=2), _accepted(problem)
        writer = _Bands(routine, geometry, tail, Tile.of(tactic.key), factor)
        bands: Dimension = geometry.batch * writer.bands
        routine.phase(bands, writer.band)
        return routine.code(scratch=_scratch(geometry, writer.band_rows))


def _read(problem: Problem) -> tuple[Geometry, ScalarTail, int] | str:
    """Sizes, tail, and what the pooling divides sizes by; or why the problem is not computed here."""
    halved = read_halved(problem)
    if isinstance(halved, str):
        return halved
    geometry, tail = read_geometry(problem), scalar_tail(halved.before)
    if isinstance(geometry, str) or isinstance(tail, str):
        return geometry if isinstance(geometry, str) else str(tail)
    return _refusal(geometry) or (halved.even(geometry), tail, halved.factor)


def _accepted(problem: Problem) -> tuple[Geometry, ScalarTail, int]:
    found = _read(problem)
    assert not isinstance(found, str), found
    return found


def _refusal(geometry: Geometry) -> str:
    most = IMAGE_OUTPUTS if geometry.channels <= IMAGE_CHANNELS else MAX_OUTPUTS
    if geometry.outputs > most:
        return f"up to {most} output channels of {geometry.channels}, not {geometry.outputs}"
    if geometry.groups > 1 or geometry.x.stride != 1:
        return "one group, and stride 1 along rows"
    if geometry.x.padding > (geometry.x.window - 1) * geometry.x.dilation:
        return "padding that is wider than the window"
    return "rows that are longer than the cache" if _scratch(geometry, 1) > MAX_SCRATCH else ""


def _vectors(geometry: Geometry) -> int:
    """Of a row of the output."""
    return -(-geometry.x.output // BLOCK)


def _tiles(geometry: Geometry, target: Target, factor: int) -> Iterator[Tile]:
    """Those whose sums fit the registers beside a vector of each pixel and a weight, shared evenly by the channels.

    factor: of rows, and of vectors unless a row is one.
    """
    registers, vectors = target.registers // target.registers_per_block, _vectors(geometry)
    least = min(factor, vectors)
    for width in range(least, min(vectors, _MAX_VECTORS) + 1, least):
        for rows in range(factor, min(geometry.y.output, _MAX_ROWS) + 1, factor):
            most = min(geometry.outputs, (registers - 1 - width * rows) // (width * rows))
            if most >= 1 and _scratch(geometry, rows) <= MAX_SCRATCH:
                yield Tile(width, rows, -(-geometry.outputs // -(-geometry.outputs // most)))
            elif (width, rows) == (least, factor):  # registers are few: the code generator keeps some sums in memory
                yield Tile(width, rows, 1)


def _cycles(geometry: Geometry, target: Target, tile: Tile) -> float:
    """Of an image: two multiply-adds or two loads a cycle; most pixels lie in two cache lines."""
    taps = geometry.channels * geometry.y.window * geometry.x.window
    pixels = tile.width * tile.rows * target.registers_per_block
    each = max(pixels * tile.outputs, 2 * pixels + tile.outputs) / 2
    strips, lines = -(-_vectors(geometry) // tile.width), -(-geometry.y.output // tile.rows)
    return strips * lines * -(-geometry.outputs // tile.outputs) * (taps * each + _TILE_CYCLES)


def _row_bytes(geometry: Geometry) -> int:
    """Of a copied row: whole vectors of output and the taps beside them, so that no load leaves it."""
    reach = (geometry.x.window - 1) * geometry.x.dilation
    return -(-(_vectors(geometry) * BLOCK + reach) // BLOCK) * _VECTOR


def _input_rows(geometry: Geometry, rows: int) -> int:
    """Rows of the input that so many rows of the output see."""
    return (rows - 1) * geometry.y.stride + (geometry.y.window - 1) * geometry.y.dilation + 1


def _scratch(geometry: Geometry, rows: int) -> int:
    """Bytes of what so many rows of the output see."""
    return geometry.channels * _input_rows(geometry, rows) * _row_bytes(geometry)


def _band_rows(geometry: Geometry, rows: int) -> int:
    """Rows of a band, whole tiles of ``rows``: few enough for the cache and for threads to share an image."""
    most = max(1, -(-geometry.y.output // (rows * _BANDS)))
    while most > 1 and _scratch(geometry, most * rows) > _BAND_BYTES:
        most -= 1
    return most * rows


class _Bands:
    """Writes the code of one band of rows of the output."""

    def __init__(self, routine: Routine, geometry: Geometry, tail: ScalarTail, tile: Tile, factor: int) -> None:
        self.routine, self.geometry, self.tail, self.tile, self.factor = routine, geometry, tail, tile, factor
        self.fn, self.row_bytes = routine.function, _row_bytes(geometry)
        self.band_rows = _band_rows(geometry, tile.rows)
        self.bands = -(-geometry.y.output // self.band_rows)
        self.input_rows = _input_rows(geometry, self.band_rows)

    def band(self, unit: Value) -> None:
        fn, out, rows = self.fn, self.routine.outputs[0], self.tile.rows
        image, number = unit // self.bands, unit % self.bands
        first = number * self.band_rows
        self._copy(image, first)
        start = fn.offset(out.pointer, image * out.strides[0])
        whole, rest = divmod(self.geometry.y.output, rows)

        def tiles(index: Value, _: list[Value]) -> Sequence[Value]:
            self._rows(start, first, index * rows, rows)
            return ()

        here = fn.minimum(self.band_rows // rows, whole - number * (self.band_rows // rows))
        fn.loop(0, here, tiles)
        if rest:
            last = fn.compare("eq", number, self.bands - 1)
            fn.when(last, lambda: self._rows(start, first, whole * rows - first, rest))

    def _rows(self, start: Value, first: Value, line: Value, rows: int) -> None:
        """Some rows from ``line`` of the band on, which begins at ``first``; ``start``: where the image is written."""
        fn, out, width = self.fn, self.routine.outputs[0], self.tile.width
        given = fn.offset(self.routine.scratch, line * (self.geometry.y.stride * self.row_bytes))
        if len(out.shape) == 4:
            start = fn.offset(start, (first + line) // self.factor * out.strides[2])
        vectors, whole = _vectors(self.geometry), self.geometry.x.output // BLOCK // width

        def strip(index: Value, _: list[Value]) -> Sequence[Value]:
            at, to = index * (width * _VECTOR), index * (width * _VECTOR // self.factor)
            self._strip(fn.offset(given, at), fn.offset(start, to), rows, width, BLOCK)
            return ()

        fn.loop(0, whole, strip)
        if rest := vectors - whole * width:
            at, last = whole * width * _VECTOR, self.geometry.x.output - (vectors - 1) * BLOCK
            self._strip(fn.offset(given, at), fn.offset(start, at // self.factor), rows, rest, last)

    # the input's rows -------------------------------------------------------------------------------------------------

    def _copy(self, image: Value, line: Value) -> None:
        """What a band from row ``line`` on sees, [channel][row] of it, zeros where there is no input."""
        fn, y, source = self.fn, self.geometry.y, self.routine.inputs[0]
        first = fn.offset(source.pointer, image * source.strides[0])

        def one(index: Value, _: list[Value]) -> Sequence[Value]:
            channel, row = index // self.input_rows, index % self.input_rows
            place = line * y.stride + row - y.padding
            target = fn.offset(self.routine.scratch, index * self.row_bytes)
            inside = fn.compare("ult", place, y.size)
            given = fn.offset(
                first, channel * source.strides[1] + fn.select(inside, place, 0) * (4 * self.geometry.x.size)
            )
            fn.when(inside, lambda: self._place(given, target), lambda: self._clear(target, 0, self.row_bytes))
            return ()

        fn.loop(0, self.geometry.channels * self.input_rows, one)

    def _place(self, given: Value, target: Value) -> None:
        """A row behind its padding: what is copied beyond its end is then cleared."""
        fn, x = self.fn, self.geometry.x
        used = min(x.size, self.row_bytes // 4 - x.padding)
        self._clear(target, 0, 4 * x.padding)

        def whole(index: Value, _: list[Value]) -> Sequence[Value]:
            fn.store(fn.load(vector(BLOCK), given, index * _VECTOR), target, index * _VECTOR + 4 * x.padding)
            return ()

        fn.loop(0, used // BLOCK, whole)
        done = used // BLOCK * BLOCK
        if used > done:
            rest = fn.load_lanes(vector(BLOCK), given, used - done, 4 * done)
            fn.store_lanes(rest, target, used - done, 4 * (done + x.padding))
        self._clear(target, 4 * (used + x.padding), self.row_bytes)

    def _clear(self, target: Value, start: int, end: int) -> None:
        """The bytes from ``start`` to before ``end``."""
        fn, zero = self.fn, self.fn.zero(vector(BLOCK))
        whole = (end - start) // _VECTOR

        def one(index: Value, _: list[Value]) -> Sequence[Value]:
            fn.store(zero, target, index * _VECTOR + start)
            return ()

        fn.loop(0, whole, one)
        if rest := (end - start) % _VECTOR:
            fn.store_lanes(zero, target, rest // 4, start + whole * _VECTOR)

    # the output's pixels ----------------------------------------------------------------------------------------------

    def _strip(self, given: Value, start: Value, rows: int, vectors: int, last: int) -> None:
        """Some vectors of some rows, of all output channels. last: lanes of the last vector that are pixels."""
        whole, rest = divmod(self.geometry.outputs, self.tile.outputs)

        def channels(index: Value, _: list[Value]) -> Sequence[Value]:
            self._tile(given, start, index * self.tile.outputs, (self.tile.outputs, rows, vectors), last)
            return ()

        self.fn.loop(0, whole, channels)
        if rest:
            first = self.fn.constant(I64, whole * self.tile.outputs)
            self._tile(given, start, first, (rest, rows, vectors), last)

    def _tile(self, given: Value, start: Value, first: Value, tile: tuple[int, int, int], last: int) -> None:
        """The output channels from ``first`` on of a tile of (outputs, rows, vectors)."""
        fn, out, (outputs, rows, vectors) = self.fn, self.routine.outputs[0], tile
        bias, weights = (fn.offset(packed, first * 4) for packed in (self.routine.packed[1], self.routine.packed[0]))
        sums = [fn.splat(fn.load(FLOAT, bias, 4 * o), BLOCK) for o in range(outputs) for _ in range(rows * vectors)]
        totals = [self.tail.apply(fn, total) for total in self._taps(given, weights, tile, sums)]
        start, pixels = fn.offset(start, first * out.strides[1]), ((vectors - 1) * BLOCK + last) // self.factor
        for o in range(outputs):
            plane = fn.offset(start, o * out.strides[1])
            begins = range(o * rows * vectors, (o + 1) * rows * vectors, vectors)
            lines = [totals[begin : begin + vectors] for begin in begins]
            if self.factor == 2:
                lines = [halve(fn, lines[r : r + 2]) for r in range(0, rows, 2)]
            for r, line in enumerate(lines):
                row = fn.offset(plane, r * out.strides[2]) if r else plane
                for v, value in enumerate(line):
                    fn.store_lanes(value, row, min(BLOCK, pixels - v * BLOCK), v * _VECTOR)

    def _taps(self, given: Value, weights: Value, tile: tuple[int, int, int], sums: list[Value]) -> list[Value]:
        """The sums with every tap of every input row added."""
        fn, y, x, (outputs, rows, vectors) = self.fn, self.geometry.y, self.geometry.x, tile
        every = self.geometry.outputs

        def line(index: Value, carried: list[Value]) -> Sequence[Value]:
            channel, tap = index // y.window, index % y.window
            first = fn.offset(given, (channel * self.input_rows + tap * y.dilation) * self.row_bytes)
            own = fn.offset(weights, index * (4 * x.window * every))
            totals = list(carried)
            for column in range(x.window):
                at = 4 * column * x.dilation
                pixels = [
                    fn.load(vector(BLOCK), first, r * y.stride * self.row_bytes + at + v * _VECTOR)
                    for r in range(rows)
                    for v in range(vectors)
                ]
                for o in range(outputs):
                    weight = fn.splat(fn.load(FLOAT, own, 4 * (column * every + o)), BLOCK)
                    for p, pixel in enumerate(pixels):
                        number = o * len(pixels) + p
                        totals[number] = fn.fma(weight, pixel, totals[number])
                fn.new_block()
            return totals

        return fn.loop(0, self.geometry.channels * y.window, line, sums)
