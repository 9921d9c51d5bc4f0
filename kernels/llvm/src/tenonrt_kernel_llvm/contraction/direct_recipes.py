"""Tactics of direct convolution: register tiles, the order of units, and how weights are packed for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tenonrt.contracts import Array

from tenonrt_kernel_llvm.contraction.geometry import Geometry
from tenonrt_kernel_llvm.contraction.grouping import Grouping, read_grouping
from tenonrt_kernel_llvm.contraction.microkernel import BLOCK_BYTES
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
from tenonrt_kernel_llvm.target import BLOCK, Target

MAX_PLANES = BLOCK - 1  # channels of an image that is read plane by plane
MAX_EDGES = 12  # tiles of a row that stand alone; code grows with them
STRIP_BYTES = 1 << 15  # of input that a strip of pixels takes: what the first-level cache holds
STRIP_PIXELS = 256  # whose partial sums wait where the depth is cut
PIECE_BYTES = 16 << 10  # of weights that stay in the first-level cache beside inputs and partial sums


@dataclass(frozen=True)
class Recipe:
    """What a tactic's key says: ``c6x1``: channels outermost, tiles of 6 pixels by 1 block."""

    # "c": all pixels for a block of channels; "p": all channels for a strip of pixels; "k": as "c", the depth in pieces
    order: str
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


def recipes(geometry: Geometry, target: Target) -> list[Recipe]:
    """The tiles that fit the target, in all orders, best guess first."""
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
            if not planes and is_deep(geometry, tile):
                found.append(Recipe("k", tile, planes))
    return sorted(found, key=lambda recipe: cycles(geometry, recipe, target))


def is_deep(geometry: Geometry, tile: Tile) -> bool:
    """Whether the weights of a tile outgrow the first-level cache, and enough pixels share them."""
    pixels = geometry.x.output * (geometry.y.output if geometry.flat else strip_rows(geometry))
    depth = _depth(geometry)
    fits = depth % BLOCK == 0 and (not geometry.flat or pixels <= STRIP_PIXELS)
    return fits and 2 * tile.width <= pixels and depth // BLOCK >= 2 * piece_blocks(geometry, tile)


def piece_blocks(geometry: Geometry, tile: Tile) -> int:
    """Blocks of input channels whose weights for a tile stay in the first-level cache."""
    return max(1, PIECE_BYTES // (BLOCK * geometry.y.window * geometry.x.window * tile.blocks * BLOCK_BYTES))


def strip_rows(geometry: Geometry) -> int:
    """Rows whose partial sums wait at once where the depth is cut, in strips as even as can be."""
    most = max(1, STRIP_PIXELS // geometry.x.output)
    return 1 if geometry.flat else -(-geometry.y.output // -(-geometry.y.output // most))


def _depth(geometry: Geometry) -> int:
    grouping = read_grouping(geometry)
    return grouping.depth if isinstance(grouping, Grouping) else geometry.channels


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
    steps = _depth(geometry) * geometry.y.window * geometry.x.window
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
    order = {"c": 1.0, "p": 1.001, "k": 1.002}[recipe.order]
    return batch * total * steps * groups * rows * order


def least_units(geometry: Geometry, recipe: Recipe) -> int:
    """How many units an image has, of which threads take their share: groups of blocks by rows or tiles."""
    tiles = sum(run.count for run in row_runs(geometry, recipe.tile)) if geometry.flat else geometry.y.output
    return -(-geometry.output_blocks // recipe.tile.blocks) * tiles


def weights_bytes(geometry: Geometry, recipe: Recipe) -> int:
    """Of all weights as they are packed."""
    blocks = -(-geometry.output_blocks // recipe.tile.blocks) * recipe.tile.blocks
    return blocks * _depth(geometry) * geometry.y.window * geometry.x.window * BLOCK_BYTES


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
