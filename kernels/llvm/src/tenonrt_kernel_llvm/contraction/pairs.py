"""Products of bfloat16 with sums of float32: what is multiplied, where it lies, and the instructions that do it.

Inputs are first copied as bfloat16, a whole number of 32 channels for each pixel, behind each other. Weights are packed
in pairs of inputs: [group of two blocks][tap][pair of inputs][block][16 outputs][2]. Both ways to multiply read this:
``amx``, tiles of up to 16 pixels by 16 outputs by 32 inputs, and ``dot``, VDPBF16PS on vectors of 16 outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from tenonrt.contracts import Array

from tenonrt_kernel_llvm.contraction.microkernel import BLOCK_BYTES, VECTOR
from tenonrt_kernel_llvm.emitter import I8, I32, I64, Function, Index, Value, vector
from tenonrt_kernel_llvm.target import BLOCK

DEPTH = 32  # inputs of a step
BLOCKS = 2  # of outputs that are computed together
STEP_BYTES = BLOCKS * BLOCK * DEPTH * 2  # of weights
PAIR_BYTES = BLOCKS * BLOCK * 2 * 2  # of the weights of a pair of inputs
_TILE_ROWS, _DOT_ROWS = 16, 12
_HALVES, _PAIRED = vector(BLOCK, "bfloat"), vector(DEPTH, "bfloat")


@dataclass(frozen=True)
class Window:
    """Tiles of ``rows`` pixels, and where their inputs lie in the copy, in bytes.

    pixel: from a pixel of a tile to the next. step: from 32 inputs to the next; steps: of each tap.
    taps: (count, bytes) of the window's rows and columns.
    """

    rows: int
    tiles: int
    pixel: int
    step: int
    steps: int
    taps: tuple[tuple[int, int], tuple[int, int]] = ((1, 0), (1, 0))

    @property
    def weights_bytes(self) -> int:
        """Of two blocks of outputs."""
        return self.taps[0][0] * self.taps[1][0] * self.steps * STEP_BYTES

    def corner(self, fn: Function, tile: Index) -> tuple[Index, Index, Index]:
        """(where a tile's inputs begin, its first output pixel, how many there are)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Columns(Window):
    """The inputs of each tile behind each other, whatever the window: [tile][step][pixel][32]."""

    pixels: int = 0

    @classmethod
    def of(cls, way: str, pixels: int, steps: int) -> Columns:
        rows = tile_rows(way, pixels)
        return cls(rows, -(-pixels // rows), 2 * DEPTH, rows * 2 * DEPTH, steps, pixels=pixels)

    @property
    def nbytes(self) -> int:
        """Of an image's copy."""
        return self.tiles * self.steps * self.step

    def corner(self, fn: Function, tile: Index) -> tuple[Index, Index, Index]:
        """The last tile may have fewer pixels."""
        start = tile * self.rows
        count = self.rows if self.pixels % self.rows == 0 else fn.minimum(self.pixels - start, self.rows)
        return tile * (self.steps * self.step), start, count


@dataclass(frozen=True)
class Lines(Window):
    """The image with what is around it, from which windows of every tap are read; tiles are parts of output lines.

    width, parts: pixels and tiles of a line; line: bytes from the inputs of a line to the next.
    """

    width: int = 0
    parts: int = 0
    line: int = 0

    def corner(self, fn: Function, tile: Index) -> tuple[Index, Index, Index]:
        """The last tile of a line may overlap the one before."""
        y, part = tile // self.parts, tile % self.parts
        x = fn.minimum(part * self.rows, self.width - self.rows)
        return y * self.line + x * self.pixel, y * self.width + x, self.rows


def tile_rows(way: str, width: int) -> int:
    """Pixels of a tile: so many are cut as evenly as can be."""
    most = _TILE_ROWS if way == "amx" else _DOT_ROWS
    return -(-width // -(-width // most))


def rounded(channels: int) -> int:
    """Channels with those that fill up the last step."""
    return -(-channels // DEPTH) * DEPTH


def pack_pairs(dense: Array) -> Array:
    """Weights [outputs, channels, taps] of float32 as the code reads them; what is missing is zero."""
    outputs, channels, taps = dense.shape
    depth, groups = rounded(channels), -(-outputs // (BLOCKS * BLOCK))
    padded = np.zeros((groups * BLOCKS * BLOCK, depth, taps), np.float32)
    padded[:outputs, :channels] = dense
    split = padded.reshape(groups, BLOCKS, BLOCK, depth // 2, 2, taps).transpose(0, 5, 3, 1, 2, 4)
    # Kept as the bits: plans and caches need no element type of their own for them.
    return np.ascontiguousarray(split).astype(ml_dtypes.bfloat16).view(np.uint16).reshape(groups, -1)


def halved(fn: Function, low: Value, high: Value) -> Value:
    """Two vectors of 16 floats as one of 32 bfloat16, rounded to nearest even."""
    parts = []
    for value in (low, high):
        fn.declarations.add(f"declare {_HALVES} @llvm.x86.avx512bf16.cvtneps2bf16.512({VECTOR})")
        parts.append(fn.emit(_HALVES, f"call {_HALVES} @llvm.x86.avx512bf16.cvtneps2bf16.512({VECTOR} {value.text})"))
    return fn.shuffle(parts[0], parts[1], range(DEPTH))


def multiply(way: str, fn: Function, window: Window, inputs: Sequence[Value], weights: Value, sums: Value) -> None:
    """The sums of two tiles of pixels, whose inputs begin at ``inputs``, stored as [tile][block][pixel][16]."""
    (_Tiles if way == "amx" else _Dots)(fn, window).run(inputs, weights, sums)


def sums_bytes(rows: int) -> int:
    """Of what `multiply` stores."""
    return 2 * BLOCKS * rows * BLOCK_BYTES


class _Steps:
    """Loops over taps and steps of inputs."""

    def __init__(self, fn: Function, window: Window) -> None:
        self.fn, self.window, self.rows = fn, window, window.rows

    def each(
        self, inputs: Sequence[Value], weights: Value, sums: list[Value],
        body: Callable[[list[Value], Value, list[Value]], Sequence[Value]],
    ) -> list[Value]:  # fmt: skip
        """``body(inputs, weights, sums) -> sums`` for every step of every tap."""
        fn, window = self.fn, self.window
        (rows, row_bytes), (columns, column_bytes) = window.taps

        def row(number: Value, carried: list[Value]) -> Sequence[Value]:
            def column(tap: Value, inner: list[Value]) -> Sequence[Value]:
                at = number * row_bytes + tap * column_bytes
                begin = [fn.offset(pointer, at) for pointer in inputs]
                first = fn.offset(weights, (number * columns + tap) * (window.steps * STEP_BYTES))

                def step(k: Value, last: list[Value]) -> Sequence[Value]:
                    here = [fn.offset(pointer, k * window.step) for pointer in begin]
                    return body(here, fn.offset(first, k * STEP_BYTES), last)

                return fn.loop(0, window.steps, step, inner)

            return fn.loop(0, columns, column, carried)

        return fn.loop(0, rows, row, sums)


class _Tiles(_Steps):
    """AMX: tiles 0 to 3 are sums, 4 and 5 pixels, 6 and 7 weights."""

    def run(self, inputs: Sequence[Value], weights: Value, sums: Value) -> None:
        fn = self.fn
        for tile in range(4):
            self._call("tilezero", f"i8 {tile}")

        def step(here: list[Value], where: Value, _: list[Value]) -> Sequence[Value]:
            for number, pointer in enumerate(here):
                self._move("tileloadd64", 4 + number, pointer, self.window.pixel)
            for block in range(BLOCKS):
                self._move("tileloadd64", 6 + block, fn.offset(where, block * BLOCK * 4), PAIR_BYTES)
            for number in range(2):
                for block in range(BLOCKS):
                    self._call("tdpbf16ps", f"i8 {2 * number + block}, i8 {4 + number}, i8 {6 + block}")
            return ()

        self.each(inputs, weights, [], step)
        for tile in range(4):
            self._move("tilestored64", tile, fn.offset(sums, tile * self.rows * BLOCK_BYTES), BLOCK_BYTES)

    def _move(self, name: str, tile: int, pointer: Value, stride: int) -> None:
        self._call(name, f"i8 {tile}, ptr {pointer.text}, i64 {stride}")

    def _call(self, name: str, arguments: str) -> None:
        types = ", ".join(f"{a.split(' ')[0]}{' immarg' * a.startswith('i8 ')}" for a in arguments.split(", "))
        self.fn.declarations.add(f"declare void @llvm.x86.{name}({types})")
        self.fn.line(f"call void @llvm.x86.{name}({arguments})")


def begin_tiles(fn: Function, rows: int) -> None:
    """Say how large the tiles are: ``rows`` of pixels and sums, 16 of weights, 64 bytes each."""
    config = fn.stack(64)
    for start in range(0, 64, 8):
        fn.store(fn.zero(I64), config, start, 8)
    fn.store(fn.constant(I8, 1), config, 0, 1)  # the palette
    for tile in range(8):
        fn.store(fn.constant(I8, 64), config, 16 + 2 * tile, 1)
        fn.store(fn.constant(I8, BLOCK if tile >= 6 else rows), config, 48 + tile, 1)
    fn.declarations.add("declare void @llvm.x86.ldtilecfg(ptr)")
    fn.line(f"call void @llvm.x86.ldtilecfg(ptr {config.text})")


def end_tiles(fn: Function) -> None:
    """Give the tiles up, so that nobody has to save them."""
    fn.declarations.add("declare void @llvm.x86.tilerelease()")
    fn.line("call void @llvm.x86.tilerelease()")


class _Dots(_Steps):
    """AVX512-BF16: a pair of inputs of a pixel in all lanes, times the pair's weights of 16 outputs."""

    def run(self, inputs: Sequence[Value], weights: Value, sums: Value) -> None:
        fn = self.fn
        for number, pointer in enumerate(inputs):
            found = self.each([pointer], weights, [fn.zero(VECTOR)] * (BLOCKS * self.rows), self._step)
            for index, total in enumerate(found):
                pixel, block = divmod(index, BLOCKS)
                fn.store(total, sums, ((number * BLOCKS + block) * self.rows + pixel) * BLOCK_BYTES)

    def _step(self, here: list[Value], where: Value, sums: list[Value]) -> Sequence[Value]:
        fn, result = self.fn, list(sums)
        name = f"@llvm.x86.avx512bf16.dpbf16ps.512({VECTOR}, {_PAIRED}, {_PAIRED})"
        fn.declarations.add(f"declare {VECTOR} {name}")
        for pair in range(DEPTH // 2):
            loaded = [fn.load(_PAIRED, where, pair * PAIR_BYTES + block * BLOCK * 4) for block in range(BLOCKS)]
            for pixel in range(self.rows):
                both = fn.splat(fn.load(I32, here[0], pixel * self.window.pixel + 4 * pair), BLOCK)
                spread = fn.emit(_PAIRED, f"bitcast {both.type} {both.text} to {_PAIRED}")
                for block, right in enumerate(loaded):
                    place = pixel * BLOCKS + block
                    arguments = ", ".join(f"{v.type} {v.text}" for v in (result[place], right, spread))
                    result[place] = fn.emit(VECTOR, f"call {VECTOR} @llvm.x86.avx512bf16.dpbf16ps.512({arguments})")
        return result
