"""Register tiles: how many pixels by how many blocks of 16 channels, and how a row of pixels is divided into them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tenonrt_kernel_llvm.target import BLOCK, Target


@dataclass(frozen=True)
class Tile:
    """At most ``width`` pixels by ``blocks`` blocks of output channels, accumulated in registers."""

    width: int
    blocks: int


def tiles_for(target: Target, blocks: int) -> Iterator[Tile]:
    """The largest tile for every number of blocks up to ``blocks``: accumulators, weights and one input fit.

    Tiles of few pixels spend their time loading weights and are left out where wider ones exist.
    """
    each = target.registers_per_block
    for count in range(1, min(blocks, 4) + 1):
        width = (target.registers - 1 - count * each) // (count * each)
        if width >= 2 or count == 1:
            yield Tile(max(width, 1), count)


def narrow_lanes(target: Target, outputs: int) -> int:
    """Lanes that the last block of ``outputs`` channels needs: whole registers, but no more of them."""
    rest = outputs % BLOCK or BLOCK
    return -(-rest // target.lanes) * target.lanes


def narrow_tile(target: Target, outputs: int) -> Tile | None:
    """A tile of all output channels, where the last block needs fewer registers than others; None: it does not fit."""
    blocks, last = -(-outputs // BLOCK), narrow_lanes(target, outputs)
    each = ((blocks - 1) * BLOCK + last) // target.lanes
    width = (target.registers - 1 - each) // each
    return Tile(width, blocks) if last < BLOCK and width >= 2 else None


@dataclass(frozen=True)
class Run:
    """``count`` tiles of one width behind each other; taps: per column of the window the pixels that have it.

    taps None: every pixel has every tap, so the columns of the window can be looped over.
    """

    first: int  # number of the first tile
    count: int
    start: int  # its first pixel
    width: int
    taps: tuple[tuple[int, ...], ...] | None = None


def divide(pixels: int, width: int) -> list[tuple[int, int]]:
    """(count, width) of tiles as even as can be: two widths that differ by one cost less than a narrow rest."""
    tiles = -(-pixels // width)
    narrow, wide = pixels // tiles, pixels % tiles
    return [(count, size) for count, size in ((wide, narrow + 1), (tiles - wide, narrow)) if count]


def runs_of(pixels: int, width: int) -> list[Run]:
    """The runs of a row without padding."""
    runs, first, start = list[Run](), 0, 0
    for count, size in divide(pixels, width):
        runs.append(Run(first, count, start, size))
        first, start = first + count, start + count * size
    return runs


def padded_runs(pixels: int, width: int, taps: Sequence[tuple[int, int]]) -> list[Run]:
    """The runs of a row whose ends reach into padding: ``taps`` has, per column of the window, the pixels [a, b) that
    find it inside the image. Tiles at the ends stand alone with their taps, those between are looped over."""
    inside = (max(a for a, _ in taps), min(b for _, b in taps))
    runs, number, start = list[Run](), 0, 0
    for count, size in divide(pixels, width):
        for _ in range(count):
            whole = inside[0] <= start and start + size <= inside[1]
            if whole and runs and runs[-1].taps is None and runs[-1].width == size:
                runs[-1] = Run(runs[-1].first, runs[-1].count + 1, runs[-1].start, size)
            else:
                found = tuple(tuple(p for p in range(size) if a <= start + p < b) for a, b in taps)
                runs.append(Run(number, 1, start, size, None if whole else found))
            number, start = number + 1, start + size
    return runs
