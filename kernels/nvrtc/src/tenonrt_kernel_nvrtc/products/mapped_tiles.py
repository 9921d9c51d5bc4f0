"""Tiles of products whose operands are copied by tensor maps, and how long they are expected to take.

Blocks of a cluster share what they copy: those beside each other have the same rows, those below each other the same
columns. Rates are those of one H200, bytes and operations in a cycle of a multiprocessor; they rank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Self, TypeVar

DEPTH = 64  # elements of k in a stage: 128 bytes, a row of the swizzle
_SHARED = 227 << 10
_BARRIERS = 1024  # bytes for barriers, and what aligning to 1024 takes
_HALF = 112 << 10  # of two blocks on a multiprocessor
_FEWEST_STAGES, _MOST_STAGES = 3, 12
# The clock is slower while all multiprocessors multiply for long: power is limited.
_FEW_HERTZ, _MANY_HERTZ, _OPERATIONS = 1.75e9, 1.5e9, 4096
# From the second-level cache: operands that fit into the near half of it, and others; cycles until a copy is there.
_NEAR, _NEAR_BYTES, _FAR_BYTES, _LATENCY = 16 << 20, 75, 55, 1900
_COLUMNS = (64, 96, 128, 160, 192, 256)
# Clusters of so many blocks that run at once: those of a cluster are in one group of multiprocessors, and few of the
# groups are multiples of four.
_AT_ONCE = {1: 132, 2: 66, 4: 30, 8: 15}
_CLUSTERS = ((1, 1), (2, 1), (1, 2), (4, 1), (2, 2), (1, 4), (4, 2), (2, 4), (1, 8))
# Tiles that are tried, and how many of one shape, which differ in their clusters and stages.
_MOST, _MOST_OF_LONG, _LONG_SECONDS, _ALIKE = 16, 12, 3e-5, 2


T = TypeVar("T", bound="Tile")


@dataclass(frozen=True)
class Tile:
    """A team of warpgroups computes ``rows`` by ``columns``; a cluster is ``down`` by ``across`` blocks.

    teams: with two, one computes while the other finishes its tile. stages: of k, copied ahead.
    """

    rows: int
    columns: int
    down: int
    across: int
    teams: int
    stages: int

    @classmethod
    def parsed(cls, key: str) -> Self:
        return cls(*(int(text) for text in key.replace(":", "x").split("x")))

    @property
    def key(self) -> str:
        return f"{self.rows}x{self.columns}:{self.down}x{self.across}:{self.teams}x{self.stages}"

    @property
    def cluster(self) -> int:
        return self.down * self.across

    @property
    def warpgroups(self) -> int:
        """Of a team: each has 64 rows, or 128 where a team of two, or each of two teams, has more."""
        return min(2 // self.teams, self.rows // 64)

    @property
    def heights(self) -> int:
        """Rows of a warpgroup, in units of 64."""
        return self.rows // 64 // self.warpgroups

    @property
    def consumers(self) -> int:
        """Threads that multiply; a warp more copies."""
        return 128 * self.warpgroups * self.teams

    @property
    def trades(self) -> bool:
        """Whether the warps that copy give registers to those that multiply, for which they must be four."""
        return self.consumers == 256 and self.resident == 1

    @property
    def threads(self) -> int:
        return self.consumers + (128 if self.trades else 32)

    @property
    def row_bytes(self) -> int:
        """Of k in a stage, an operand's row: the width of the swizzle."""
        return 2 * DEPTH

    @property
    def stage_bytes(self) -> int:
        return (self.rows + self.columns) * self.row_bytes

    @property
    def statistics_bytes(self) -> int:
        """For normalized rows: of each, in each block across, the mean and the squares, twice for each team."""
        return 16 * self.rows * self.across * self.teams

    @property
    def parameter_bytes(self) -> int:
        """For normalized rows: bias, scale and shift of a block's columns."""
        return 12 * self.columns

    @property
    def registers(self) -> int:
        """That a thread which multiplies has for sums and for what is read ahead."""
        if self.trades:
            return 150
        return 215 if self.resident == 1 else 125

    @property
    def shared(self) -> int:
        return self.stages * self.stage_bytes + 2 * _BARRIERS + self.statistics_bytes + self.parameter_bytes

    @property
    def resident(self) -> int:
        """Blocks on a multiprocessor."""
        sums = self.columns * self.heights // 2
        return 2 if self.shared <= _HALF and sums <= (96 if self.consumers == 128 else 32) else 1

    def sizes(self, m: int, n: int) -> tuple[int, int]:
        """Tiles of clusters, down and across."""
        return ceil(m / (self.rows * self.down)), ceil(n / (self.columns * self.across))

    def clusters(self, m: int, n: int) -> int:
        """Clusters that are launched; each computes tile after tile."""
        down, across = self.sizes(m, n)
        return min(down * across, _AT_ONCE[self.cluster] * self.resident)

    def grid(self, m: int, n: int) -> int:
        return self.clusters(m, n) * self.cluster

    def seconds(self, m: int, n: int, k: int) -> float:
        """Expected time; k in stages."""
        down, across = self.sizes(m, n)
        waves = ceil(down * across / self.clusters(m, n))
        # What several blocks of a cluster read costs hardly less than what each reads for itself; rows that are shorter
        # cost no less.
        moved = (self.rows * (3 + 1 / self.across) + self.columns * (3 + 1 / self.down)) / 4 * 2 * DEPTH
        busy = min(self.resident, max(1.0, self.grid(m, n) / _AT_ONCE[1]))
        near = (m + n) * k * self.row_bytes < _NEAR
        rate = _NEAR_BYTES if near else _FAR_BYTES
        products = self.rows * self.columns * self.row_bytes / _OPERATIONS
        each = max(products * busy, moved / rate * busy, _LATENCY / self.stages) * (1 + 0.01 * self.cluster)
        finish = 300 + 15 * self.columns * self.heights
        hidden = finish if self.teams == 2 else 0
        return (3000 + finish + waves * (k * each + finish - hidden)) / (_FEW_HERTZ if near else _MANY_HERTZ)


