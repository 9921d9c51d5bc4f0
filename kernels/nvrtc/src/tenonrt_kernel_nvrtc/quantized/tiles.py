"""Tiles of products of bytes, and how long they are expected to take.

As those of halves (`products.mapped_tiles`), with as many blocks on a multiprocessor as the tile says: where memory is
what limits, several blocks wait at once. Rates are those of one H200; they rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from tenonrt_kernel_nvrtc.products.mapped_tiles import Tile

GROUP = 64  # columns that a quad of threads has together, 16 in a row each
_SHARED = 227 << 10
_MULTIPROCESSORS, _HERTZ = 132, 1.7e9
_AT_ONCE = {1: 132, 2: 66, 4: 30}
_SHAPES = ((64, 1), (128, 1), (256, 1), (64, 2), (128, 2))  # rows, teams
# Blocks that share weights pay where rows of 64 bytes are copied one by one, and nowhere else.
_CLUSTERS = {64: ((1, 1), (2, 1)), 128: ((1, 1),)}
# Rows of a matrix are few and read by many blocks, so that the second-level cache is what limits: these are tried too.
_SHARING = ((2, 1), (1, 2), (2, 2))
_SHARED_STAGES = 4  # fewer are over before sharing pays
_BLOCKS = (1, 2, 3, 4)
_FEWEST_STAGES, _MOST_STAGES = 3, 8
# Of a multiprocessor in a cycle: multiplications, bytes from memory. Cycles: to copy a row of a stage; for a result,
# and for one to which something is added; for a tile; until what is copied is there.
_PRODUCTS, _FAR_BYTES = 4000, 22
_ROW, _FINISH, _ADDED, _TILE, _LATENCY = 2.4, 0.06, 0.13, 250, 900
_REGISTERS, _BESIDE_SUMS = 512, 44  # of a lane of a quarter of it; of a thread, but for sums and what is read for them
_MOST, _ALIKE = 7, 2  # tiles that are tried, and how many of one shape


@dataclass(frozen=True)
class ByteTile(Tile):
    """blocks: on a multiprocessor. depth: bytes of k in a stage, 128 or 64."""

    blocks: int
    depth: int

    @property
    def key(self) -> str:
        return f"{super().key}:{self.blocks}x{self.depth}"

    @property
    def row_bytes(self) -> int:
        return self.depth

    @property
    def resident(self) -> int:
        return self.blocks

    @property
    def sums(self) -> int:
        """Registers for a thread's sums."""
        return self.columns * self.heights // 2

    @property
    def registers(self) -> int:
        """That a thread may have for sums and for what is read ahead."""
        if self.trades:
            return 232 - _BESIDE_SUMS
        warps = ceil(self.threads * self.blocks / 128)  # of a quarter of the multiprocessor
        return min(208, _REGISTERS // warps // 8 * 8) - _BESIDE_SUMS

    @property
    def shared(self) -> int:
        return self.stages * self.stage_bytes + 2048

    def clusters(self, m: int, n: int) -> int:
        down, across = self.sizes(m, n)
        return min(down * across, _AT_ONCE[self.cluster] * self.blocks)


@dataclass(frozen=True)
class Work:
    """A product: rows, columns, stages of k, bytes that are read and written once; whether something is added."""

    m: int
    n: int
    stages: int
    moved: int
    adds: bool
    rows: bool = False  # of a matrix, no images

    def seconds(self, tile: ByteTile) -> float:
        """Expected time: of 24 convolutions on an H200, it is off by a fifth."""
        down, across = tile.sizes(self.m, self.n)
        count, running = down * across * tile.cluster, tile.grid(self.m, self.n)
        copied = self.stages * (tile.rows / tile.across + tile.columns / tile.down) * _ROW
        multiplied = self.stages * tile.rows * tile.columns * tile.depth / _PRODUCTS
        finish = tile.rows * tile.columns * (_ADDED if self.adds else _FINISH) + _TILE
        beside = tile.blocks * tile.teams  # tiles of which one waits while others go on
        computed = multiplied + finish if beside == 1 else max(multiplied, finish)
        each = max(computed, copied, self.moved / (count * _FAR_BYTES))
        each += (max(multiplied, copied) + finish) / (5.5 * beside) + _LATENCY / beside
        return (4000 + ceil(count / running) * max(1.0, running / _MULTIPROCESSORS) * each) / _HERTZ


def tiles(work: Work, depth: int) -> list[ByteTile]:
    """Those that are worth trying, the most promising first; of rows also those that share what they copy."""
    found = _best(work, [tile for cluster in _CLUSTERS[depth] for tile in _all(depth, *cluster)])
    if work.rows:
        found += _best(work, [tile for cluster in _SHARING for tile in _all(depth, *cluster) if tile not in found])
    return found


def _best(work: Work, among: Sequence[ByteTile]) -> list[ByteTile]:
    shapes: dict[tuple[int, int, int], int] = {}
    kept = list[ByteTile]()
    for tile in sorted((tile for tile in among if _fits(tile, work)), key=work.seconds):
        shape = (tile.rows, tile.columns, tile.teams)
        shapes[shape] = shapes.get(shape, 0) + 1
        if shapes[shape] <= _ALIKE:
            kept.append(tile)
    return kept[:_MOST]


def _all(depth: int, down: int, across: int) -> list[ByteTile]:
    made = list[ByteTile]()
    for rows, teams in _SHAPES:
        for columns in (GROUP, 2 * GROUP, 3 * GROUP, 4 * GROUP):
            for blocks in _BLOCKS:
                bare = ByteTile(rows, columns, down, across, teams, 0, blocks, depth)
                stages = min(_MOST_STAGES, (_SHARED // blocks - 1024 - bare.shared) // bare.stage_bytes)
                tile = ByteTile(rows, columns, down, across, teams, stages, blocks, depth)
                if stages >= _FEWEST_STAGES and tile.sums <= min(128, tile.registers):
                    made.append(tile)
    return made


def _fits(tile: ByteTile, work: Work) -> bool:
    """Whether little of it would be outside of the product, and there are tiles for all teams and blocks."""
    down, across = tile.sizes(work.m, work.n)
    smallest = tile.rows == tile.columns == GROUP and tile.cluster == tile.blocks == 1
    alternates = tile.teams == 1 or down * across > tile.clusters(work.m, work.n)
    beside = tile.blocks == 1 or tile.grid(work.m, work.n) > _MULTIPROCESSORS * (tile.blocks - 1)
    area = down * across * tile.cluster * tile.rows * tile.columns
    shares = tile.cluster == 1 or work.stages >= _SHARED_STAGES
    return alternates and beside and shares and (smallest or work.m * max(work.n, GROUP) * 1.5 >= area)
