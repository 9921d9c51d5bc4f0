"""How the units of a recurrent layer are divided among the blocks of a cluster, and how long its steps should take.

Recurrent weights stay in registers where a cluster has room for all of them.
Rates are those of one H200; they rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Self

from tenonrt_kernel_nvrtc.recurrent.problem import Recurrence

GROUP = 8  # units of a pair of warps: its rows are their four gates
HALVES = 2  # warps that share the products of a group, each half of k
DEPTH = 32  # elements of k that are read from shared memory at once
_FILE, _MOST_REGISTERS, _BESIDE = 65536, 255, 44  # registers of a multiprocessor, of a thread, beside those
_SHARED = 227 << 10
_MOST_THREADS = 15 * 32 * HALVES  # a pair of warps has one of 16 barriers, and the first is that of all threads
_MOST_STREAMING = 768  # threads, which have 80 registers each
_SEQUENCES, _MOST_COLUMNS = (8, 16, 24, 32), 4
# Clusters of so many blocks that run at once: those of a cluster are in one group of multiprocessors.
AT_ONCE = {1: 132, 2: 66, 4: 30, 8: 15, 16: 7}
# Cycles: of functions, of what pairs of warps leave each other and of telling blocks, for each eight sequences; of a
# product of 16 by 8 by 16; until other blocks hear something. Bytes a cycle that a block hears, and that it reads of
# streamed weights.
_CELL, _MULTIPLY, _LATENCY, _BYTES, _STREAMED, _HERTZ = 745, 6.25, 190, 10.6, 45, 1.95e9
_BEGIN_SECONDS = 5e-6  # weights into registers
_BEHIND = 3  # steps that a layer of a stack is behind the one before
_MOST = 3


@dataclass(frozen=True)
class Tile:
    """A cluster of ``blocks`` has ``sequences`` of the batch, each block ``units`` of the hidden state.

    streamed: weights are read in every step, from the second-level cache, for registers have no room for them.
    """

    blocks: int
    units: int
    sequences: int
    streamed: bool = False

    @classmethod
    def parsed(cls, key: str) -> Self:
        blocks, units, sequences = (int(text) for text in key.rstrip("s").split("x"))
        return cls(blocks, units, sequences, key.endswith("s"))

    @property
    def key(self) -> str:
        return f"{self.blocks}x{self.units}x{self.sequences}{'s' if self.streamed else ''}"

    @property
    def all_units(self) -> int:
        return self.blocks * self.units

    @property
    def depth(self) -> int:
        """Elements of k, padded so that each of two warps has whole reads."""
        whole = HALVES * (16 * self.ahead if self.streamed else DEPTH)
        return ceil(self.all_units / whole) * whole

    @property
    def ahead(self) -> int:
        """Steps of 16 of k whose weights are read at once where they are streamed, before the last ones are used."""
        return 4 if self.threads <= 448 else 2

    @property
    def threads(self) -> int:
        return 32 * HALVES * self.units // GROUP

    @property
    def columns(self) -> int:
        """Of eight sequences, the last perhaps of fewer."""
        return ceil(self.sequences / 8)

    @property
    def piece_bytes(self) -> int:
        """Of eight elements of k of all sequences, the operands of a product behind each other."""
        return 128 * self.columns

    @property
    def state_bytes(self) -> int:
        """Of the hidden states before a step."""
        return self.depth // 8 * self.piece_bytes

    @property
    def exchange_bytes(self) -> int:
        """Where pairs of warps leave half of their sums for each other."""
        return self.threads * 16 * self.columns

    @property
    def shared(self) -> int:
        return 2 * self.state_bytes + self.exchange_bytes + 16 * self.columns

    @property
    def registers(self) -> int:
        """Of a thread, for weights that stay, for sums, and for states and what is read of each eight sequences."""
        return self.depth // 4 + 24 + 8 * self.columns

    @property
    def fits(self) -> bool:
        """Streamed weights would be read for each eight sequences, so that there are no more of them."""
        if self.streamed:
            return self.threads <= _MOST_STREAMING and self.columns == 1
        limit = min(_MOST_REGISTERS, _FILE // self.threads // 8 * 8)
        return self.threads <= _MOST_THREADS and self.registers + _BESIDE <= limit and self.shared <= _SHARED

    def clusters(self, r: Recurrence, layers: int = 1) -> int:
        """Of a direction each; of a stack a layer has one, and what is between two."""
        return ceil(r.sequences / self.sequences) * r.directions * (2 * layers - 1)

    def seconds(self, r: Recurrence, layers: int = 1) -> float:
        """Of all steps: those of a column wait for each other, columns are computed one after the other, and what
        blocks hear of all of them takes its time.
        """
        products = max(self.depth / DEPTH / HALVES * 33, self.units / 16 * self.depth / 16 * _MULTIPLY)
        if self.streamed:
            products = max(products, 8 * self.units * self.depth / _STREAMED)
        rows = min(self.sequences, r.sequences)
        heard = 2 * rows * self.all_units / _BYTES if self.blocks > 1 else 0.0
        column = products + _CELL
        step = max(self.columns * column, column + _LATENCY + heard / self.columns, heard + _LATENCY / 2)
        turns = ceil(self.clusters(r, layers) / AT_ONCE[self.blocks])
        return _BEGIN_SECONDS + turns * (r.steps + _BEHIND * (layers - 1)) * step / _HERTZ


def tiles(r: Recurrence, layers: int = 1) -> list[Tile]:
    """Those that are worth trying, the most promising first: of those that keep their weights in registers, else of
    those that stream them; none where threads are too few for the units.

    Clusters of a stack wait for each other, so that all have to run at once.
    """
    found = _tiles(r, layers, streamed=False) or _tiles(r, layers, streamed=True)
    return sorted(found, key=lambda tile: (tile.seconds(r, layers), tile.key))[:_MOST]


def _tiles(r: Recurrence, layers: int, streamed: bool) -> list[Tile]:
    found = list[Tile]()
    for blocks, at_once in AT_ONCE.items():
        units = ceil(ceil(r.hidden / blocks) / GROUP) * GROUP
        if blocks // 2 * units >= r.hidden or not Tile(blocks, units, 1, streamed).fits:
            continue
        divided = {ceil(r.sequences / groups) for groups in range(1, at_once // (2 * layers - 1) // r.directions + 1)}
        several = {n for n in _SEQUENCES if n < r.sequences} if layers == 1 else set[int]()
        for sequences in divided | several:
            tile = Tile(blocks, units, sequences, streamed)
            if tile.columns <= _MOST_COLUMNS and tile.fits:
                found.append(tile)
    return found
