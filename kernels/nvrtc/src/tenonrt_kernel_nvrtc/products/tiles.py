"""Tiles of products on tensor cores, and how long they are expected to take.

The rates are those of one H200 (bytes from the second-level cache and operations for each multiprocessor); they rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from tenonrt_kernel_nvrtc.products.problem import Geometry

DEPTH = 64  # elements of k in a block: 128 bytes, a row of the swizzle
_ROWS, _COLUMNS, _SPLITS = (64, 128), (32, 64, 96, 128, 144, 192, 256), (1, 2, 4, 8)
_SHARED, _PROCESSORS = 227 << 10, 132
_BUDGET = 112_000  # of two blocks on a multiprocessor, which keeps a little for itself
_FEWEST_STAGES, _MOST_STAGES, _MOST_ALONE = 4, 8, 6
# Tiles that are tried; of products that take long, whose times depend less on what fits beside, fewer.
_MOST, _MOST_OF_LONG, _LONG_SECONDS = 12, 6, 3e-5


@dataclass(frozen=True)
class Tile:
    """A block of threads computes ``rows`` by ``columns``; ``split`` blocks share its k and add up in shared memory."""

    rows: int
    columns: int
    split: int

    @classmethod
    def parsed(cls, key: str) -> Tile:
        return cls(*(int(text) for text in key.split("x")))

    @property
    def key(self) -> str:
        return f"{self.rows}x{self.columns}x{self.split}"

    @property
    def threads(self) -> int:
        return 2 * self.rows

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
        return beside if beside >= _FEWEST_STAGES else min(_MOST_ALONE, (_SHARED - 1024) // self.stage_bytes)

    @property
    def shared(self) -> int:
        """Bytes, with what aligning to 1024 takes."""
        return max(self.stages * self.stage_bytes, 4 * self.rows * self.pitch) + 1024

    def grid(self, m: int, n: int) -> int:
        return ceil(m / self.rows) * ceil(n / self.columns) * self.split

    def seconds(self, m: int, n: int, blocks: int) -> float:
        """Expected time; ``blocks`` of k."""
        resident = max(1, min(_SHARED // self.shared, 65536 // (self.threads * (self.columns // 2 + 64))))
        count = self.grid(m, n)
        busy = min(resident, max(1.0, count / _PROCESSORS))
        waves = ceil(count / (_PROCESSORS * resident))
        each = max(self.rows * self.columns * DEPTH * 2 * busy / 5.5e12, self.stage_bytes * busy / 45e9, 1.2e-7)
        # What shares of k found is read from the shared memory of others at about 16 bytes a nanosecond.
        area = self.rows * self.columns
        adding = area * 2.5e-10 + self.split * 2e-7 if self.split > 1 else area * busy * 2e-11
        fixed = 2.2e-6 + adding
        return 1.5e-6 + waves * (fixed + ceil(blocks / self.split) * each)


def blocks_of(g: Geometry) -> int:
    """Blocks of k: the channels of all taps, one after the other."""
    return ceil(g.taps * g.channels / DEPTH)


def tiles(g: Geometry, n: int) -> list[Tile]:
    """Those that are worth trying, the most promising first."""
    blocks = blocks_of(g)
    found = [
        Tile(rows, columns, split)
        for rows in _ROWS
        for columns in _COLUMNS
        for split in _SPLITS
        if (rows == 64 or g.m > 64) and columns < n + 32 and (split == 1 or blocks >= 2 * split)
    ]
    found.sort(key=lambda tile: tile.seconds(g.m, n, blocks))
    return found[: _MOST if found[0].seconds(g.m, n, blocks) < _LONG_SECONDS else _MOST_OF_LONG]
