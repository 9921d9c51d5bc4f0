"""Fully connected layers: rows of activations times constant weights, packed in blocks of 16 outputs.

Tactics differ in the tile and in the order of units: "c" all rows for a block of outputs, "p" all outputs for some
rows, "k" as "c" with the depth cut into pieces whose weights stay in the first-level cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tenonrt.contracts import (
    LINEAR,
    Array,
    Code,
    Dimension,
    GraphView,
    Layer,
    Problem,
    Support,
    Tactic,
    Weights,
    product,
)

from tenonrt_kernel_llvm.contraction.epilogue import (
    Epilogue,
    Place,
    bias_of,
    epilogue_rows,
    named,
    overwritable,
    pack_epilogue,
    tail_refusal,
)
from tenonrt_kernel_llvm.contraction.microkernel import BLOCK_BYTES, VECTOR, Steps, accumulate, fetch_ahead
from tenonrt_kernel_llvm.contraction.results import Piece, Result, results_of, store_pieces, total_blocks
from tenonrt_kernel_llvm.contraction.tiles import Run, Tile, runs_of, tiles_for
from tenonrt_kernel_llvm.emitter import FLOAT, HALF, Index, Value
from tenonrt_kernel_llvm.indexing import known
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.siblings import parts_of, read_tails
from tenonrt_kernel_llvm.tails import Tail, regions_with_tail
from tenonrt_kernel_llvm.target import BLOCK, Target, host_target

UNROLLED = BLOCK  # inputs between two turns of the loop
ROW_BYTES = 1 << 17  # of activations that stay in the second-level cache while all outputs of some rows are computed


PIECE_BYTES = 24 << 10  # of weights that stay in the first-level cache
WEIGHT_BYTES = {FLOAT: 4, HALF: 2}
PIECE_ROWS = 240  # whose partial sums wait in scratch


@dataclass(frozen=True)
class Product:
    """[rows, depth] times [outputs, depth] transposed."""

    rows: Dimension
    depth: int
    outputs: int

    @property
    def blocks(self) -> int:
        return -(-self.outputs // BLOCK)


def read_product(problem: Problem) -> Product | str:
    """The product of a problem whose first layer is FullyConnected, or why it is not computed here."""
    layer = problem.layer
    source, weights = problem.types[layer.inputs[0]], problem.types[layer.inputs[1]]
    if {source.dtype, weights.dtype} != {"float32"}:
        return f"computes in float32, not {source.dtype}"
    if layer.inputs[0] not in problem.activations or any(t not in (-1, *problem.constants) for t in layer.inputs[1:]):
        return "the input must be computed, weights and bias constant"
    if not weights.static:
        return "the shape of the weights must be known"
    outputs, depth = (known(d) for d in weights.shape)
    return Product(product(source.shape[:-1]), depth, outputs) if outputs and depth else "a size is 0"


class FullyConnectedKernel(LlvmKernel):
    """float32, any number of rows and batch; constant weights; pointwise tails.

    Siblings (queries, keys and values) are one product whose outputs go to as many tensors.
    """

    aggregates = True
    stored = FLOAT  # how a weight is stored

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return regions_with_tail(view, layer)

    def supports(self, problem: Problem) -> Support:
        found = read_matrices(problem)
        return (
            Support(False, found) if isinstance(found, str) else Support(True, runtime_symbols=runtime_symbols(problem))
        )

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        found = matrices_of(problem)
        pairs = overwritable(problem, found.tails, (LINEAR,) * len(problem.activations), LINEAR)
        recipes = _recipes(found.product, host_target())
        return [Tactic(f"{order}{tile.width}x{tile.blocks}", inplace=pairs) for tile, order in recipes]

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Weights as [groups of blocks, depth, blocks, 16]; then what the epilogue reads."""
        found, arrays = matrices_of(code.problem), named(code, weights)
        depth, blocks = found.product.depth, _parse(code.tactic.key)[1].blocks
        groups = -(-found.product.blocks // blocks)
        dense = found.dense(arrays)
        padded = np.zeros((groups * blocks * BLOCK, depth), np.float32)
        padded[: len(dense)] = dense
        packed = np.ascontiguousarray(padded.reshape(groups, blocks * BLOCK, depth).transpose(0, 2, 1))
        return [packed, *found.pack_epilogues(arrays)]

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        found = matrices_of(problem)
        routine = Routine(problem, tactic, target, packed=1 + sum(found.rows))
        order, tile = _parse(tactic.key)
        return _Rows(routine, found, order, tile, self.stored).code()


@dataclass(frozen=True)
class Matrices:
    """One matrix of weights, or those of siblings behind each other, each one's outputs in whole blocks."""

    problem: Problem
    product: Product
    parts: Sequence[Problem]
    outputs: Sequence[int]
    tails: Sequence[Tail]

    def each(self) -> Iterator[tuple[Problem, Tail, int]]:
        return zip(self.parts, self.tails, self.outputs, strict=True)

    @property
    def rows(self) -> list[int]:
        """Packed arrays of each epilogue."""
        return [
            epilogue_rows(self.problem, tail, bias_of(part), count, padded=False) for part, tail, count in self.each()
        ]

    def dense(self, arrays: dict[int, Array]) -> Array:
        """Weights [outputs, depth] behind each other."""
        padded, first = np.zeros((self.product.blocks * BLOCK, self.product.depth), np.float32), 0
        for part, _, outputs in self.each():
            padded[first : first + outputs] = arrays[part.layer.inputs[1]]
            first += -(-outputs // BLOCK) * BLOCK
        return padded

    def pack_epilogues(self, arrays: dict[int, Array]) -> list[Array]:
        """What the epilogues read, in order."""
        return [
            row
            for part, tail, outputs in self.each()
            for row in pack_epilogue(self.problem, tail, bias_of(part), outputs, arrays, padded=False)
        ]

    def results(self, routine: Routine) -> list[Result]:
        """An epilogue for each matrix; their packed arrays follow the weights."""
        epilogues, first = [], 1
        for (part, tail, count), rows in zip(self.each(), self.rows, strict=True):
            output = self.problem.outputs.index(part.outputs[0])
            own = Epilogue(routine, bias_of(part), count, first, padded=False, tail=tail, output=output)
            epilogues.append((own, count))
            first += rows
        return results_of(epilogues)


def read_matrices(problem: Problem) -> Matrices | str:
    """The matrices of a problem, or why it is not computed here."""
    parts = parts_of(problem)
    if any(part.layer.kind != "FullyConnected" for part in parts):
        return "every part of a region must begin with a fully connected layer"
    products, tails = [read_product(part) for part in parts], read_tails(parts)
    known = [product for product in products if not isinstance(product, str)]
    if len(known) < len(parts) or isinstance(tails, str):
        return next(found for found in (*products, tails) if isinstance(found, str))
    if why := next((found for tail in tails if (found := tail_refusal(problem, tail))), ""):
        return why
    outputs = [product.outputs for product in known]
    if len(parts) == 1:
        return Matrices(problem, known[0], parts, outputs, tails)
    if len({part.layer.inputs[0] for part in parts}) > 1:
        return "siblings must read one tensor"
    together = replace(known[0], outputs=total_blocks(outputs) * BLOCK)
    return Matrices(problem, together, parts, outputs, tails)


def matrices_of(problem: Problem) -> Matrices:
    """The matrices of a problem that `supports` has accepted."""
    found = read_matrices(problem)
    assert not isinstance(found, str), found
    return found


def _recipes(given: Product, target: Target) -> Iterator[tuple[Tile, str]]:
    """A single row takes many blocks at once, so that enough sums are under way; more rows take the largest tiles."""
    if given.rows == 1:
        for blocks in (4, 2, 6, 1):
            if blocks <= given.blocks or blocks == 1:
                yield Tile(1, blocks), "c"
        return
    for tile in tiles_for(target, given.blocks):
        orders = ("c", "p", "k") if given.depth >= 2 * _piece(tile) else ("c", "p")
        for order in orders:
            yield tile, order


def _piece(tile: Tile) -> int:
    """Inputs of a piece of the depth."""
    return PIECE_BYTES // (tile.blocks * BLOCK_BYTES) // UNROLLED * UNROLLED


def _parse(key: str) -> tuple[str, Tile]:
    width, _, blocks = key[1:].partition("x")
    return key[0], Tile(int(width), int(blocks))


class _Rows:
    """Writes the code of one recipe."""

    def __init__(self, routine: Routine, matrices: Matrices, order: str, tile: Tile, stored: str) -> None:
        given = matrices.product
        self.stored, self.step = stored, tile.blocks * BLOCK * WEIGHT_BYTES[stored]
        self.routine, self.fn, self.given, self.order, self.tile = routine, routine.function, given, order, tile
        problem = routine.problem
        self.source = routine.inputs[problem.activations.index(problem.layer.inputs[0])]
        self.results = matrices.results(routine)
        self.groups = -(-given.blocks // tile.blocks)
        self.strip = self._strip()

    def _strip(self) -> int:
        """Rows of a unit: at least one, even where the batch is empty and there are no units."""
        width, rows = self.tile.width, self.given.rows
        if rows == 0:
            return 1
        if self.order == "k":
            return max(1, min(PIECE_ROWS, rows)) if isinstance(rows, int) else 1
        strip = 4 * width
        if self.order == "p":
            strip = max(width, ROW_BYTES // (4 * self.given.depth) // width * width)
            strip = min(strip, max(1, -(-rows // 4))) if isinstance(rows, int) else strip
        return max(1, strip, min(width, rows)) if isinstance(rows, int) else strip

    def code(self) -> Code:
        rows = self.given.rows
        strips = (rows + (self.strip - 1)) // self.strip
        here = self.routine.dimension(rows)
        # A symbolic quotient is no polynomial, so units are counted in whole rows' worth of groups instead.
        if not isinstance(strips, int):
            strips, self.strip = rows, 1
        count = self.routine.dimension(strips)

        def unit(number: Value) -> None:
            if self.order != "p":
                group, strip = number // count, number % count
            else:
                strip, group = number // self.groups, number % self.groups
            self._unit(group, strip, here)

        self.routine.phase(strips * self.groups, unit)
        partial = self.strip * self.tile.blocks * BLOCK_BYTES
        return self.routine.code(scratch=partial if self.order == "k" else 0)

    def _unit(self, group: Value, strip: Value, rows: Index) -> None:
        fn = self.fn
        first = strip * self.strip
        weights = fn.offset(self.routine.packed[0], group * (self.given.depth * self.step))
        if isinstance(rows, int) and rows % self.strip == 0:
            self._tiles(group, first, weights, runs_of(self.strip, self.tile.width))
            return
        if isinstance(rows, Value):
            self._tiles(group, first, weights, runs_of(1, 1))
            return
        full = fn.compare("slt", strip, rows // self.strip)
        fn.when(
            full,
            lambda: self._tiles(group, first, weights, runs_of(self.strip, self.tile.width)),
            lambda: self._tiles(group, first, weights, runs_of(rows % self.strip, self.tile.width)),
        )

    def _tiles(self, group: Value, first: Value, weights: Value, runs: Sequence[Run]) -> None:
        """The tiles of a unit's rows, piece by piece of the depth."""
        depth, piece = self.given.depth, _piece(self.tile) if self.order == "k" else self.given.depth
        pieces = -(-depth // piece)

        def rows(start: Index, length: int, first_piece: bool, last_piece: bool) -> None:
            for run in runs:

                def tile(number: Value, _: list[Value], run: Run = run) -> Sequence[Value]:
                    row = number * run.width + run.start
                    if pieces > 1:
                        self._fetch_ahead(weights, row, run.width, start, piece)
                    sums = self._partial(row, run.width, first_piece)
                    sums = self._tile(first + row, weights, run.width, start, length, sums)
                    if last_piece:
                        self._store(group, first + row, sums)
                    else:
                        self._keep(row, sums)
                    return ()

                self.fn.loop(0, run.count, tile)

        def middle(number: Value, _: list[Value]) -> Sequence[Value]:
            rows(number * piece, piece, False, False)
            return ()

        if pieces == 1:
            rows(0, depth, True, True)
            return
        rows(0, piece, True, False)
        self.fn.loop(1, pieces - 1, middle)
        rows((pieces - 1) * piece, depth - (pieces - 1) * piece, False, True)

    def _fetch_ahead(self, weights: Value, row: Value, width: int, start: Index, piece: int) -> None:
        """Ask for a tile's share of the next piece of the weights, which come from far away."""
        fn, step = self.fn, self.step
        share = -(-piece * step // (self.strip * BLOCK_BYTES))  # lines of a row
        ahead = fn.offset(fn.offset(weights, row * (share * BLOCK_BYTES)), (start + piece) * step)
        fetch_ahead(fn, ahead, share * width)

    def _partial(self, row: Value, width: int, first_piece: bool) -> list[Value]:
        """The sums of a tile so far."""
        fn, count = self.fn, width * self.tile.blocks
        if first_piece:
            return [fn.zero(VECTOR)] * count
        kept = fn.offset(self.routine.scratch, row * (self.tile.blocks * BLOCK_BYTES))
        return [fn.load(VECTOR, kept, index * BLOCK_BYTES) for index in range(count)]

    def _keep(self, row: Value, sums: Sequence[Value]) -> None:
        kept = self.fn.offset(self.routine.scratch, row * (self.tile.blocks * BLOCK_BYTES))
        for index, value in enumerate(sums):
            self.fn.store(value, kept, index * BLOCK_BYTES)

    def _tile(
        self, row: Value, weights: Value, width: int, start: Index, length: int, sums: Sequence[Value]
    ) -> list[Value]:
        """The sums of a tile after ``length`` more inputs."""
        fn, blocks, given = self.fn, self.tile.blocks, self.given
        inputs = fn.offset(fn.offset(self.source.pointer, row * (4 * given.depth)), start * 4)
        pixels = [(p, p * 4 * given.depth) for p in range(width)]
        step = self.step
        weights = fn.offset(weights, start * step)
        block_step = step // blocks

        def turn(number: Value, carried: list[Value]) -> Sequence[Value]:
            at, where = fn.offset(inputs, number * (4 * UNROLLED)), fn.offset(weights, number * (UNROLLED * step))
            return accumulate(fn, carried, blocks, at, where, pixels, Steps(UNROLLED, 4, step, block_step, self.stored))

        whole, rest = divmod(length, UNROLLED)
        sums = fn.loop(0, whole, turn, sums)
        if rest:
            at, where = fn.offset(inputs, whole * 4 * UNROLLED), fn.offset(weights, whole * UNROLLED * step)
            sums = accumulate(fn, sums, blocks, at, where, pixels, Steps(rest, 4, step, block_step, self.stored))
        return list(sums)

    def _store(self, group: Value, row: Value, sums: Sequence[Value]) -> None:
        """A tile may hold blocks of several results, the last one fewer, and its last block fewer outputs."""
        blocks = self.tile.blocks

        def write(piece: Piece) -> None:
            row_bytes = 4 * piece.result.channels
            first = group * blocks + (piece.start - piece.result.first)
            place = Place(0, first, row * row_bytes + first * BLOCK_BYTES)
            own = piece.of(sums, blocks)
            piece.result.epilogue.store(own, piece.count, place, (row_bytes, BLOCK_BYTES), piece.lanes)

        store_pieces(self.fn, self.results, blocks, group, write)
