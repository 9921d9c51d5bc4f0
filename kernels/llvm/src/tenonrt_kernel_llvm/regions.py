"""Pooling of regions: the maxima or means of their parts (RoiPooling, PositionSensitiveRoiPooling), samples (RoiAlign).

A unit is one region in 16 channels, or in one where channels are planes. Coordinates are computed in float64, as what
they are rounded to hangs on their last bits. A region of no image fails the step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tenonrt.contracts import LINEAR, NCHW16C, Code, Dimension, Problem, Support, Tactic

from tenonrt_kernel_llvm.emitter import DOUBLE, FLOAT, I64, Function, Index, Value, vector
from tenonrt_kernel_llvm.indexing import address, empty, is_blocked, items_phase, known, plus, static_from, times
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.operations import BINARY
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.target import BLOCK, Target

_FAR = 1e9  # beyond every image; coordinates are cut off there before they become integers
_NO_IMAGE = 1  # status of a region of an image that is not there


class RegionKernel(LlvmKernel):
    """float32 features and regions that are both computed; any number of regions and images."""

    def supports(self, problem: Problem) -> Support:
        if len(problem.layers) != 1 or problem.layer.kind not in _WRITERS:
            return Support(False, f"pools regions, not {'+'.join(problem.kinds)}")
        if tuple(problem.activations) != tuple(problem.layer.inputs) or len(set(problem.layer.inputs)) != 2:
            return Support(False, "features and regions must both be computed")
        features = problem.types[problem.layer.inputs[0]]
        if features.dtype != "float32" or empty(*problem.types) or not static_from(features, 1):
            return Support(False, f"images of known size in float32, not {features}")
        return Support(True, runtime_symbols=runtime_symbols(problem))

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        planes = Tactic("planes", (LINEAR, LINEAR), (LINEAR,))
        if problem.layer.kind == "PositionSensitiveRoiPooling":  # each part reads channels of its own
            return (planes,)
        blocks = Tactic("blocks", (NCHW16C, LINEAR), (NCHW16C,), reads_strided=(0,), writes_strided=(0,))
        return (blocks, planes)

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        routine = Routine(problem, tactic, target)
        _WRITERS[problem.layer.kind](routine).emit()
        return routine.code()


@dataclass(frozen=True)
class Span:
    """Pixels [begin, end) of one side."""

    begin: Index
    end: Index


class _Regions(ABC):
    """Writes the loops over regions and their parts; subclasses what becomes of a part."""

    def __init__(self, routine: Routine) -> None:
        self.routine, self.fn = routine, routine.function
        self.features, self.regions = routine.inputs
        self.result = routine.outputs[0]
        self.attrs = routine.problem.layer.attrs
        self.vector = vector(BLOCK if is_blocked(self.features.type.format) else 1)
        self.height, self.width = (known(d) for d in self.features.type.shape[2:])
        self.rows, self.columns = (known(d) for d in self.result.type.shape[2:])

    def emit(self) -> None:
        channels: Dimension = self.result.type.physical_shape[1]
        work = self.rows * self.columns * 64
        items_phase(self.routine, [self.regions.type.shape[0], channels], work, self._region)

    def _region(self, at: list[Index]) -> None:
        fn, (number, channel) = self.fn, at
        given = fn.offset(self.regions.pointer, times(number, 20))
        image, *corners = (fn.convert("fpext", fn.load(FLOAT, given, 4 * k), DOUBLE) for k in range(5))
        place = integer(fn, image)
        self.routine.check(fn.compare("ult", place, self.features.shape[0]), _NO_IMAGE)
        plane = fn.offset(self.features.pointer, times(place, self.features.strides[0]))
        sides = self.sides(corners[1], corners[3], self.rows), self.sides(corners[0], corners[2], self.columns)

        def row(i: Value, _: list[Value]) -> Sequence[Value]:
            def column(j: Value, _: list[Value]) -> Sequence[Value]:
                source = fn.offset(plane, times(self.channel(channel, i, j), self.features.strides[1]))
                fn.store(self.part(source, sides, (i, j)), address(fn, self.result, [number, channel, i, j]))
                return ()

            fn.loop(0, self.columns, column)
            return ()

        fn.loop(0, self.rows, row)

    def channel(self, number: Index, i: Value, j: Value) -> Index:
        """The channel of the features, or the block of them, that a part reads."""
        return number

    def pixel(self, source: Value, y: Index, x: Index) -> Value:
        offset = plus(times(y, self.features.strides[2]), times(x, self.features.strides[3]))
        return self.fn.load(self.vector, source, offset)

    def sum(self, source: Value, rows: Span, columns: Span, start: Value, operation: str) -> Value:
        """All pixels of a part put together."""
        fn, combine = self.fn, BINARY[operation]

        def line(y: Value, total: list[Value]) -> Sequence[Value]:
            return fn.loop(
                columns.begin, columns.end, lambda x, t: [combine(fn, t[0], self.pixel(source, y, x))], total
            )

        return fn.loop(rows.begin, rows.end, line, [start])[0]

    def unless_empty(self, value: Value, *counts: Value) -> Value:
        """Zero where there is nothing."""
        fn = self.fn
        for count in counts:
            value = fn.select(fn.compare("sgt", count, 0), value, fn.zero(value.type))
        return value

    @abstractmethod
    def sides(self, begin: Value, end: Value, parts: int) -> tuple[Value, Value]:
        """Where a side of the region begins, and the length of its parts, from its ends as they are given."""

    @abstractmethod
    def part(self, source: Value, sides: tuple[tuple[Value, Value], ...], at: tuple[Value, Value]) -> Value:
        """The result for the part in this row and column, of the channels that begin at ``source``."""


class _Maxima(_Regions):
    """RoiPooling."""

    def sides(self, begin: Value, end: Value, parts: int) -> tuple[Value, Value]:
        fn = self.fn
        first, last = (rounded(fn, value * self.attrs.scale) for value in (begin, end))
        count = fn.as_value(fn.maximum(last - first + 1, 1), I64)
        return first, fn.convert("sitofp", count, DOUBLE) / float(parts)

    def part(self, source: Value, sides: tuple[tuple[Value, Value], ...], at: tuple[Value, Value]) -> Value:
        fn = self.fn
        spans = []
        for (start, length), i, limit in zip(sides, at, (self.height, self.width), strict=True):
            number = fn.convert("sitofp", i, DOUBLE)
            edges = floor(fn, number * length) + start, ceil(fn, (number + 1.0) * length) + start
            spans.append(_clipped(fn, *edges, limit))
        lowest = fn.constant(self.vector, -math.inf)
        best = self.sum(source, spans[0], spans[1], lowest, "max")
        return self.unless_empty(best, *(_count(fn, span) for span in spans))


class _Means(_Regions):
    """PositionSensitiveRoiPooling."""

    def channel(self, number: Index, i: Value, j: Value) -> Index:
        groups = self.attrs.groups
        return plus(times(plus(times(number, groups), i), groups), j)

    def sides(self, begin: Value, end: Value, parts: int) -> tuple[Value, Value]:
        fn = self.fn
        first, last = (
            fn.convert("sitofp", rounded(fn, value), DOUBLE) * self.attrs.scale for value in (begin, end + 1.0)
        )
        length = last - first
        least = fn.constant(DOUBLE, 0.1)
        return first, fn.select(fn.compare("ogt", length, least), length, least) / float(parts)

    def part(self, source: Value, sides: tuple[tuple[Value, Value], ...], at: tuple[Value, Value]) -> Value:
        fn = self.fn
        spans = []
        for (start, length), i, limit in zip(sides, at, (self.height, self.width), strict=True):
            number = fn.convert("sitofp", i, DOUBLE)
            edges = floor(fn, number * length + start), ceil(fn, (number + 1.0) * length + start)
            spans.append(_clipped(fn, *edges, limit))
        counts = [_count(fn, span) for span in spans]
        total = self.sum(source, spans[0], spans[1], fn.zero(self.vector), "sum")
        return self.unless_empty(total / fn.convert("sitofp", counts[0] * counts[1], FLOAT), *counts)


@dataclass(frozen=True)
class Sample:
    """A place between two pixels of a side, and their weights."""

    pixels: tuple[Value, Value]
    weights: tuple[Value, Value]


class _Samples(_Regions):
    """RoiAlign."""

    def sides(self, begin: Value, end: Value, parts: int) -> tuple[Value, Value]:
        fn, shift = self.fn, 0.5 if self.attrs.half_pixel else 0.0
        first, last = (value * self.attrs.scale - shift for value in (begin, end))
        length = last - first
        if not self.attrs.half_pixel:
            length = fn.select(fn.compare("ogt", length, 1.0), length, fn.constant(DOUBLE, 1.0))
        return first, length / float(parts)

    def part(self, source: Value, sides: tuple[tuple[Value, Value], ...], at: tuple[Value, Value]) -> Value:
        fn, maximum = self.fn, self.attrs.mode == "max"
        (y_counts, y_at), (x_counts, x_at) = (self._places(side, i) for side, i in zip(sides, at, strict=True))

        def line(s: Value, total: list[Value]) -> Sequence[Value]:
            y = _sample(fn, y_at(s), self.height)

            def sample(t: Value, inner: list[Value]) -> Sequence[Value]:
                x = _sample(fn, x_at(t), self.width)
                return [self._four(source, y, x, inner[0], maximum)]

            return fn.loop(0, x_counts, sample, total)

        start = fn.constant(self.vector, -math.inf) if maximum else fn.zero(self.vector)
        total = fn.loop(0, y_counts, line, [start])[0]
        if not maximum:
            count = fn.convert("sitofp", y_counts * x_counts, FLOAT)
            total = total / fn.splat(count, _lanes(self.vector))
        return self.unless_empty(total, y_counts, x_counts)

    def _places(self, side: tuple[Value, Value], part: Value) -> tuple[Value, Callable[[Value], Value]]:
        """How many samples a part has on a side, and a function that places them."""
        fn, (start, length) = self.fn, side
        samples = self.attrs.samples
        count = fn.constant(I64, samples) if samples else fn.as_value(fn.maximum(ceil(fn, length), 0), I64)
        step = length / fn.convert("sitofp", count, DOUBLE)
        begin = start + fn.convert("sitofp", part, DOUBLE) * length
        return count, lambda s: begin + (fn.convert("sitofp", s, DOUBLE) + 0.5) * step

    def _four(self, source: Value, y: Sample, x: Sample, total: Value, maximum: bool) -> Value:
        """The four pixels around a sample, weighted: added to a total, or compared with it."""
        fn = self.fn
        for row, v in zip(y.pixels, y.weights, strict=True):
            for column, w in zip(x.pixels, x.weights, strict=True):
                weight = fn.splat(fn.convert("fptrunc", v * w, FLOAT), _lanes(self.vector))
                element = self.pixel(source, row, column)
                total = BINARY["max"](fn, total, element * weight) if maximum else fn.fma(element, weight, total)
        return total


_WRITERS: dict[str, Callable[[Routine], _Regions]] = {
    "RoiPooling": _Maxima,
    "PositionSensitiveRoiPooling": _Means,
    "RoiAlign": _Samples,
}


def _lanes(type: str) -> int:
    return BLOCK if type.startswith("<") else 1


def _sample(fn: Function, position: Value, size: int) -> Sample:
    """Zero weights more than a pixel outside; the last pixel alone where there is none behind it."""
    outside = fn.binary("or", fn.compare("olt", position, -1.0), fn.compare("ogt", position, float(size)))
    inside = fn.select(fn.compare("ogt", position, 0.0), position, fn.constant(DOUBLE, 0.0))
    low = fn.as_value(fn.minimum(integer(fn, inside), size - 1), I64)
    high = fn.as_value(fn.minimum(low + 1, size - 1), I64)
    zero = fn.constant(DOUBLE, 0.0)
    above = fn.select(fn.compare("eq", low, size - 1), zero, inside - fn.convert("sitofp", low, DOUBLE))
    weights = [fn.select(outside, zero, weight) for weight in (1.0 - above, above)]
    return Sample((low, high), (weights[0], weights[1]))


def _clipped(fn: Function, begin: Value, end: Value, limit: int) -> Span:
    return Span(*(fn.minimum(fn.maximum(edge, 0), limit) for edge in (begin, end)))


def _count(fn: Function, span: Span) -> Value:
    """How many pixels; below one where there are none."""
    return fn.as_value(span.end, I64) - span.begin


def integer(fn: Function, x: Value) -> Value:
    """A float64 cut off to an integer; what lies beyond every image is cut off at `_FAR`."""
    low, high = fn.constant(DOUBLE, -_FAR), fn.constant(DOUBLE, _FAR)
    bounded = fn.select(fn.compare("olt", x, high), x, high)
    return fn.convert("fptosi", fn.select(fn.compare("ogt", bounded, low), bounded, low), I64)


def floor(fn: Function, x: Value) -> Value:
    """The integer at or below; a library would be called for it where the processor lacks an instruction."""
    whole = integer(fn, x)
    return whole + fn.convert("sext", fn.compare("ogt", fn.convert("sitofp", whole, DOUBLE), x), I64)


def ceil(fn: Function, x: Value) -> Value:
    """The integer at or above."""
    whole = integer(fn, x)
    return whole - fn.convert("sext", fn.compare("olt", fn.convert("sitofp", whole, DOUBLE), x), I64)


def rounded(fn: Function, x: Value) -> Value:
    """To the nearest integer, halves away from zero."""
    size = fn.select(fn.compare("olt", x, 0.0), -x, x)
    whole = floor(fn, size + 0.5)
    return fn.select(fn.compare("olt", x, 0.0), -whole, whole)
