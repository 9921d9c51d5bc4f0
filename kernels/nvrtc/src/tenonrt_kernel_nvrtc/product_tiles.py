"""Tiles of products on tensor cores, and how long they are expected to take.

The rates are those of one H200 (bytes from the second-level cache and operations for each multiprocessor); they rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from tenonrt_kernel_nvrtc.product_problem import Geometry

DEPTH = 64  # elements of k in a block: 128 bytes, a row of the swizzle
_ROWS, _COLUMNS = (64, 128), (32, 48, 64, 96, 128, 144, 192, 256)
# Blocks of a cluster that share k, and blocks that share the weights.
_SHARES = ((1, 1), (2, 1), (4, 1), (8, 1), (1, 2), (1, 4))
_SHARED, _PROCESSORS = 227 << 10, 132
_BUDGET = 112_000  # of two blocks on a multiprocessor, which keeps a little for itself
_FEWEST_STAGES, _MOST_STAGES, _MOST_ALONE = 4, 8, 6
_COPYING = 32  # threads that copy weights
_MOST = 14


@dataclass(frozen=True)
class Tile:
    """A block of threads computes ``rows`` by ``columns``.

    ``split`` blocks of a cluster share its k and add up in shared memory; or ``mates`` with other rows share weights.
    """

    rows: int
    columns: int
    split: int
    mates: int

    @classmethod
    def parsed(cls, key: str) -> Tile:
        return cls(*(int(text) for text in key.split("x")))

    @property
    def key(self) -> str:
        return f"{self.rows}x{self.columns}x{self.split}x{self.mates}"

    @property
    def working(self) -> int:
        """Threads that multiply: a warpgroup for 64 rows."""
        return 2 * self.rows

    @property
    def threads(self) -> int:
        return self.working + _COPYING

    @property
    def stage_bytes(self) -> int:
        return (self.rows + self.columns) * 2 * DEPTH

    @property
    def pitch(self) -> int:
        """Elements from a row to the next of the sums in shared memory: stores of a half warp meet all banks once."""
        return self.columns + 8

    @property
    def stages(self) -> int:
        beside = min(_MOST_STAGES, _BUDGET // self.stage_bytes)
        return beside if beside >= _FEWEST_STAGES else min(_MOST_ALONE, (_SHARED - 2048) // self.stage_bytes)

    @property
    def tiles_bytes(self) -> int:
        """What stages and then sums take."""
        return max(self.stages * self.stage_bytes, 4 * self.rows * self.pitch)

    @property
    def shared(self) -> int:
        """Bytes, with two barriers a stage and what aligning to 1024 takes."""
        return self.tiles_bytes + 16 * self.stages + 1024

    def grid(self, m: int, n: int) -> int:
        return ceil(ceil(m / self.rows) / self.mates) * self.mates * ceil(n / self.columns) * self.split

    def seconds(self, m: int, n: int, blocks: int) -> float:
        """Expected time; ``blocks`` of k."""
        resident = max(1, min(_SHARED // self.shared, 65536 // (self.threads * (self.columns // 2 + 64))))
        count = self.grid(m, n)
        busy = min(resident, max(1.0, count / _PROCESSORS))
        waves = ceil(count / (_PROCESSORS * resident))
        moved = 2 * DEPTH * (self.rows + self.columns / self.mates)
        each = max(self.rows * self.columns * DEPTH * 2 * busy / 5.5e12, moved * busy / 45e9, 1.2e-7)
        fixed = 2.2e-6 + (8e-7 if self.split * self.mates > 1 else 0.0)
        fixed += self.rows * self.columns * busy / self.split * 2e-11
        return 1.5e-6 + waves * (fixed + ceil(blocks / self.split) * each)


def blocks_of(g: Geometry) -> int:
    """Blocks of k: channels of each tap, padded."""
    return g.taps * ceil(g.channels / DEPTH)


def tiles(g: Geometry, n: int) -> list[Tile]:
    """Those that are worth trying, the most promising first."""
    blocks = blocks_of(g)
    found = [
        Tile(rows, columns, split, mates)
        for rows in _ROWS
        for columns in _COLUMNS
        for split, mates in _SHARES
        if (rows == 64 or g.m > 64) and columns < n + 32 and (split == 1 or blocks >= 2 * split)
        if mates == 1 or (columns % (8 * mates) == 0 and g.m > rows * (mates - 1) and blocks > 2)
    ]
    return sorted(found, key=lambda tile: tile.seconds(g.m, n, blocks))[:_MOST]
