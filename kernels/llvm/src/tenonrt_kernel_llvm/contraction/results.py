"""Several filters computed as one: whose blocks of output channels a tile holds, and where each is stored.

The blocks of all filters are counted through, each filter beginning a new one. A tile may end one filter and begin the
next, so the code that stores it depends on the tile's group of blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tenonrt_kernel_llvm.contraction.epilogue import Epilogue
from tenonrt_kernel_llvm.emitter import Function, Value
from tenonrt_kernel_llvm.target import BLOCK


@dataclass(frozen=True)
class Result:
    """The output of one filter: blocks first to first + blocks - 1 of all. channels: of them, the rest is padding."""

    epilogue: Epilogue
    channels: int
    first: int = 0

    @property
    def blocks(self) -> int:
        return -(-self.channels // BLOCK)

    @property
    def lanes(self) -> int:
        """Channels of the last block."""
        return self.channels - (self.blocks - 1) * BLOCK


@dataclass(frozen=True)
class Piece:
    """What a tile holds of one result: ``count`` blocks from ``start`` on, the last of which has ``lanes`` channels."""

    result: Result
    start: int
    count: int
    lanes: int

    def of(self, sums: Sequence[Value], blocks: int) -> list[Value]:
        """Its own of a tile's sums, which are ordered by pixel and block."""
        return [s for index, s in enumerate(sums) if self.start <= index % blocks < self.start + self.count]


def results_of(epilogues: Sequence[tuple[Epilogue, int]]) -> list[Result]:
    """(epilogue, channels) of every filter, in order."""
    found, first = list[Result](), 0
    for epilogue, channels in epilogues:
        found.append(Result(epilogue, channels, first))
        first += found[-1].blocks
    return found


def total_blocks(channels: Sequence[int]) -> int:
    """Blocks of filters with so many channels each."""
    return sum(-(-count // BLOCK) for count in channels)


def pieces(results: Sequence[Result], blocks: int, group: int) -> tuple[Piece, ...]:
    """What the tiles of a group hold; blocks past the last result are nobody's."""
    found, start, stop = [], group * blocks, (group + 1) * blocks
    for result in results:
        first, last = max(start, result.first), min(stop, result.first + result.blocks)
        if first < last:
            lanes = result.lanes if last == result.first + result.blocks else BLOCK
            found.append(Piece(result, first - start, last - first, lanes))
    return tuple(found)


def store_pieces(
    fn: Function, results: Sequence[Result], blocks: int, group: Value, write: Callable[[Piece], None]
) -> None:
    """``write`` for every piece of a group's tile; groups that hold the same share their code."""
    count = -(-(results[-1].first + results[-1].blocks) // blocks)
    runs: list[tuple[int, tuple[Piece, ...]]] = []  # the first group after a run of equal ones, and what they hold
    for number in range(count):
        held = pieces(results, blocks, number)
        if runs and runs[-1][1] == held:
            runs.pop()
        runs.append((number + 1, held))

    def choose(low: int, high: int) -> None:
        """By halves, so that many filters cost few comparisons."""
        if high - low == 1:
            for piece in runs[low][1]:
                write(piece)
            return
        middle = (low + high) // 2
        before = fn.compare("slt", group, runs[middle - 1][0])
        fn.when(before, lambda: choose(low, middle), lambda: choose(middle, high))

    choose(0, len(runs))
