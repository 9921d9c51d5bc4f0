"""Averages of windows, and of whole images, over bytes with channels innermost: sums of integers, requantized once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from tenonrt.contracts import (
    LINEAR,
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

from tenonrt_kernel_llvm.emitter import FLOAT, I8, I32, Index, Value, vector
from tenonrt_kernel_llvm.indexing import known
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.pooling import Slide
from tenonrt_kernel_llvm.quantized.geometry import image_format
from tenonrt_kernel_llvm.quantized.problem import Quantized, read_quantized
from tenonrt_kernel_llvm.quantized.regions import quantized_regions
from tenonrt_kernel_llvm.quantized.requantization import Requantization, pack_stages, store_result
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.target import BLOCK, Target

_KINDS = frozenset({"Pooling", "Reduce"})


@dataclass(frozen=True)
class Average:
    """Windows along rows and columns. padded: whether they divide by what they see of the padding too."""

    channels: int
    y: Slide
    x: Slide
    padded: bool


class QuantizedAverage(LlvmKernel):
    """Average pooling, and the mean over rows and columns, of dequantized bytes; quantized or real results."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return quantized_regions(view, layer, weighted=False)

    def supports(self, problem: Problem) -> Support:
        found = read_average(problem)
        if isinstance(found, str):
            return Support(False, found)
        return Support(True, runtime_symbols=runtime_symbols(problem))

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        region, _ = average_of(problem)
        result = problem.types[problem.outputs[0]]
        flat = region.anchor.kind == "Reduce"  # one pixel: real results are the same in planes
        output = image_format(problem, problem.outputs[0]) if region.result.quantized or not flat else LINEAR
        assert result.rank in (2, 4)
        return (Tactic("nhwc", (image_format(problem, region.source.stored),), (output,)),)

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Factor and offset of a mean, numbers of the stages, the zero point, and one by the elements of a window."""
        problem = code.problem
        region, average = average_of(problem)
        arrays = dict(zip(problem.constants, weights.constants, strict=True))
        scale = arrays[region.source.scale].reshape(-1).astype(np.float64)
        rows, numbers = pack_stages(region, arrays, scale, 1)
        zero = int(arrays[region.source.zero].reshape(())) if region.source.zero >= 0 else 0
        most = average.y.axis.window * average.x.axis.window
        shares = np.concatenate([[0.0], 1.0 / np.arange(1, most + 1)]).astype(np.float32)
        return [np.ascontiguousarray(rows[:, 0]), numbers, np.array([zero], np.int32), shares]

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        region, average = average_of(problem)
        return _Means(Routine(problem, tactic, target, packed=4), region, average).code()


def read_average(problem: Problem) -> tuple[Quantized, Average] | str:
    """The region and its windows, or why it is not computed."""
    region = read_quantized(problem, _KINDS, weighted=False)
    if isinstance(region, str):
        return region
    source, result = problem.types[region.source.stored], problem.types[problem.outputs[0]]
    if source.rank != 4 or not source.reshape(source.shape[1:]).static or 0 in (*source.shape, *result.shape):
        return "images of known sizes but for the batch, none of them 0"
    if len(region.stages) > 1:
        return "what follows is more than clips and a Quantize"
    axes = _windows(problem, region)
    if isinstance(axes, str):
        return axes
    y, x = (Slide(axis, known(size)) for axis, size in zip(axes, source.shape[2:], strict=True))
    padded = region.anchor.kind == "Pooling" and region.anchor.attrs.count_includes_padding
    return region, Average(known(source.shape[1]), y, x, padded)


def average_of(problem: Problem) -> tuple[Quantized, Average]:
    """Of a problem that `supports` has accepted."""
    found = read_average(problem)
    assert not isinstance(found, str), found
    return found


def _windows(problem: Problem, region: Quantized) -> list[WindowAxis] | str:
    attrs, source = region.anchor.attrs, problem.types[region.source.stored]
    if region.anchor.kind == "Reduce":
        whole = attrs.axes is not None and sorted(axis % 4 for axis in attrs.axes) == [2, 3]
        if attrs.operation != "mean" or not whole:
            return "not the mean over rows and columns"
        return [WindowAxis(known(size)) for size in source.shape[2:]]
    if attrs.function != "average":
        return f"pooling by {attrs.function}"
    return window_axes(
        attrs.window, attrs.stride, attrs.dilation, attrs.pre_padding, attrs.post_padding, attrs.padding_mode,
        attrs.ceil,
    )  # fmt: skip


class _Means:
    """A unit is 16 channels of a row of results."""

    def __init__(self, routine: Routine, region: Quantized, average: Average) -> None:
        self.routine, self.fn, self.average = routine, routine.function, average
        rows, numbers, zero, self.shares = routine.packed
        fn = self.fn
        self.factor, self.offset = (fn.splat(fn.load(FLOAT, rows, 4 * i), BLOCK) for i in range(2))
        self.zero = fn.splat(fn.load(I32, zero), BLOCK) if region.source.zero >= 0 else None
        self.requantization = Requantization(fn, routine.problem, region, numbers)
        self.unsigned = routine.problem.types[region.source.stored].dtype == "uint8"
        self.size = 1 if region.result.quantized else 4

    def code(self) -> Code:
        average, rows = self.average, self.average.y.count
        blocks = -(-average.channels // BLOCK)
        rest = average.channels % BLOCK

        def unit(number: Value) -> None:
            line, block = number // blocks, number % blocks
            if not rest or blocks == 1:
                self._row(line // rows, line % rows, block, rest or BLOCK)
                return
            self.fn.when(
                self.fn.compare("eq", block, blocks - 1),
                lambda: self._row(line // rows, line % rows, block, rest),
                lambda: self._row(line // rows, line % rows, block, BLOCK),
            )

        self.routine.phase(self.routine.inputs[0].type.shape[0] * (rows * blocks), unit)
        return self.routine.code()

    def _row(self, image: Value, y: Value, block: Value, count: int) -> None:
        fn, average = self.fn, self.average
        taps = average.y.emit_taps(fn, y)
        area, channels = average.y.size * average.x.size, average.channels
        source = fn.offset(self.routine.inputs[0].pointer, image * (area * channels) + block * BLOCK)
        first = (image * average.y.count + y) * average.x.count

        def pixel(x: Value, _: list[Value]) -> Sequence[Value]:
            columns = average.x.emit_taps(fn, x)
            total = self._sum(source, (y, x), (taps, columns), count)
            sides = (taps, columns)
            if average.padded:
                sides = ((0, average.y.emit_counted(fn, y)), (0, average.x.emit_counted(fn, x)))
            share = fn.load(FLOAT, fn.offset(self.shares, self._elements(sides) * 4))
            mean = fn.convert("sitofp", total, FLOAT) * fn.splat(share, BLOCK)
            result = self.requantization.finish(fn.fma(mean, self.factor, self.offset), None)
            place = ((first + x) * channels + block * BLOCK) * self.size
            store_result(fn, result, fn.offset(self.routine.outputs[0].pointer, place), count)
            return ()

        fn.loop(0, average.x.count, pixel)

    def _elements(self, sides: tuple[tuple[Index, Index], tuple[Index, Index]]) -> Value:
        rows, columns = (self.fn.as_value(end, "i64") - begin for begin, end in sides)
        return rows * columns

    def _sum(
        self, source: Value, at: tuple[Value, Value], taps: tuple[tuple[Index, Index], tuple[Index, Index]], count: int
    ) -> Value:
        """Of what a window sees, less the zero points."""
        fn, average = self.fn, self.average
        (first_y, last_y), (first_x, last_x) = taps
        y0, x0 = (a * s.axis.stride + -s.before for a, s in zip(at, (average.y, average.x), strict=True))

        def row(ky: Value, sums: list[Value]) -> Sequence[Value]:
            line = (ky * average.y.axis.dilation + y0) * average.x.size

            def column(kx: Value, inner: list[Value]) -> Sequence[Value]:
                place = (line + kx * average.x.axis.dilation + x0) * average.channels
                stored = fn.load_lanes(vector(BLOCK, I8), source, count, place, 1)
                given = fn.convert("zext" if self.unsigned else "sext", stored, I32)
                return [inner[0] + (given if self.zero is None else given - self.zero)]

            return fn.loop(first_x, last_x, column, sums)

        return fn.loop(first_y, last_y, row, [fn.zero(vector(BLOCK, I32))])[0]
