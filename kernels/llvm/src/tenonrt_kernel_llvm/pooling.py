"""Pooling in registers: vectors of 16 channels where channels are blocked, of 16 neighbours in a row otherwise.

Positions whose window lies within the row are computed several at a time without a test; taps in the padding are not
read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tenonrt.contracts import (
    LINEAR,
    NCHW16C,
    Array,
    Code,
    GraphView,
    Layer,
    Problem,
    Support,
    Tactic,
    Weights,
    WindowAxis,
    window_axes,
)

from tenonrt_kernel_llvm import mathematics as m
from tenonrt_kernel_llvm.emitter import FLOAT, I32, Function, Index, Value, lanes_of, vector
from tenonrt_kernel_llvm.indexing import (
    ChannelLanes,
    address,
    ceil_divide,
    distance,
    empty,
    is_blocked,
    known,
    plus,
    times,
    unravel,
)
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.scalar_tails import ScalarTail, regions_with_scalar_tail, scalar_tail
from tenonrt_kernel_llvm.target import BLOCK, Target

# Longer rows of taps, and rows with more kinds of positions, become loops: text would grow with them.
_MAX_UNROLLED, _MAX_SEGMENTS = 8, 12
_UNIT_LOADS = 1500  # vectors read by a unit of work, about a microsecond


class PoolingKernel(LlvmKernel):
    """Maximum, average and p-norm (p 1 and 2) of windows, with a tail."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return regions_with_scalar_tail(view, layer)

    def supports(self, problem: Problem) -> Support:
        why = _refusal(problem)
        return Support(not why, why, runtime_symbols(problem))

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        blocked = Tactic("nchw16c", (NCHW16C,), (NCHW16C,), reads_strided=(0,), writes_strided=(0,))
        linear = Tactic("linear", (LINEAR,), (LINEAR,))
        return (linear,) if isinstance(problem.types[0].shape[1], int) and problem.types[0].shape[1] == 1 else (
            blocked, linear,
        )  # fmt: skip

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        routine = Routine(problem, tactic, target)
        pooling = _Pooling(routine, is_blocked(tactic.input_format(0)))
        pooling.emit()
        return routine.code()

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """The numbers that tails read are part of the code."""
        return ()


def _refusal(problem: Problem) -> str:
    attrs, source, result = problem.layer.attrs, problem.types[0], problem.types[problem.layer.outputs[0]]
    if source.dtype != "float32":
        return f"pooling of {source.dtype}"
    if attrs.function == "max_average_blend" or (attrs.function == "lp" and attrs.p not in {1, 2}):
        return f"pooling by {attrs.function} with p {attrs.p}"
    if attrs.with_indices:
        return "the places of the maxima"
    if empty(source, result):
        return "an empty tensor"
    tail = scalar_tail(problem)
    return tail if isinstance(tail, str) else ""


