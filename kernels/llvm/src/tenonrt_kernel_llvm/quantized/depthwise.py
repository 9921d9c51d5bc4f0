"""Quantized depthwise convolution: 16 channels at a time, their zero point taken away as they are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from tenonrt.contracts import Array, Code, GraphView, Layer, Problem, Support, Tactic, Weights

from tenonrt_kernel_llvm.contraction.geometry import inside_rows
from tenonrt_kernel_llvm.contraction.tiles import Run, padded_runs, runs_of
from tenonrt_kernel_llvm.emitter import FLOAT, I8, I32, Index, Value, vector
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.quantized.engines import VNNI, engines_for
from tenonrt_kernel_llvm.quantized.geometry import Shape, formats_of, read_shape
from tenonrt_kernel_llvm.quantized.problem import Quantized, read_quantized
from tenonrt_kernel_llvm.quantized.regions import quantized_regions
from tenonrt_kernel_llvm.quantized.requantization import PAIR, Requantization, pack_stages, store_result
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.target import BLOCK, Target, host_target

_MAX_EDGES = 12  # tiles of a row that stand alone; code grows with them


class QuantizedDepthwise(LlvmKernel):
    """One filter for each channel; any window, stride, dilation, padding and batch."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return quantized_regions(view, layer)

    def supports(self, problem: Problem) -> Support:
        found = _read(problem)
        if isinstance(found, str):
            return Support(False, found)
        return Support(True, runtime_symbols=runtime_symbols(problem))

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        region, shape = _accepted(problem)
        inputs, outputs = formats_of(problem, region)
        most = max(2, host_target().registers - shape.x.window - 12)
        widths = dict.fromkeys(min(width, most, shape.x.output) for width in (14, 8, 7, 4))
        fitting = [w for w in widths if len([r for r in _runs(shape, w) if r.taps is not None]) <= _MAX_EDGES] or [1]
        return [Tactic(f"w{width}", inputs, outputs) for width in fitting]

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Weights as 32 bits [blocks, rows, columns, 16], factors, numbers of the stages, the zero point."""
        problem = code.problem
        region, shape = _accepted(problem)
        assert region.weights is not None
        arrays = dict(zip(problem.constants, weights.constants, strict=True))
        rows, columns, blocks = shape.y.window, shape.x.window, -(-shape.outputs // BLOCK)
        wide = np.zeros((blocks * BLOCK, rows, columns), np.int32)
        wide[: shape.outputs] = arrays[region.weights.stored].reshape(-1, rows, columns)
        wide &= 0xFFFF  # a pair of 16 bits of which the second is zero
        packed = wide.reshape(blocks, BLOCK, rows, columns).transpose(0, 2, 3, 1)
        scale = arrays[region.source.scale].reshape(()).astype(np.float64)
        scale = scale * arrays[region.weights.scale].reshape(-1).astype(np.float64)
        zero = int(arrays[region.source.zero].reshape(())) if region.source.zero >= 0 else 0
        stages = pack_stages(region, arrays, scale, shape.outputs)
        return [np.ascontiguousarray(packed), *stages, np.array([zero], np.int32)]

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        region, shape = _accepted(problem)
        if any(engine is VNNI for engine in engines_for(target)):
            target = VNNI.extend(target)
        routine = Routine(problem, tactic, target, packed=4)
        return _Depthwise(routine, region, shape, int(tactic.key[1:])).code()


def _read(problem: Problem) -> tuple[Quantized, Shape] | str:
    region = read_quantized(problem, frozenset({"Convolution"}))
    if isinstance(region, str):
        return region
    shape = read_shape(problem, region)
    if isinstance(shape, str):
        return shape
    if not 1 < shape.groups == shape.channels == shape.outputs:
        return "computes one filter for each channel only"
    if not region.result.quantized:
        return "its result is not quantized"
    assert region.weights is not None
    scale = problem.types[region.weights.scale].size
    maker = next(layer for layer in problem.layers if region.anchor.inputs[1] in layer.outputs)
    if scale not in (1, shape.outputs) or (scale != 1 and maker.attrs.axis % 4):
        return "its weights have neither one scale nor one for each channel"
    return region, shape


def _accepted(problem: Problem) -> tuple[Quantized, Shape]:
    found = _read(problem)
    assert not isinstance(found, str), found
    return found


def _runs(shape: Shape, width: int) -> list[Run]:
    if shape.x.padded:
        return padded_runs(shape.x.output, width, shape.x.taps())
    return runs_of(shape.x.output, width)


class _Depthwise:
    """A unit is a row of outputs, all channels."""

    def __init__(self, routine: Routine, region: Quantized, shape: Shape, width: int) -> None:
        self.routine, self.fn, self.region, self.shape = routine, routine.function, region, shape
        problem = routine.problem
        self.weights, self.factors, numbers, zero = routine.packed
        self.requantization = Requantization(self.fn, problem, region, numbers)
        has_zero = region.source.zero >= 0
        self.zero = self.fn.splat(self.fn.load(I32, zero), BLOCK) if has_zero else None
        self.source = routine.inputs[problem.activations.index(region.source.stored)].pointer
        self.unsigned = problem.types[region.source.stored].dtype == "uint8"
        others = [s.other.stored for s in region.stages if s.other is not None]
        self.other = routine.inputs[problem.activations.index(others[0])].pointer if others else None
        self.runs = _runs(shape, width)

    def code(self) -> Code:
        shape, rows = self.shape, self.shape.y.output

        def unit(number: Value) -> None:
            self._row(number // rows, number % rows)

        self.routine.phase(shape.images * rows, unit)
        return self.routine.code()

    def _row(self, image: Value, y: Value) -> None:
        fn, shape = self.fn, self.shape
        whole, rest = divmod(shape.channels, BLOCK)
        begin = y * shape.y.stride + -shape.y.padding
        rows = inside_rows(fn, begin, shape.y) if shape.y.padded else (0, shape.y.window)
        line = (image * shape.y.size + begin) * (shape.x.size * shape.channels)
        source = fn.offset(self.source, line)
        target = (image * shape.y.output + y) * (shape.x.output * shape.channels)
        for run in self.runs:

            def tile(number: Value, _: list[Value], run: Run = run) -> Sequence[Value]:
                x = number * run.width + run.start

                def block(index: Value, _: list[Value]) -> Sequence[Value]:
                    self._tile(source, target, x, index, run, rows, BLOCK)
                    return ()

                fn.loop(0, whole, block)
                if rest:
                    self._tile(source, target, x, fn.constant("i64", whole), run, rows, rest)
                return ()

            fn.loop(0, run.count, tile)

    def _tile(
        self, source: Value, target: Value, x: Value, block: Value, run: Run, rows: tuple[Index, Index], count: int
    ) -> None:
        fn, shape = self.fn, self.shape
        row_bytes, taps = shape.x.size * shape.channels, shape.x.window * 64
        corner = fn.offset(source, (x * shape.x.stride + -shape.x.padding) * shape.channels + block * BLOCK)
        weights = fn.offset(self.weights, block * (shape.y.window * taps))

        def row(number: Value, sums: list[Value]) -> Sequence[Value]:
            line = fn.offset(corner, number * (shape.y.dilation * row_bytes))
            return self._window_row(line, fn.offset(weights, number * taps), run, sums, count)

        sums = fn.loop(rows[0], rows[1], row, [fn.zero(vector(BLOCK, I32))] * run.width)
        self._store(sums, target + x * shape.channels + block * BLOCK, block, count)

    def _window_row(self, line: Value, weights: Value, run: Run, sums: list[Value], count: int) -> list[Value]:
        """Every input times the weights of all pixels that see it."""
        fn, axis = self.fn, self.shape.x
        sums = list(sums)
        taps = run.taps or [range(run.width)] * axis.window
        seen: dict[int, list[tuple[int, int]]] = {}
        for tap, present in enumerate(taps):
            for pixel in present:
                seen.setdefault(pixel * axis.stride + tap * axis.dilation, []).append((pixel, tap))
        loaded = [fn.load(vector(BLOCK, I32), weights, tap * 64) for tap in range(axis.window)]
        for column in sorted(seen):
            stored = fn.load_lanes(vector(BLOCK, I8), line, count, column * self.shape.channels, 1)
            given = fn.convert("zext" if self.unsigned else "sext", stored, I32)
            if self.zero is not None:
                given = given - self.zero
            for pixel, tap in seen[column]:
                sums[pixel] = sums[pixel] + self._product(given, loaded[tap])
        return sums

    def _product(self, given: Value, weights: Value) -> Value:
        """Of the lower 16 bits, which hold both; LLVM makes one instruction of it and the sum where there is one."""
        fn = self.fn
        if self.routine.target.lanes == BLOCK:
            pairs = [fn.convert_bits(value, vector(2 * BLOCK, "i16")) for value in (given, weights)]
            return fn.call("llvm.x86.avx512.pmaddw.d.512", vector(BLOCK, I32), pairs)
        shifted = fn.binary("shl", weights, fn.constant(weights.type, 16))
        return given * fn.binary("ashr", shifted, fn.constant(weights.type, 16))

    def _store(self, sums: Sequence[Value], target: Value, block: Value, count: int) -> None:
        fn, channels = self.fn, self.shape.channels
        row_bytes = 4 * -(-channels // PAIR) * PAIR
        channel = fn.offset(self.factors, block * 64)
        factor, offset = fn.load(vector(BLOCK), channel), fn.load(vector(BLOCK), channel, row_bytes)
        for pixel, total in enumerate(sums):
            at = target + pixel * channels
            real = fn.fma(fn.convert("sitofp", total, FLOAT), factor, offset)
            other = None if self.other is None else fn.load_lanes(vector(BLOCK, I8), self.other, count, at, 1)
            result = self.requantization.finish(real, other)
            store_result(fn, result, fn.offset(self.routine.outputs[0].pointer, at), count)
