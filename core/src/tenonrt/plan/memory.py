"""Where tensors live: lifetimes decide which may share bytes of the arena.

Greedy: one tensor after another, each at the lowest gap among the placed tensors that are alive with it. The largest
come first (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020); where that takes more
than the lower bound, other orders are searched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np

from tenonrt.errors import BuildError
from tenonrt.layout import ALIGNMENT
from tenonrt.types import Array

_MAX_BYTES = 2**60  # offsets are 64-bit integers
_PLACEMENTS = 20_000  # of one buffer each, that a search may cost: 0.3 s
_PATIENCE = 8  # attempts that need not help before the next that does


@dataclass(frozen=True)
class Lifetime:
    """A buffer that must exist from step ``first`` to step ``last``, both included."""

    nbytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Layout:
    """Offsets per buffer, the bytes they take together, and the least bytes any layout could take."""

    offsets: tuple[int, ...]
    nbytes: int
    lower_bound: int


def aligned(nbytes: int) -> int:
    """Rounded up to the alignment."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def plan_memory(buffers: Sequence[Lifetime]) -> Layout:
    """Offsets such that buffers alive at the same step never overlap.

    Several orders are tried, then the buffer that ends highest is placed first again and again, until the lower bound
    is reached, this no longer helps, or the search has cost enough.
    """
    return _planned(tuple(buffers))


@lru_cache(maxsize=64)  # trial programs of one network have the same tensors
def _planned(buffers: tuple[Lifetime, ...]) -> Layout:
    if (together := sum(buffer.nbytes for buffer in buffers)) > _MAX_BYTES:
        raise BuildError(f"the tensors of the network take {together} bytes, more than can be addressed")
    bound, best = lower_bound(buffers), None
    tries = max(1, _PLACEMENTS // max(1, len(buffers)))
    for order in islice(_orders(buffers), min(tries, len(_RANKS) + 1)):
        offsets, nbytes = _placed(buffers, order)
        if best is None or nbytes < best[1]:
            best = offsets, nbytes, order
        if nbytes <= bound:
            break
    assert best is not None
    offsets, nbytes, order = best
    vain = 0
    for _ in range(tries):
        if best[1] <= bound or vain > _PATIENCE:
            break
        top = max(range(len(buffers)), key=lambda i: (offsets[i] + aligned(buffers[i].nbytes), -i))
        order = [top, *(i for i in order if i != top)]
        offsets, nbytes = _placed(buffers, order)
        vain += 1
        if nbytes < best[1]:
            best, vain = (offsets, nbytes, order), 0
    return Layout(tuple(best[0]), best[1], bound)


_RANKS: tuple[Callable[[Lifetime], tuple[int, ...]], ...] = (
    lambda b: (-b.nbytes, b.first),
    lambda b: (-b.nbytes * (b.last - b.first + 1), b.first),
    lambda b: (b.first - b.last, -b.nbytes),
)


def _orders(buffers: Sequence[Lifetime]) -> Iterator[list[int]]:
    """The largest first, the largest by steps first, the longest lived first; the step where most is alive first."""
    for rank in _RANKS:
        yield sorted(range(len(buffers)), key=lambda i, rank=rank: (*rank(buffers[i]), i))  # type: ignore[misc]
    live: dict[int, int] = {}
    for step in {b.first for b in buffers}:
        live[step] = sum(aligned(b.nbytes) for b in buffers if b.first <= step <= b.last)
    busiest = sorted(live, key=lambda step: (-live[step], step))
    found: dict[int, None] = {}
    for step in busiest:
        here = [i for i, b in enumerate(buffers) if b.first <= step <= b.last]
        found.update(dict.fromkeys(sorted(here, key=lambda i: (-buffers[i].nbytes, i))))
    yield list(found)


def _placed(buffers: Sequence[Lifetime], order: Sequence[int]) -> tuple[list[int], int]:
    """Each buffer in turn at the lowest gap among those that are alive with it; the bytes they take together."""
    count = len(buffers)
    offsets = [0] * count
    first, last = np.zeros(count, np.int64), np.zeros(count, np.int64)
    starts, ends = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for placed, index in enumerate(order):
        buffer, size = buffers[index], aligned(buffers[index].nbytes)
        alive = np.nonzero((first[:placed] <= buffer.last) & (last[:placed] >= buffer.first))[0]
        offset = _lowest_gap(starts[alive], ends[alive], size)
        offsets[index] = offset
        first[placed], last[placed] = buffer.first, buffer.last
        starts[placed], ends[placed] = offset, offset + size
    return offsets, int(ends.max(initial=0))


def _lowest_gap(starts: Array, ends: Array, size: int) -> int:
    """The lowest offset with ``size`` free bytes among intervals, which may touch and nest."""
    order = np.argsort(starts, kind="stable")
    # Where the space before each interval begins: the largest end of those that start before it.
    free = np.concatenate(([0], np.maximum.accumulate(ends[order])))
    wide = np.nonzero(starts[order] - free[:-1] >= size)[0]
    return int(free[wide[0]] if wide.size else free[-1])


def lower_bound(buffers: Sequence[Lifetime]) -> int:
    """The largest sum of simultaneously live buffers."""
    changes: dict[int, int] = {}
    for buffer in buffers:
        size = aligned(buffer.nbytes)
        changes[buffer.first] = changes.get(buffer.first, 0) + size
        changes[buffer.last + 1] = changes.get(buffer.last + 1, 0) - size
    live = largest = 0
    for step in sorted(changes):
        live += changes[step]
        largest = max(largest, live)
    return largest
