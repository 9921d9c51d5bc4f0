"""Where tensors live: lifetimes decide which may share bytes of the arena.

Greedy by size: the largest tensor first, each at the lowest gap among the placed tensors that are alive with it.
(Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tenonrt.errors import BuildError
from tenonrt.layout import ALIGNMENT
from tenonrt.types import Array

_MAX_BYTES = 2**60  # offsets are 64-bit integers


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
    """Offsets such that buffers alive at the same step never overlap."""
    count = len(buffers)
    if (together := sum(buffer.nbytes for buffer in buffers)) > _MAX_BYTES:
        raise BuildError(f"the tensors of the network take {together} bytes, more than can be addressed")
    offsets = [0] * count
    first, last = np.zeros(count, np.int64), np.zeros(count, np.int64)
    starts, ends = np.zeros(count, np.int64), np.zeros(count, np.int64)
    order = sorted(range(count), key=lambda i: (-buffers[i].nbytes, buffers[i].first, i))
    for placed, index in enumerate(order):
        buffer, size = buffers[index], aligned(buffers[index].nbytes)
        alive = np.nonzero((first[:placed] <= buffer.last) & (last[:placed] >= buffer.first))[0]
        offset = _lowest_gap(starts[alive], ends[alive], size)
        offsets[index] = offset
        first[placed], last[placed] = buffer.first, buffer.last
        starts[placed], ends[placed] = offset, offset + size
    return Layout(tuple(offsets), int(ends.max(initial=0)), lower_bound(buffers))


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
