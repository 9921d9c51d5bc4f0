"""Maxima of windows over images of bytes, channels innermost."""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt.contracts import NHWC, Code, Problem, Support, Tactic

from tenonrt_kernel_llvm.emitter import I8, Index, Value, vector
from tenonrt_kernel_llvm.indexing import known
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.pooling import slides
from tenonrt_kernel_llvm.quantized.problem import BYTES
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.target import Target


class BytePooling(LlvmKernel):
    """Maximum of 2-D windows of int8 and uint8."""

    def supports(self, problem: Problem) -> Support:
        source, attrs = problem.types[0], problem.layer.attrs
        result = problem.types[problem.layer.outputs[0]]
        if len(problem.layers) != 1 or source.dtype not in BYTES or source.rank != 4:
            return Support(False, "computes one pooling of images of bytes")
        if attrs.function != "max" or attrs.with_indices:
            return Support(False, "computes maxima without their places")
        if not source.reshape(source.shape[1:]).static or 0 in (*source.shape, *result.shape):
            return Support(False, "all sizes but the batch must be known, and none 0")
        return Support(True, runtime_symbols=runtime_symbols(problem))

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return (Tactic("nhwc", (NHWC,), (NHWC,)),)

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        return _Maxima(Routine(problem, tactic, target)).code()


class _Maxima:
    """A unit is a row of outputs."""

    def __init__(self, routine: Routine) -> None:
        self.routine, self.fn = routine, routine.function
        problem = routine.problem
        _, self.y, self.x = slides(problem, merge=False)
        self.channels = known(problem.types[0].shape[1])
        self.unsigned = problem.types[0].dtype == "uint8"

    def code(self) -> Code:
        fn, rows, width = self.fn, self.y.count, self.x.count
        source, result = self.routine.inputs[0], self.routine.outputs[0]

        def unit(number: Value) -> None:
            image, y = number // rows, number % rows
            ys = self.y.emit_taps(fn, y)
            base = fn.offset(source.pointer, image * (self.y.size * self.x.size * self.channels))

            def pixel(x: Value, _: list[Value]) -> Sequence[Value]:
                target = fn.offset(result.pointer, (number * width + x) * self.channels)
                self._pixel(base, (y, x), (ys, self.x.emit_taps(fn, x)), target)
                return ()

            fn.loop(0, width, pixel)

        self.routine.phase(source.type.shape[0] * rows, unit)
        return self.routine.code()

    def _pixel(
        self, base: Value, at: tuple[Value, Value], taps: tuple[tuple[Index, Index], tuple[Index, Index]], target: Value
    ) -> None:
        whole = self.channels // 64

        def piece(number: Value, _: list[Value]) -> Sequence[Value]:
            self._piece(base, at, taps, target, number * 64, 64)
            return ()

        self.fn.loop(0, whole, piece)
        start = whole * 64
        while start < self.channels:
            size = 1 << ((self.channels - start).bit_length() - 1)
            self._piece(base, at, taps, target, self.fn.constant("i64", start), size)
            start += size

    def _piece(
        self, base: Value, at: tuple[Value, Value], taps: tuple[tuple[Index, Index], tuple[Index, Index]],
        target: Value, channel: Value, lanes: int,
    ) -> None:  # fmt: skip
        """Some channels of a pixel."""
        fn, type = self.fn, vector(lanes, I8)
        (first_y, last_y), (first_x, last_x) = taps
        y0, x0 = (a * s.axis.stride + -s.before for a, s in zip(at, (self.y, self.x), strict=True))

        def row(ky: Value, sums: list[Value]) -> Sequence[Value]:
            y = ky * self.y.axis.dilation + y0

            def column(kx: Value, inner: list[Value]) -> Sequence[Value]:
                x = kx * self.x.axis.dilation + x0
                given = fn.load(type, base, (y * self.x.size + x) * self.channels + channel, 1)
                return [fn.intrinsic("umax" if self.unsigned else "smax", type, [inner[0], given])]

            return fn.loop(first_x, last_x, column, sums)

        least = fn.constant(type, 0 if self.unsigned else -128)
        (found,) = fn.loop(first_y, last_y, row, [least])
        fn.store(found, fn.offset(target, channel), 0, 1)
