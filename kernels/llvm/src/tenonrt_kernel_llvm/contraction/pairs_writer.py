"""Writes code that multiplies bfloat16: a phase copies the inputs, and one multiplies, finishes and stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tenonrt.contracts import Code, Dimension

from tenonrt_kernel_llvm.contraction.epilogue import Place
from tenonrt_kernel_llvm.contraction.microkernel import BLOCK_BYTES, VECTOR
from tenonrt_kernel_llvm.contraction.pairs import (
    BLOCKS,
    Window,
    begin_tiles,
    end_tiles,
    multiply,
    sums_bytes,
)
from tenonrt_kernel_llvm.contraction.results import Piece, Result, store_pieces
from tenonrt_kernel_llvm.emitter import Index, Value
from tenonrt_kernel_llvm.routine import Routine

_STRIPS = 4  # units that an image is cut into for each group of outputs, where it has so many tiles

Placed = Callable[[Piece, Value, Value, Value], tuple[Place, tuple[int, int]]]


class PairsWriter:
    """``copies``: (units, code of one) of the first phase. ``image_bytes``: of an image's copy in the workspace."""

    def __init__(
        self,
        routine: Routine,
        way: str,
        window: Window,
        results: Sequence[Result],
        batch: Dimension,
        image_bytes: int,
    ) -> None:
        self.routine, self.fn, self.way, self.window = routine, routine.function, way, window
        self.results, self.batch, self.image_bytes = results, batch, image_bytes
        self.rows = window.rows
        self.groups = -(-(results[-1].first + results[-1].blocks) // BLOCKS)

    def code(self, units: Dimension, copy: Callable[[Value], None], placed: Placed) -> Code:
        """placed: (piece, image, group, pixel) -> where a piece of that pixel goes, and the bytes to the next block."""
        self.routine.phase(units, copy)
        pairs = -(-self.window.tiles // 2)
        strips = min(_STRIPS, pairs)
        each = -(-pairs // strips)

        def unit(number: Value) -> None:
            rest, strip = number // strips, number % strips
            image, group = rest // self.groups, rest % self.groups
            self._unit(image, group, strip * each, self.fn.minimum(strip * each + each, pairs), placed)

        self.routine.phase(self.batch * self.groups * strips, unit)
        return self.routine.code(scratch=sums_bytes(self.rows))

    def _unit(self, image: Value, group: Value, first: Index, last: Index, placed: Placed) -> None:
        fn, window = self.fn, self.window
        source = fn.offset(self.routine.workspace, image * self.image_bytes)
        weights = fn.offset(self.routine.packed[0], group * window.weights_bytes)
        if self.way == "amx":
            begin_tiles(fn, self.rows)

        def pair(number: Value, carried: list[Value]) -> Sequence[Value]:
            # An odd last tile is computed twice.
            tiles = [fn.minimum(number * 2 + k, window.tiles - 1) for k in range(2)]
            corners = [window.corner(fn, tile) for tile in tiles]
            inputs = [fn.offset(source, corner[0]) for corner in corners]
            multiply(self.way, fn, window, inputs, weights, self.routine.scratch)
            for which, (_, start, count) in enumerate(corners):
                self._store(image, group, which, start, count, placed)
            return ()

        fn.loop(first, last, pair)
        if self.way == "amx":
            end_tiles(fn)

    def _store(self, image: Value, group: Value, which: int, start: Index, count: Index, placed: Placed) -> None:
        fn = self.fn
        sums = fn.offset(self.routine.scratch, which * BLOCKS * self.rows * BLOCK_BYTES)

        def write(piece: Piece) -> None:
            def pixel(number: Value, _: list[Value]) -> Sequence[Value]:
                place, steps = placed(piece, image, group, number + start)
                loaded = [
                    fn.load(VECTOR, fn.offset(sums, number * BLOCK_BYTES), block * self.rows * BLOCK_BYTES)
                    for block in range(BLOCKS)
                ]
                piece.result.epilogue.store(piece.of(loaded, BLOCKS), piece.count, place, steps, self._lanes(piece))
                return ()

            fn.loop(0, count, pixel)

        store_pieces(fn, self.results, BLOCKS, group, write)

    def _lanes(self, piece: Piece) -> int | None:
        """Results in blocks are stored in whole ones."""
        return None if self.routine.outputs[0].type.format.blocks else piece.lanes
