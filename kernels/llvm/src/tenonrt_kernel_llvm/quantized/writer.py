"""Writes the code of a quantized contraction: units of pixels by outputs, sums of a pair of blocks, requantization."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from tenonrt.contracts import NCHW16C, Code

from tenonrt_kernel_llvm.emitter import FLOAT, I8, I32, Value, vector
from tenonrt_kernel_llvm.quantized.engines import (
    AMX,
    PAIR_BYTES,
    Rows,
    Sums,
    configure_tiles,
    depth_of,
    release_tiles,
)
from tenonrt_kernel_llvm.quantized.gathering import Gatherer
from tenonrt_kernel_llvm.quantized.geometry import Shape
from tenonrt_kernel_llvm.quantized.problem import Quantized
from tenonrt_kernel_llvm.quantized.recipes import Recipe
from tenonrt_kernel_llvm.quantized.requantization import PAIR, Requantization, store_result
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.target import BLOCK

_TILE_ROWS = 16


def panel_step(shape: Shape, recipe: Recipe) -> int:
    """Bytes from a gathered pixel to the next: whole cache lines, an odd number of them, so that neighbours do not all
    fall into the same sets of the cache."""
    lines = -(-depth_of(recipe.engine, shape.inputs).padded // 64)
    return (lines | 1) * 64


def least_pixels(shape: Shape, recipe: Recipe) -> int:
    """Rows of a tile register: no more than the pixels of any unit."""
    return min(_TILE_ROWS, shape.pixels // recipe.rows)


def workspace_bytes(shape: Shape, recipe: Recipe) -> int:
    """Inputs that all threads gather for all."""
    return shape.pixels * panel_step(shape, recipe) if recipe.gather == "shared" else 0


class ContractionWriter:
    """Units are (image, part of the pixels, part of the pairs of output blocks); images one by one where they share."""

    def __init__(self, routine: Routine, region: Quantized, shape: Shape, recipe: Recipe) -> None:
        self.routine, self.fn, self.region, self.shape, self.recipe = routine, routine.function, region, shape, recipe
        problem = routine.problem
        weights, start, rows, numbers, padding, tiles = routine.packed
        self.weights, self.start, self.factors, self.tiles = weights, start, rows, tiles
        self.depth = depth_of(recipe.engine, shape.inputs)
        self.pairs = -(-shape.outputs // PAIR)
        self.step = shape.channels if recipe.gather == "direct" else panel_step(shape, recipe)
        self.most = -(-shape.pixels // recipe.rows)
        least = shape.pixels // recipe.rows
        self.sums = Sums(self.fn, recipe.engine, self.depth, least, self.most)
        self.gatherer = Gatherer(self.fn, shape, padding)
        self.requantization = Requantization(self.fn, problem, region, numbers)
        self.source = routine.inputs[problem.activations.index(region.source.stored)]
        others = [s.other.stored for s in region.stages if s.other is not None]
        self.other = routine.inputs[problem.activations.index(others[0])] if others else None
        self.unsigned = problem.types[region.source.stored].dtype == "uint8"
        self.blocked = routine.outputs[0].type.format == NCHW16C

    def code(self) -> Code:
        recipe, shape, fn = self.recipe, self.shape, self.fn
        self.buffer = fn.stack(self.sums.nbytes)
        if recipe.engine is AMX:
            configure_tiles(fn, self.tiles)
        if recipe.gather == "shared":
            assert isinstance(shape.images, int)
            for image in range(shape.images):
                self._shared(fn.constant("i64", image))
        else:
            self.routine.phase(shape.images * (recipe.rows * recipe.columns), self._unit)
        if recipe.engine is AMX:
            release_tiles(fn)
        panel = self.most * self.step if recipe.gather == "panel" else 0
        return self.routine.code(-(-panel // 64) * 64)

    def _unit(self, number: Value) -> None:
        rest, column = number // self.recipe.columns, number % self.recipe.columns
        image, part = rest // self.recipe.rows, rest % self.recipe.rows
        first, last = self._pixels(part)
        source = self._image(image)
        if self.recipe.gather == "panel":
            rows = self.routine.scratch
            if self.shape.sets > 1:
                source = self.fn.offset(source, column * self.shape.taken)
            self.gatherer.pixels(source, first, last, rows, self.step)
        else:
            rows = self.fn.offset(source, first * self.step)
        self._products(image, (first, last), column, rows)

    def _shared(self, image: Value) -> None:
        """Two phases for an image."""
        recipe, fn = self.recipe, self.fn
        parts = max(1, self.shape.pixels // 4)

        def gather(part: Value) -> None:
            first, last = part * self.shape.pixels // parts, (part + 1) * self.shape.pixels // parts
            panel = fn.offset(self.routine.workspace, first * self.step)
            self.gatherer.pixels(self._image(image), first, last, panel, self.step)

        def multiply(number: Value) -> None:
            part, column = number // recipe.columns, number % recipe.columns
            first, last = self._pixels(part)
            self._products(image, (first, last), column, fn.offset(self.routine.workspace, first * self.step))

        self.routine.phase(parts, gather)
        self.routine.phase(recipe.rows * recipe.columns, multiply)

    def _pixels(self, part: Value) -> tuple[Value, Value]:
        pixels, rows = self.shape.pixels, self.recipe.rows
        return part * pixels // rows, (part + 1) * pixels // rows

    def _image(self, image: Value) -> Value:
        return self.fn.offset(
            self.source.pointer, image * (self.shape.y.size * self.shape.x.size * self.shape.channels)
        )

    def _products(self, image: Value, pixels: tuple[Value, Value], column: Value, rows: Value) -> None:
        """All pairs of output blocks of a part."""
        fn, columns = self.fn, self.recipe.columns
        given = Rows(rows, self.step, self.unsigned)

        def pair(number: Value, _: list[Value]) -> Sequence[Value]:
            self._pair(image, pixels, number, given)
            return ()

        fn.loop(column * self.pairs // columns, (column + 1) * self.pairs // columns, pair)

    def _pair(self, image: Value, pixels: tuple[Value, Value], pair: Value, rows: Rows) -> None:
        fn, sums = self.fn, self.sums
        weights = fn.offset(self.weights, pair * (self.depth.padded // 4 * PAIR_BYTES))
        start = fn.offset(self.start, pair * (4 * PAIR))
        count = pixels[1] - pixels[0]
        many = sums.tile * sums.tiles

        def tiles(number: Value, _: list[Value]) -> Sequence[Value]:
            # Tiles at the end are moved back to where they are whole: some pixels are computed twice.
            first = [
                fn.as_value(fn.minimum(number * many + index * sums.tile, count - sums.tile), "i64")
                for index in range(sums.tiles)
            ]
            sums.compute(rows, first, weights, start, self.buffer)
            for index, begin in enumerate(first):
                self._finish(image, begin + pixels[0], pair, fn.offset(self.buffer, index * sums.tile * PAIR_BYTES))
            return ()

        fn.loop(0, (count + (many - 1)) // many, tiles)

    # results ---------------------------------------------------------------------------------------------------------

    def _finish(self, image: Value, pixel: Value, pair: Value, sums: Value) -> None:
        """The sums of one tile, whose first pixel is given."""
        fn, outputs = self.fn, self.shape.outputs
        lanes = [min(BLOCK, outputs - (self.pairs - 1) * PAIR - block * BLOCK) for block in range(2)]
        if lanes == [BLOCK, BLOCK]:
            self._store(image, pixel, pair, sums, [BLOCK, BLOCK])
            return
        few = [count for count in lanes if count > 0]
        if self.pairs == 1:
            self._store(image, pixel, pair, sums, few)
            return
        fn.when(
            fn.compare("eq", pair, self.pairs - 1),
            lambda: self._store(image, pixel, pair, sums, few),
            lambda: self._store(image, pixel, pair, sums, [BLOCK, BLOCK]),
        )

    def _store(self, image: Value, pixel: Value, pair: Value, sums: Value, lanes: Sequence[int]) -> None:
        """Where things lie is computed before the loop over pixels: LLVM takes nothing out of it by itself."""
        fn, row_bytes = self.fn, 4 * self.pairs * PAIR
        channel = fn.offset(self.factors, pair * (4 * PAIR))
        factors = [fn.load(vector(BLOCK), channel, 64 * block) for block in range(len(lanes))]
        offsets = [fn.load(vector(BLOCK), channel, 64 * block + row_bytes) for block in range(len(lanes))]
        targets, step = self._targets(image, pixel, pair, len(lanes))
        others = self._others(image, pixel, pair)
        together = next(count for count in (4, 2, 1) if self.sums.tile % count == 0)

        def rows(number: Value, _: list[Value]) -> Sequence[Value]:
            at, places = fn.offset(sums, number * PAIR_BYTES), [fn.offset(t, number * step) for t in targets]
            added = None if others is None else fn.offset(others, number * self.shape.outputs)
            for row, (block, count) in product(range(together), enumerate(lanes)):
                total = fn.convert("sitofp", fn.load(vector(BLOCK, I32), at, row * PAIR_BYTES + 64 * block), FLOAT)
                real = fn.fma(total, factors[block], offsets[block])
                other = None
                if added is not None:
                    where = row * self.shape.outputs + block * BLOCK
                    other = fn.load_lanes(vector(BLOCK, I8), added, count, where, 1)
                finished = self.requantization.finish(real, other)
                store_result(fn, finished, places[block], BLOCK if self.blocked else count, row * step)
            return ()

        fn.loop(0, self.sums.tile, rows, step=together)

    def _others(self, image: Value, pixel: Value, pair: Value) -> Value | None:
        """Where what is added to a pair of blocks begins."""
        if self.other is None:
            return None
        at = (image * self.shape.pixels + pixel) * self.shape.outputs + pair * PAIR
        return self.fn.offset(self.other.pointer, at)

    def _targets(self, image: Value, pixel: Value, pair: Value, count: int) -> tuple[list[Value], int]:
        """Where each of a pair's blocks begins, and bytes from pixel to pixel."""
        fn, shape, out = self.fn, self.shape, self.routine.outputs[0].pointer
        if self.blocked:
            blocks = -(-shape.outputs // BLOCK)
            first = fn.offset(out, ((image * blocks + pair * 2) * shape.pixels + pixel) * (4 * BLOCK))
            return [fn.offset(first, block * shape.pixels * 4 * BLOCK) for block in range(count)], 4 * BLOCK
        size = 1 if self.region.result.quantized else 4
        first = fn.offset(out, ((image * shape.pixels + pixel) * shape.outputs + pair * PAIR) * size)
        return [fn.offset(first, block * BLOCK * size) for block in range(count)], shape.outputs * size
