"""Which steps may run side by side: those that neither need each other's results nor use each other's memory.

Branches of a network (the convolutions of an Inception block, queries, keys and values of attention) leave most of a
GPU idle at a small batch when they run one after the other. Steps are put on lanes, each a stream while a graph is
captured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tenonrt.contracts import Launch


@dataclass(frozen=True)
class Extent:
    """Bytes of an array: from ``start``, ``width`` of every ``pitch`` up to ``end``; one run where they are equal."""

    start: int
    end: int
    pitch: int
    width: int

    @classmethod
    def of(cls, address: int, shape: Sequence[int], strides: Sequence[int], itemsize: int) -> Extent:
        if 0 in shape:
            return cls(address, address, 1, 1)
        end = address + sum((size - 1) * abs(stride) for size, stride in zip(shape, strides, strict=True)) + itemsize
        width, axis = itemsize, len(shape)
        while axis and (shape[axis - 1] == 1 or strides[axis - 1] == width):
            axis -= 1
            width *= shape[axis]
        pitch = strides[axis - 1] if axis else width
        rest = prod(shape[:axis])
        even = axis == 0 or end == address + (rest - 1) * pitch + width
        return cls(
            address, end, pitch if even and pitch > 0 else end - address, width if even and pitch > 0 else end - address
        )

    def meets(self, other: Extent) -> bool:
        """Whether a byte may belong to both."""
        if self.start >= other.end or other.start >= self.end:
            return False
        if self.pitch != other.pitch:
            return True
        apart = (self.start - other.start) % self.pitch
        return apart < other.width or apart + self.width > self.pitch


def extent(array: Any) -> Extent:
    """That of a CuPy array."""
    return Extent.of(array.data.ptr, array.shape, array.strides, array.itemsize)


@dataclass(frozen=True)
class Place:
    """Where a step goes: its lane, and the earlier steps on other lanes that it waits for."""

    lane: int
    waits: tuple[int, ...]


def conflicts(reads: Sequence[Sequence[Extent]], writes: Sequence[Sequence[Extent]]) -> list[list[int]]:
    """For each step the earlier ones that must have ended: they write what it touches, or read what it writes."""

    def meet(some: Sequence[Extent], others: Sequence[Extent]) -> bool:
        return any(a.meets(b) for a in some for b in others)

    return [
        [i for i in range(j) if meet(writes[i], reads[j]) or meet(writes[i], writes[j]) or meet(reads[i], writes[j])]
        for j in range(len(reads))
    ]


def places(needs: Sequence[Sequence[int]], lanes: int) -> list[Place]:
    """Each step after one that it needs where that is the last of its lane, else on a lane that is done, else anew."""
    behind: list[int] = []  # bits of all steps before each, itself included
    last: list[int] = []  # of each lane
    found: list[Place] = []
    for step, needed in enumerate(needs):
        before = 0
        for i in needed:
            before |= behind[i]
        lane = _lane(needed, last, before, lanes)
        if lane == len(last):
            last.append(step)
            previous = 0
        else:
            previous = behind[last[lane]]
            last[lane] = step
        waits, known = [], previous
        for i in sorted(needed, reverse=True):
            if not known >> i & 1:
                waits.append(i)
                known |= behind[i]
        behind.append(before | previous | 1 << step)
        found.append(Place(lane, tuple(sorted(waits))))
    return found


def _lane(needed: Sequence[int], last: Sequence[int], before: int, lanes: int) -> int:
    continued = [lane for lane, step in enumerate(last) if step in needed]
    if continued:
        return max(continued, key=lambda lane: last[lane])
    done = [lane for lane, step in enumerate(last) if before >> step & 1]
    if done:
        return done[0]
    return len(last) if len(last) < lanes else min(range(len(last)), key=lambda lane: last[lane])


def side_by_side(launches: Sequence[Launch], lanes: int) -> list[Place]:
    """The places of steps by the memory that they touch. The workspace, which all share, is not asked about."""
    reads = [[extent(a) for a in launch.inputs] for launch in launches]
    writes = [[extent(a) for a in launch.outputs] for launch in launches]
    return places(conflicts(reads, writes), lanes)
