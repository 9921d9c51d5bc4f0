"""Suppression of boxes by better ones that they overlap: candidates sorted by score, then one after another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tenonrt_kernel_llvm import mathematics as m
from tenonrt_kernel_llvm.accumulation import accumulation, combine_lanes
from tenonrt_kernel_llvm.emitter import FLOAT, I1, I64, Function, Value, vector
from tenonrt_kernel_llvm.sorting import KEY, key_of, place_of, sort
from tenonrt_kernel_llvm.target import BLOCK

MAX_SCRATCH = 1 << 24  # bytes of each thread
_FIELDS = 5  # of a box that is kept: its corners and its area


@dataclass(frozen=True)
class Candidates:
    """What is known of a box by its place: its score, whether it takes part with that score, its corners."""

    score: Callable[[Value], Value]
    takes_part: Callable[[Value, Value], Value]
    corners: Callable[[Value], Sequence[Value]]


@dataclass(frozen=True)
class Suppression:
    """count: boxes there are. top: the most that are looked at, the best. most: that stay, no more than top."""

    count: int
    top: int
    threshold: float
    most: int | None = None
    border: float = 0.0

    @property
    def _padded(self) -> int:
        """Boxes that stay, in whole vectors."""
        return -(-(self.top if self.most is None else self.most) // BLOCK) * BLOCK

    @property
    def scratch(self) -> int:
        """Two sets of keys, and the boxes that stay."""
        return 2 * KEY * self.count + 4 * _FIELDS * self._padded

    def emit(self, fn: Function, scratch: Value, candidates: Candidates, keep: Callable[[Value, Value], None]) -> Value:
        """``keep(key, number)`` for the boxes that stay, the best first: how many they are."""
        found = self._collected(fn, scratch, candidates)
        ordered = sort(fn, scratch, fn.offset(scratch, KEY * self.count), found, self.count)
        kept = Kept(fn, fn.offset(scratch, 2 * KEY * self.count), self._padded, self.border)
        kept.clear()

        def candidate(index: Value, carried: list[Value]) -> Sequence[Value]:
            key = fn.load(I64, ordered, index * KEY, 8)
            box = candidates.corners(place_of(fn, key))
            goes = fn.compare("ogt", kept.largest_overlap(box, carried[0]), self.threshold)
            if self.most is not None:
                full = fn.compare("sge", carried[0], self.most)
                goes = fn.emit(I1, f"or i1 {goes.text}, {full.text}")

            def stays() -> Sequence[Value]:
                kept.add(box, carried[0])
                keep(key, carried[0])
                return [carried[0] + 1]

            return fn.when(goes, lambda: [carried[0]], stays)

        return fn.loop(0, fn.minimum(found, self.top), candidate, [fn.constant(I64, 0)])[0]

    def _collected(self, fn: Function, keys: Value, candidates: Candidates) -> Value:
        """Keys of the boxes that take part: how many."""

        def one(place: Value, carried: list[Value]) -> Sequence[Value]:
            score = candidates.score(place)
            fn.store(key_of(fn, score, place), keys, carried[0] * KEY, 8)  # the next one overwrites what has no part
            return [carried[0] + fn.convert("zext", candidates.takes_part(place, score), I64)]

        return fn.loop(0, self.count, one, [fn.constant(I64, 0)])[0]


class Kept:
    """Boxes that stay, as vectors of each corner and of areas; places that are not taken share nothing with any box.

    border: 1 where corners count as pixels.
    """

    def __init__(self, fn: Function, memory: Value, padded: int, border: float) -> None:
        self.fn, self.padded, self.border = fn, padded, border
        self.fields = [fn.offset(memory, 4 * padded * k) for k in range(_FIELDS)]

    def clear(self) -> None:
        fn = self.fn
        nowhere = [fn.constant(vector(BLOCK), value) for value in (math.inf, math.inf, -math.inf, -math.inf, 0.0)]

        def block(index: Value, _: list[Value]) -> Sequence[Value]:
            for field, value in zip(self.fields, nowhere, strict=True):
                fn.store(value, field, index * (4 * BLOCK))
            return ()

        fn.loop(0, self.padded // BLOCK, block)

    def add(self, box: Sequence[Value], number: Value) -> None:
        for field, value in zip(self.fields, [*box, self._area(box)], strict=True):
            self.fn.store(value, field, number * 4)

    def largest_overlap(self, box: Sequence[Value], count: Value) -> Value:
        """The largest intersection over union of a box with those that stay; 0 with none."""
        fn, type = self.fn, vector(BLOCK)
        left, top, right, bottom, area = (fn.splat(value, BLOCK) for value in (*box, self._area(box)))
        zero = fn.zero(type)

        def block(index: Value, carried: list[Value]) -> Sequence[Value]:
            x1, y1, x2, y2, areas = (fn.load(type, field, index * (4 * BLOCK)) for field in self.fields)
            wide = self._side(m.maximum(fn, left, x1), m.minimum(fn, right, x2))
            high = self._side(m.maximum(fn, top, y1), m.minimum(fn, bottom, y2))
            shared = m.maximum(fn, wide, zero) * m.maximum(fn, high, zero)
            found = shared / (area + areas - shared)
            return [m.maximum(fn, carried[0], fn.select(fn.compare("ogt", shared, 0.0), found, zero))]

        best = fn.loop(0, (count + (BLOCK - 1)) // BLOCK, block, [zero])[0]
        return combine_lanes(fn, accumulation(fn, "max"), best)

    def _area(self, box: Sequence[Value]) -> Value:
        """Zero of boxes turned inside out."""
        fn = self.fn
        wide, high = (self._side(box[k], box[k + 2]) for k in (0, 1))
        turned = fn.binary("or", fn.compare("olt", wide, 0.0), fn.compare("olt", high, 0.0))
        return fn.select(turned, fn.constant(FLOAT, 0.0), wide * high)

    def _side(self, low: Value, high: Value) -> Value:
        return high - low + self.border if self.border else high - low