@dataclass(frozen=True)
class Slide:
    """A window along one axis of known size."""

    axis: WindowAxis
    size: int

    @property
    def count(self) -> int:
        return self.axis.positions(self.size)

    @property
    def before(self) -> int:
        return self.axis.padding(self.size)[0]

    def taps(self, position: int) -> tuple[int, int]:
        """The taps of a position that lie in the input: first and end."""
        start = position * self.axis.stride - self.before
        first = -(-max(0, -start) // self.axis.dilation)
        end = min(self.axis.window, -(-max(0, self.size - start) // self.axis.dilation))
        return first, max(first, end)

    def counted(self, position: int) -> int:
        """The taps of a position that lie in the padded input."""
        start = position * self.axis.stride
        inside = self.before + self.size + self.axis.padding(self.size)[1] - start
        return min(self.axis.window, -(-max(0, inside) // self.axis.dilation))

    @property
    def always_inside(self) -> bool:
        return all(self.taps(p) == (0, self.axis.window) for p in range(self.count))

    @property
    def trivial(self) -> bool:
        return self.axis.window == self.axis.stride == 1 and self.count == self.size and self.before == 0

    def emit_taps(self, fn: Function, position: Index) -> tuple[Index, Index]:
        """`taps` of a position known at run time."""
        if self.always_inside:
            return 0, self.axis.window
        start = plus(times(position, self.axis.stride), -self.before)
        first = ceil_divide(fn.maximum(times(start, -1), 0), self.axis.dilation)
        end = ceil_divide(fn.maximum(plus(times(start, -1), self.size), 0), self.axis.dilation)
        return first, fn.maximum(first, fn.minimum(end, self.axis.window))

    def emit_counted(self, fn: Function, position: Index) -> Index:
        """`counted` of a position known at run time."""
        if all(self.counted(p) == self.axis.window for p in range(self.count)):
            return self.axis.window
        inside = self.before + self.size + self.axis.padding(self.size)[1]
        left = plus(times(position, -self.axis.stride), inside)
        return fn.minimum(ceil_divide(fn.maximum(left, 0), self.axis.dilation), self.axis.window)


@dataclass(frozen=True)
class Segment:
    """Neighbouring positions in a row that read the same taps and divide by the same count."""

    first: int
    count: int
    taps: tuple[int, int]
    counted: int


def segments(slide: Slide) -> list[Segment]:
    """A row in order."""
    found: list[Segment] = []
    for position in range(slide.count):
        taps, counted = slide.taps(position), slide.counted(position)
        if found and (found[-1].taps, found[-1].counted) == (taps, counted):
            last = found.pop()
            found.append(Segment(last.first, last.count + 1, taps, counted))
        else:
            found.append(Segment(position, 1, taps, counted))
    return found


def slides(problem: Problem, merge: bool) -> list[Slide]:
    """Three axes, outer ones made up. merge: trailing axes that no window slides along become one, the last."""
    attrs = problem.layer.attrs
    axes = window_axes(
        attrs.window,
        attrs.stride,
        attrs.dilation,
        attrs.pre_padding,
        attrs.post_padding,
        attrs.padding_mode,
        attrs.ceil,
    )
    sizes = [known(d) for d in problem.types[0].shape[2:]]
    found = [Slide(axis, size) for axis, size in zip(axes, sizes, strict=True)]
    trailing = 0
    while merge and trailing < len(found) and found[-1 - trailing].trivial:
        trailing += 1
    if trailing:
        inner = math.prod(slide.size for slide in found[-trailing:])
        found = [*found[:-trailing], Slide(WindowAxis(1), inner)]
    return [Slide(WindowAxis(1), 1)] * (3 - len(found)) + found


State = list[Value]


class _Pooling:
    """The code of one pooling."""

    def __init__(self, routine: Routine, blocked: bool) -> None:
        self.routine, self.fn, self.blocked = routine, routine.function, blocked
        problem = routine.problem
        self.attrs: Any = problem.layer.attrs
        tail = scalar_tail(problem)
        assert isinstance(tail, ScalarTail)
        self.tail = tail
        self.z, self.y, self.x = slides(problem, merge=not blocked)
        self.channels = known(problem.types[0].shape[1])
        self.source, self.result = routine.inputs[0], routine.outputs[0]
        self.in_strides = self._spatial(self.source.strides, [s.size for s in (self.z, self.y, self.x)])
        self.out_strides = self._spatial(self.result.strides, [s.count for s in (self.z, self.y, self.x)])
        per_block = routine.target.registers_per_block
        state = 2 if self.attrs.function == "max" else 1
        self.together = max(1, routine.target.registers // (2 * (1 + state) * per_block))
        self.segments = segments(self.x)

    def _spatial(self, strides: Sequence[Index], sizes: Sequence[int]) -> list[Index]:
        """Strides along z, y and x; those of merged axes follow from the sizes, as the tensor is dense."""
        if not self.blocked:
            return [4 * sizes[1] * sizes[2], 4 * sizes[2], 4]
        spatial = list(strides[2:-1])
        return [0] * (3 - len(spatial)) + spatial

    def emit(self) -> None:
        """One phase: some rows of one block of one image a unit."""
        taps = self.z.axis.window * self.y.axis.window * self.x.axis.window
        row = max(1, self.x.count * taps // (1 if self.blocked else BLOCK))
        rows = max(1, min(self.y.count, _UNIT_LOADS // row))
        chunks = -(-self.y.count // rows)
        images = self.routine.problem.types[self.tail.result].stored_as(NCHW16C if self.blocked else LINEAR)
        outer = images.physical_shape[:2]
        sizes: list[Index] = [0, known(outer[1]), self.z.count, chunks]

        def unit(number: Value) -> None:
            image, block, depth, chunk = unravel(number, sizes)
            first = times(chunk, rows)
            last = self.fn.minimum(plus(first, rows), self.y.count)

            def one(row: Value, _: list[Value]) -> Sequence[Value]:
                self._row(image, block, depth, row)
                return ()

            self.fn.loop(first, last, one)

        self.routine.phase(outer[0] * outer[1] * (self.z.count * chunks), unit)

    def _row(self, image: Index, block: Index, depth: Index, row: Index) -> None:
        fn = self.fn
        self.lanes = ChannelLanes(fn, self.channels, block) if self.blocked else None
        outer = [depth, row]
        corner = [plus(times(p, s.axis.stride), -s.before) for p, s in zip(outer, (self.z, self.y), strict=True)]
        start = plus(distance(corner, self.in_strides[:2]), times(-self.x.before, self.in_strides[2]))
        self.from_row = fn.offset(address(fn, self.source, [image, block]), start)
        to_row = fn.offset(address(fn, self.result, [image, block]), distance(outer, self.out_strides[:2]))
        self.outer_taps = [s.emit_taps(fn, p) for p, s in zip(outer, (self.z, self.y), strict=True)]
        self.outer_count = self._outer_count(outer)
        unrolled = self.x.axis.window <= _MAX_UNROLLED and len(self.segments) <= _MAX_SEGMENTS
        if not unrolled:
            self._any_row(to_row)
            return
        for segment in self.segments:
            scale = self._scale(
                times(segment.counted if self._counts_padding else _span(segment.taps), self.outer_count)
            )
            for first, cells, lanes, repeat in pieces(segment.count, self.together, self.blocked):
                self._piece(segment, segment.first + first, cells, lanes, repeat, to_row, scale)

    @property
    def _counts_padding(self) -> bool:
        return bool(self.attrs.count_includes_padding)

    def _outer_count(self, outer: Sequence[Index]) -> Index:
        counts: list[Index] = []
        for position, slide, (first, end) in zip(outer, (self.z, self.y), self.outer_taps, strict=True):
            inside = end if isinstance(first, int) and first == 0 else plus(end, times(first, -1))
            counts.append(slide.emit_counted(self.fn, position) if self._counts_padding else inside)
        return times(counts[0], counts[1])

    def _scale(self, count: Index) -> Value | None:
        """What sums are multiplied by; a window without elements has the average 0."""
        if self.attrs.function != "average":
            return None
        if isinstance(count, int):
            return None if count <= 1 else self.fn.constant(FLOAT, 1 / count)
        at_least = self.fn.maximum(count, 1)
        assert isinstance(at_least, Value)
        return self.fn.constant(FLOAT, 1.0) / self.fn.convert("sitofp", at_least, FLOAT)

    def _piece(
        self, segment: Segment, first: int, cells: int, lanes: int, repeat: int, to_row: Value, scale: Value | None
    ) -> None:
        """``repeat`` times ``cells`` vectors of neighbouring positions, from ``first`` on."""
        fn, width = self.fn, lanes if not self.blocked else 1

        def one(turn: Index, _: list[Value]) -> Sequence[Value]:
            position = plus(times(turn, cells * width), first)
            source = fn.offset(self.from_row, times(times(position, self.x.axis.stride), self.in_strides[2]))
            states = [self._initial(lanes) for _ in range(cells)]
            states = self._outer_loops(source, states, lambda at, given: self._taps(at, given, segment.taps, lanes))
            target = fn.offset(to_row, times(position, self.out_strides[2]))
            for cell, state in enumerate(states):
                fn.store(self._finish(state, scale), target, times(cell * width, self.out_strides[2]))
            return ()

        if repeat == 1:
            one(0, [])
        else:
            fn.loop(0, repeat, one)

    def _outer_loops(
        self, source: Value, states: list[State], taps: Callable[[Value, list[State]], list[State]]
    ) -> list[State]:
        """Run ``taps`` on every row of the window that lies in the input."""
        fn, size = self.fn, len(states[0])

        def nested(level: int, at: Value, carried: list[Value]) -> list[Value]:
            if level == 2:
                grouped = [carried[i : i + size] for i in range(0, len(carried), size)]
                return [value for state in taps(at, grouped) for value in state]
            first, end = self.outer_taps[level]
            if (first, end) == (0, 1):
                return nested(level + 1, at, carried)
            step = times((self.z, self.y)[level].axis.dilation, self.in_strides[level])
            return fn.loop(
                first, end, lambda tap, inner: nested(level + 1, fn.offset(at, times(tap, step)), inner), carried
            )

        found = nested(0, source, [value for state in states for value in state])
        return [found[i : i + size] for i in range(0, len(found), size)]

    def _taps(self, at: Value, states: list[State], taps: tuple[int, int], lanes: int) -> list[State]:
        """Two taps of a row at a time: maxima look for NaN in two vectors with one comparison."""
        step = times(self.x.axis.dilation, self.in_strides[2])
        for tap in range(taps[0], taps[1], 2):
            pair = range(tap, min(tap + 2, taps[1]))
            states = [
                self._combine(state, [self._load(at, times(t, step), cell, lanes) for t in pair])
                for cell, state in enumerate(states)
            ]
            if tap + 2 < taps[1]:
                self.fn.new_block()
        return states

    def _load(self, at: Value, distance: Index, cell: int, lanes: int) -> Value:
        fn, stride = self.fn, self.x.axis.stride
        if self.blocked:
            return fn.load(vector(BLOCK), at, plus(distance, times(cell * stride, self.in_strides[2])))
        start = plus(distance, 4 * cell * lanes * stride)
        if stride == 1 or lanes == 1:
            return fn.load(vector(lanes), at, start)
        if stride == 2:  # the second vector ends where the last element needed is
            low, high = (fn.load(vector(lanes), at, plus(start, 4 * skip)) for skip in (0, lanes - 1))
            picked = [2 * j if 2 * j < lanes else lanes + 2 * j - (lanes - 1) for j in range(lanes)]
            return fn.shuffle(low, high, picked)
        result = Value(fn, vector(lanes), "poison")
        for lane in range(lanes):
            result = fn.insert(result, fn.load(FLOAT, at, plus(start, 4 * lane * stride)), lane)
        return result

    def _initial(self, lanes: int) -> State:
        type = vector(lanes)
        if self.attrs.function == "max":
            return [self.fn.constant(type, -math.inf), self.fn.zero(vector(lanes, I32))]
        return [self.fn.zero(type)]

    def _combine(self, state: State, values: Sequence[Value]) -> State:
        """A maximum is kept apart from whether there was a NaN, all bits of a lane set: two operations each."""
        fn = self.fn
        if self.attrs.function == "max":
            best, unordered = state
            for value in values:
                best = m.maximum(fn, best, value)
            found = fn.convert("sext", fn.compare("uno", values[0], values[-1]), I32)
            return [best, fn.binary("or", unordered, found)]
        (total,) = state
        for value in values:
            if self.attrs.function == "lp":
                total = fn.fma(value, value, total) if self.attrs.p == 2 else total + m.absolute(fn, value)
            else:
                total = total + value
        return [total]

    def _finish(self, state: State, scale: Value | None) -> Value:
        fn = self.fn
        if self.attrs.function == "max":
            bits = fn.binary("or", fn.convert("bitcast", state[0], I32), state[1])
            result = fn.emit(state[0].type, f"bitcast {bits.type} {bits.text} to {state[0].type}")
        else:
            result = state[0]
        if scale is not None:
            result = result * fn.splat(scale, lanes_of(result.type))
        if self.attrs.function == "lp" and self.attrs.p == 2:
            result = m.square_root(fn, result)
        result = self.tail.apply(fn, result)
        return result if self.lanes is None else self.lanes.clear(result)

    def _any_row(self, to_row: Value) -> None:
        """Position by position with taps from and to what run time says: for windows too long to unroll."""
        fn, lanes = self.fn, BLOCK if self.blocked else 1
        step = times(self.x.axis.dilation, self.in_strides[2])

        def one(position: Value, _: list[Value]) -> Sequence[Value]:
            first, end = self.x.emit_taps(fn, position)
            span = end if isinstance(first, int) and first == 0 else plus(end, times(first, -1))
            count = self.x.emit_counted(fn, position) if self._counts_padding else span
            scale = self._scale(times(count, self.outer_count))
            source = fn.offset(self.from_row, times(times(position, self.x.axis.stride), self.in_strides[2]))

            def taps(at: Value, states: list[State]) -> list[State]:
                return [
                    fn.loop(
                        first,
                        end,
                        lambda tap, state: self._combine(state, [fn.load(vector(lanes), at, times(tap, step))]),
                        states[0],
                    )
                ]

            (state,) = self._outer_loops(source, [self._initial(lanes)], taps)
            fn.store(self._finish(state, scale), to_row, times(position, self.out_strides[2]))
            return ()

        fn.loop(0, self.x.count, one)


def _span(taps: tuple[int, int]) -> int:
    return taps[1] - taps[0]


def pieces(count: int, together: int, blocked: bool) -> list[tuple[int, int, int, int]]:
    """How a row of ``count`` positions is cut: (first, vectors at a time, lanes, times)."""
    found: list[tuple[int, int, int, int]] = []
    first = 0
    widths = [(together, BLOCK), *(() if blocked else ((1, 16), (1, 8), (1, 4), (1, 1)))]
    if blocked:
        widths += [(cells, BLOCK) for cells in range(together - 1, 0, -1)]
    for cells, lanes in widths:
        size = cells * (1 if blocked else lanes)
        turns = (count - first) // size
        if turns:
            found.append((first, cells, lanes, turns))
            first += size * turns
    return found
