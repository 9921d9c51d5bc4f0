"""Tiles of products, and how long they are expected to take. The rates are rough ones of a Hopper GPU; they rank."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

_PROCESSORS, _SHARED, _REGISTERS = 132, 227 << 10, 1 << 16
_OPERATIONS, _BYTES = 5e12, 45e9  # a second, of one multiprocessor
_MOST = 3  # that are tried: compiling one takes up to seconds


@dataclass(frozen=True)
class Tile:
    """A program computes ``rows`` by ``columns``, ``depth`` elements of k at a time; ``stages`` are on their way."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int

    @classmethod
    def parsed(cls, key: str) -> Tile:
        return cls(*(int(text) for text in key.split("x")))

    @property
    def key(self) -> str:
        return f"{self.rows}x{self.columns}x{self.depth}x{self.warps}x{self.stages}"

    @property
    def shared(self) -> int:
        """Bytes of the stages; the machine code may want a little more."""
        return (self.rows + self.columns) * 2 * self.depth * self.stages

    def programs(self, m: int, n: int) -> int:
        return ceil(m / self.rows) * ceil(n / self.columns)

    def seconds(self, m: int, n: int, k: int) -> float:
        """Expected time of a product."""
        registers = 32 * self.warps * 64 + self.rows * self.columns
        resident = max(1, min(_SHARED // (self.shared + 1024), _REGISTERS // registers))
        count = self.programs(m, n)
        busy = min(resident, max(1.0, count / _PROCESSORS))
        waves = ceil(count / (_PROCESSORS * resident))
        # Fewer than 64 rows are multiplied by the instructions of older GPUs, at half of the rate.
        rate = _OPERATIONS if self.rows >= 64 else _OPERATIONS / 2
        moved = (self.rows + self.columns) * 2 * self.depth
        each = max(2 * self.rows * self.columns * self.depth * busy / rate, moved * busy / _BYTES, 2.5e-7)
        return 2e-6 + waves * (2e-6 + self.rows * self.columns * busy * 2e-11 + ceil(k / self.depth) * each)


_TILES = tuple(
    Tile(*sizes)
    for sizes in (
        (128, 256, 64, 8, 3), (128, 256, 64, 8, 4), (256, 128, 64, 8, 3), (128, 128, 64, 8, 4), (128, 64, 64, 4, 4),
        (64, 256, 64, 4, 4), (64, 128, 64, 4, 4), (64, 64, 64, 4, 5), (64, 64, 128, 4, 3),
        (64, 32, 128, 4, 4), (64, 32, 64, 4, 6), (32, 64, 128, 4, 4), (16, 64, 128, 4, 4), (16, 32, 256, 4, 4),
        (16, 128, 64, 4, 4), (16, 32, 64, 4, 6),
    )
)  # fmt: skip


def tiles(m: int, n: int, k: int) -> list[Tile]:
    """Those that are worth trying, the most promising first."""
    fitting = [t for t in _TILES if t.rows < 2 * max(m, 16) and t.columns < 2 * max(n, 32) and t.depth < 2 * max(k, 64)]
    return sorted(fitting, key=lambda tile: tile.seconds(m, n, k))[:_MOST]
