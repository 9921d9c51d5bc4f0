"""Tiles of products of bytes, and how long they are expected to take.

As those of halves (`mapped_tiles`), with as many blocks on a multiprocessor as the tile says: where memory is what
limits, several blocks wait at once. Rates are those of one H200; they rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from tenonrt_kernel_nvrtc.mapped_tiles import Tile

GROUP = 64  # columns that a quad of threads has together, 16 in a row each
_SHARED = 227 << 10
_MULTIPROCESSORS, _HERTZ = 132, 1.7e9
_AT_ONCE = {1: 132, 2: 66, 4: 30}
_SHAPES = ((64, 1), (128, 1), (256, 1), (64, 2), (128, 2))  # rows, teams
_CLUSTERS = ((1, 1), (2, 1), (1, 2))
_BLOCKS = (1, 2, 3, 4)
_FEWEST_STAGES, _MOST_STAGES = 3, 8
# Of a multiprocessor in a cycle: multiplications; bytes from the second-level cache, and from memory.
_PRODUCTS, _NEAR_BYTES, _FAR_BYTES = 3400, 55, 16
_FINISH = 0.1  # cycles for a result: conversions to single precision and back
_REGISTERS, _BESIDE_SUMS = 512, 44  # of a lane of a quarter of it; of a thread, but for sums and what is read for them
_MOST = 10
_GAIN = 0.97  # of the time without it: what a cluster has to bring to be tried


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
    """A product: rows, columns, stages of k, and bytes that are read and written once."""

    m: int
    n: int
    stages: int
    moved: int

    def seconds(self, tile: ByteTile) -> float:
        """Expected time."""
        down, across = tile.sizes(self.m, self.n)
        count, running = down * across * tile.cluster, tile.grid(self.m, self.n)
        waves = ceil(count / running)
        busy = max(1.0, running / _MULTIPROCESSORS)
        share = (tile.rows * (3 + 1 / tile.across) + tile.columns * (3 + 1 / tile.down)) / 4 * tile.depth
        products = self.stages * max(tile.rows * tile.columns * tile.depth / _PRODUCTS, share / _NEAR_BYTES)
        finish = tile.rows * tile.columns * _FINISH
        far = self.moved / (count * _FAR_BYTES)
        beside = tile.blocks * tile.teams  # tiles of which one waits while others go on
        each = max(products, finish, far) + (products + finish + 1500) / (2 * beside)
        return (4000 + waves * busy * each) / _HERTZ


def tiles(work: Work, depth: int) -> list[ByteTile]:
    """Those that are worth trying, the most promising first."""
    found = sorted((tile for tile in _all(depth) if _fits(tile, work)), key=work.seconds)
    alone = {_shape(tile): work.seconds(tile) for tile in found if tile.cluster == 1}
    return [t for t in found if t.cluster == 1 or work.seconds(t) < _GAIN * alone.get(_shape(t), 1.0)][:_MOST]


def _shape(tile: ByteTile) -> tuple[int, ...]:
    return tile.rows, tile.columns, tile.teams, tile.blocks


def _all(depth: int) -> list[ByteTile]:
    made = list[ByteTile]()
    for rows, teams in _SHAPES:
        for columns in (GROUP, 2 * GROUP, 3 * GROUP, 4 * GROUP):
            for down, across in _CLUSTERS:
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
    return alternates and beside and (smallest or work.m * max(work.n, GROUP) * 1.5 >= area)