def tiles(m: int, n: int, k: int, whole_rows: bool = False) -> list[Tile]:
    """Those that are worth trying, the most promising first; k in stages. whole_rows: a cluster has all columns."""
    found = [tile for tile in every(Tile) if fits(tile, m, n) and (not whole_rows or tile.across * tile.columns == n)]
    return best(found, m, n, k)


def best(found: list[T], m: int, n: int, k: int) -> list[T]:
    """The most promising first, few of each shape."""
    found.sort(key=lambda tile: tile.seconds(m, n, k))
    shapes: dict[tuple[int, int, int], int] = {}
    kept = list[T]()
    for tile in found:
        shape = (tile.rows, tile.columns, tile.teams)
        shapes[shape] = shapes.get(shape, 0) + 1
        if shapes[shape] <= _ALIKE:
            kept.append(tile)
    return kept[: _MOST if not kept or kept[0].seconds(m, n, k) < _LONG_SECONDS else _MOST_OF_LONG]


def every(make: Callable[..., T]) -> list[T]:
    """All that fit a multiprocessor; make: of six numbers."""
    made = list[T]()
    for rows, teams in ((64, 1), (128, 1), (256, 1), (64, 2), (128, 2)):
        for columns in _COLUMNS:
            for down, across in _CLUSTERS:
                made += _staged(make, rows, columns, down, across, teams)
    return made


def _staged(make: Callable[..., T], rows: int, columns: int, down: int, across: int, teams: int) -> list[T]:
    """With as many stages as fit one block to a multiprocessor, and two."""
    bare = make(rows, columns, down, across, teams, 0)
    if bare.heights * columns > 256 or rows // across % 8 or columns // down % 8:
        return []
    made = list[T]()
    for blocks, memory in ((1, _SHARED), (2, _HALF)):
        stages = min(_MOST_STAGES, (memory - bare.shared) // bare.stage_bytes)
        tile = make(rows, columns, down, across, teams, stages)
        if stages >= _FEWEST_STAGES and tile.resident == blocks:
            made.append(tile)
    return made


def fits(tile: Tile, m: int, n: int) -> bool:
    """Whether little of it would be outside of the product, and there are tiles for all teams and blocks."""
    down, across = tile.sizes(m, n)
    one = tile.rows == 64 and tile.cluster == 1
    alternates = tile.teams == 1 or down * across > tile.clusters(m, n)
    beside = tile.resident == 1 or tile.grid(m, n) > _AT_ONCE[1]
    return alternates and beside and (one or m * n * 1.5 >= down * across * tile.cluster * tile.rows * tile.columns)
