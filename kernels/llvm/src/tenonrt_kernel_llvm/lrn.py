"""Local response normalization across channels: x / (k + scale * sum of squares of neighbouring channels) ** beta.

Blocked channels are shifted into each other across the lanes of vectors; otherwise a window of squares slides from
channel to channel in registers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tenonrt.contracts import LINEAR, NCHW16C, Code, Dim, Problem, Support, Tactic

from tenonrt_kernel_llvm import mathematics as m
from tenonrt_kernel_llvm.emitter import Function, Index, Value, vector
from tenonrt_kernel_llvm.indexing import (
    ChannelLanes,
    address,
    empty,
    is_blocked,
    items_phase,
    known,
    plus,
    times,
)
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.operations import constant_power
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.target import BLOCK, Target

_MAX_WINDOW = 15  # channels on one side of a block's own, or squares kept in registers
_PIXELS = 16  # of a unit: so many of every block stay in the first cache


@dataclass(frozen=True)
class Response:
    """x / (k + scale * sum of squares over ``before`` channels, its own, and ``after`` channels) ** beta."""

    before: int
    after: int
    scale: float
    k: float
    beta: float

    @classmethod
    def of(cls, problem: Problem) -> Response:
        a = problem.layer.attrs
        return cls((a.window - 1) // 2, a.window // 2, a.alpha / a.window, a.k, a.beta)


class LrnKernel(LlvmKernel):
    """LRN of float32, a known number of channels."""

    def supports(self, problem: Problem) -> Support:
        why = _refusal(problem)
        return Support(not why, why, runtime_symbols(problem))

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        linear = Tactic("linear", (LINEAR,), (LINEAR,))
        if problem.types[0].rank < 3:
            return (linear,)
        return (Tactic("nchw16c", (NCHW16C,), (NCHW16C,), reads_strided=(0,), writes_strided=(0,)), linear)

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        routine = Routine(problem, tactic, target)
        response = Response.of(problem)
        emit = _emit_blocked if is_blocked(tactic.input_format(0)) else _emit_linear
        emit(routine, response)
        return routine.code()


def _refusal(problem: Problem) -> str:
    if problem.kinds != ("LRN",):
        return f"{' + '.join(problem.kinds)} is no local response normalization"
    response, source = Response.of(problem), problem.types[0]
    if source.dtype != "float32":
        return f"local response normalization of {source.dtype}"
    if empty(source) or isinstance(source.shape[1], Dim):
        return "no channels, or an unknown number of them"
    if response.before + response.after >= _MAX_WINDOW:
        return f"a window of {response.before + response.after + 1} channels"
    return ""


def _normalized(fn: Function, x: Value, total: Value, response: Response) -> Value:
    """The result for elements x and the sums of squares around them."""
    base = fn.fma(total, fn.constant(x.type, response.scale), fn.constant(x.type, response.k))
    if response.beta == 0.75:
        root = m.square_root(fn, base)
        return x / (root * m.square_root(fn, root))
    return x / constant_power(fn, base, response.beta)


# blocked channels ----------------------------------------------------------------------------------------------------


def _emit_blocked(routine: Routine, response: Response) -> None:
    """Units of a few pixels; of each, the blocks of channels one after the other."""
    source, result = routine.inputs[0], routine.outputs[0]
    spatial = [known(d) for d in source.shape[2:-1]]
    rows, row = math.prod(spatial[:-1]), spatial[-1]
    pieces = -(-row // _PIXELS)
    blocks = known(source.shape[1])

    def item(at: list[Index]) -> None:
        image, line, piece = at
        outer = _spatial(line, spatial[:-1])
        first = times(piece, _PIXELS)
        end = routine.function.minimum(plus(first, _PIXELS), row)
        starts = [address(routine.function, o, [image, 0, *outer]) for o in (source, result)]
        _Blocks(routine, response, blocks, starts, (first, end)).emit()

    items_phase(routine, [routine.problem.types[0].shape[0], rows, pieces], 16 * blocks * min(row, _PIXELS) * 2, item)


def _spatial(line: Index, sizes: Sequence[int]) -> list[Index]:
    """The coordinates of a row of pixels in the axes before the last."""
    if len(sizes) <= 1:
        return [line] * len(sizes)
    return [line // sizes[1], line % sizes[1]]


class _Blocks:
    """All blocks of some pixels of a row."""

    def __init__(
        self, routine: Routine, response: Response, blocks: int, starts: Sequence[Value], span: tuple[Index, Index]
    ) -> None:
        self.fn, self.response, self.blocks, self.span = routine.function, response, blocks, span
        self.channels = known(routine.problem.types[0].shape[1])
        self.source, self.result = starts
        self.strides = [(o.strides[1], o.strides[-2]) for o in (routine.inputs[0], routine.outputs[0])]

    def emit(self) -> None:
        """The first and the last blocks have no neighbour on one side."""
        self._block(0, False, self.blocks > 1)
        if self.blocks > 2:

            def middle(block: Value, _: list[Value]) -> Sequence[Value]:
                self._block(block, True, True)
                return ()

            self.fn.loop(1, self.blocks - 1, middle)
        if self.blocks > 1:
            self._block(self.blocks - 1, True, False)

    def _block(self, block: Index, before: bool, after: bool) -> None:
        fn = self.fn
        (block_stride, pixel_stride), (to_block, to_pixel) = self.strides
        from_block = fn.offset(self.source, times(block, block_stride))
        target = fn.offset(self.result, times(block, to_block))
        previous = fn.offset(from_block, times(block_stride, -1)) if before else None
        following = fn.offset(from_block, block_stride) if after else None
        lanes = ChannelLanes(fn, self.channels, 0 if after else block)
        next_lanes = ChannelLanes(fn, self.channels, plus(block, 1) if after else 0)

        def pixel(number: Value, _: list[Value]) -> Sequence[Value]:
            at = times(number, pixel_stride)
            x = lanes.clear(fn.load(vector(BLOCK), from_block, at))
            near = [None if p is None else fn.load(vector(BLOCK), p, at) for p in (previous, following)]
            low, high = near[0], None if near[1] is None else next_lanes.clear(near[1])
            total = self._window_sum([None if v is None else v * v for v in (low, x, high)])
            fn.store(lanes.clear(_normalized(fn, x, total, self.response)), target, times(number, to_pixel))
            return ()

        fn.loop(*self.span, pixel)

    def _window_sum(self, squares: Sequence[Value | None]) -> Value:
        """Sums over the window around each lane, from the squares of this block and its neighbours."""
        low, own, high = (self.fn.zero(vector(BLOCK)) if v is None else v for v in squares)
        total = own
        for back in range(1, self.response.before + 1):
            total = total + self.fn.shuffle(low, own, range(BLOCK - back, 2 * BLOCK - back))
        for ahead in range(1, self.response.after + 1):
            total = total + self.fn.shuffle(own, high, range(ahead, BLOCK + ahead))
        return total


# dense channels ------------------------------------------------------------------------------------------------------


def _emit_linear(routine: Routine, response: Response) -> None:
    """Units of 16 pixels in all channels; squares of the window are carried from channel to channel."""
    shape = routine.problem.types[0].shape
    channels, pixels = known(shape[1]), math.prod(known(d) for d in shape[2:])
    tiles = -(-pixels // BLOCK)
    rest = pixels - (tiles - 1) * BLOCK
    fn = routine.function

    def item(at: list[Index]) -> None:
        image, tile = at
        start = plus(times(image, 4 * channels * pixels), times(tile, 4 * BLOCK))
        source, result = fn.offset(routine.inputs[0].pointer, start), fn.offset(routine.outputs[0].pointer, start)

        def run(count: int) -> None:
            _slide(fn, response, (source, result), channels, 4 * pixels, count)

        if tiles == 1 or rest == BLOCK:
            run(rest)
        else:
            fn.when(fn.compare("ne", fn.as_value(tile, "i64"), tiles - 1), lambda: run(BLOCK), lambda: run(rest))

    items_phase(routine, [shape[0], tiles], BLOCK * channels * 3, item)


def _slide(
    fn: Function, response: Response, pointers: tuple[Value, Value], channels: int, stride: int, count: int
) -> None:
    """One vector of pixels through all channels."""
    source, result = pointers
    before, after = response.before, response.after

    def square(channel: Index) -> Value:
        x = fn.load_lanes(vector(BLOCK), source, count, times(channel, stride))
        return x * x

    def finish(channel: Index, window: Sequence[Value]) -> None:
        total = window[0]
        for value in window[1:]:
            total = total + value
        x = fn.load_lanes(vector(BLOCK), source, count, times(channel, stride))
        fn.store_lanes(_normalized(fn, x, total, response), result, count, times(channel, stride))

    def step(channel: Value, window: list[Value]) -> list[Value]:
        full = [*window, square(plus(channel, after))]
        finish(channel, full)
        return full[1:]

    zero = fn.zero(vector(BLOCK))
    first = [square(c) if c < channels else zero for c in range(after)]
    window = fn.loop(0, max(0, channels - after), step, [zero] * before + first)
    for channel in range(max(0, channels - after), channels):
        full = [*window, zero]
        finish(channel, full)
        window = full[1:]
