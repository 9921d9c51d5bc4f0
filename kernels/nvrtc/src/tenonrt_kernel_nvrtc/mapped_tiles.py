"""Tiles of products whose operands are copied by tensor maps, and how long they are expected to take.

Blocks of a cluster share what they copy: those beside each other have the same rows, those below each other the same
columns. The rates are those of one H200 for each multiprocessor; they rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

DEPTH = 64  # elements of k in a stage: 128 bytes, a row of the swizzle
_SHARED = 227 << 10
_BARRIERS = 1024  # bytes for barriers, and what aligning to 1024 takes
_HALF = 112 << 10  # of two blocks on a multiprocessor
_FEWEST_STAGES, _MOST_STAGES = 3, 12
_COLUMNS = (64, 96, 128, 160, 192, 256)
# Clusters of so many blocks that run at once: those of a cluster are in one group of multiprocessors, and few of the
# groups are multiples of four.
_AT_ONCE = {1: 132, 2: 66, 4: 30, 8: 14}
_CLUSTERS = ((1, 1), (2, 1), (1, 2), (4, 1), (2, 2), (1, 4), (4, 2), (2, 4), (1, 8))
# Tiles that are tried, and how many of one shape, which differ in their clusters and stages.
_MOST, _ALIKE = 16, 2


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
    def parsed(cls, key: str) -> Tile:
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
    def stage_bytes(self) -> int:
        return (self.rows + self.columns) * 2 * DEPTH

    @property
    def statistics_bytes(self) -> int:
        """For normalized rows: of each, in each block across, the mean and the squares, twice for each team."""
        return 16 * self.rows * self.across * self.teams

    @property
    def shared(self) -> int:
        return self.stages * self.stage_bytes + 2 * _BARRIERS + self.statistics_bytes

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
        moved = (self.rows / self.across + self.columns / self.down) * 2 * DEPTH
        busy = min(self.resident, max(1.0, self.grid(m, n) / _AT_ONCE[1]))
        each = max(self.rows * self.columns * DEPTH * 2 / 6e12, moved / 75e9, 6e-8) * busy
        finish = self.rows * self.columns * 5e-11
        hidden = finish if self.teams == 2 else 0.0
        return 3e-6 + finish + waves * (k * each + (finish - hidden)) + 2e-7 * self.cluster


def tiles(m: int, n: int, k: int, whole_rows: bool = False) -> list[Tile]:
    """Those that are worth trying, the most promising first; k in stages. whole_rows: a cluster has all columns."""
    found = [tile for tile in _all() if _fits(tile, m, n) and (not whole_rows or tile.across * tile.columns == n)]
    found.sort(key=lambda tile: tile.seconds(m, n, k))
    shapes: dict[tuple[int, int, int, int], int] = {}
    kept = list[Tile]()
    for tile in found:
        shape = (tile.rows, tile.columns, tile.teams, tile.resident)
        shapes[shape] = shapes.get(shape, 0) + 1
        if shapes[shape] <= _ALIKE:
            kept.append(tile)
    return kept[:_MOST]


def _all() -> list[Tile]:
    made = list[Tile]()
    for rows, teams in ((64, 1), (128, 1), (256, 1), (64, 2), (128, 2)):
        for columns in _COLUMNS:
            for down, across in _CLUSTERS:
                made += _staged(rows, columns, down, across, teams)
    return made


def _staged(rows: int, columns: int, down: int, across: int, teams: int) -> list[Tile]:
    """With as many stages as fit one block to a multiprocessor, and two."""
    bare = Tile(rows, columns, down, across, teams, 0)
    if bare.heights * columns > 256 or rows // across % 8 or columns // down % 8:
        return []
    found = {min(_MOST_STAGES, (memory - bare.shared) // bare.stage_bytes) for memory in (_SHARED, _HALF)}
    return [Tile(rows, columns, down, across, teams, stages) for stages in found if stages >= _FEWEST_STAGES]


def _fits(tile: Tile, m: int, n: int) -> bool:
    """Whether little of it would be outside of the product."""
    down, across = tile.sizes(m, n)
    one = tile.rows == 64 and tile.cluster == 1
    alternates = tile.teams == 1 or down * across > tile.clusters(m, n)
    return alternates and (one or m * n * 1.5 >= down * across * tile.cluster * tile.rows * tile.columns)
