"""Convolution to a few channels, as images are made of: vectors run along rows, so that no lane waits for a channel.

A block of 16 channels that holds three wastes the rest of every multiplication. Here a register holds 16 pixels of one
output channel, and weights are broadcast. A unit is one row of the output: the rows of the input that it sees are
copied beside zeros for their padding, and every tap is then a load at its own offset.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from tenonrt.contracts import LINEAR, Array, Code, Dimension, GraphView, Layer, Problem, Support, Tactic, Weights

from tenonrt_kernel_llvm.contraction.epilogue import bias_of, named
from tenonrt_kernel_llvm.contraction.geometry import Geometry, geometry_of, read_geometry
from tenonrt_kernel_llvm.emitter import FLOAT, Index, Value, vector
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.scalar_tails import ScalarTail, regions_with_scalar_tail, scalar_tail
from tenonrt_kernel_llvm.target import BLOCK, Target, host_target

MAX_OUTPUTS = 8
MAX_SCRATCH = 1 << 20  # bytes of input rows, of each thread
_VECTOR = 4 * BLOCK  # bytes


class PlanarConvolution(LlvmKernel):
    """float32, up to 8 output channels, stride 1 along rows, ungrouped; constant weights; tails of known numbers."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return regions_with_scalar_tail(view, layer)

    def supports(self, problem: Problem) -> Support:
        geometry, tail = read_geometry(problem), scalar_tail(problem)
        why = geometry if isinstance(geometry, str) else tail if isinstance(tail, str) else _refusal(geometry)
        return Support(False, why) if why else Support(True, runtime_symbols=runtime_symbols(problem))

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        widest = _widest(geometry_of(problem), host_target())
        return [Tactic(f"v{width}", (LINEAR,), (LINEAR,)) for width in sorted({widest, -(-widest // 2)}, reverse=True)]

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        """Two multiply-adds or two loads a cycle at 3 GHz."""
        geometry, width, target = geometry_of(problem), int(tactic.key[1:]), host_target()
        taps = geometry.channels * geometry.y.window * geometry.x.window
        strips, each = -(-_vectors(geometry) // width), width * target.registers_per_block
        cycles = max(each * geometry.outputs, each + geometry.outputs) / 2
        batch = geometry.batch if isinstance(geometry.batch, int) else 1
        return batch * geometry.y.output * strips * taps * cycles / 3e9 / problem.threads

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """[input channel][row][column][output channel], then the bias."""
        problem, geometry, arrays = code.problem, geometry_of(code.problem), named(code, weights)
        dense = arrays[problem.layer.inputs[1]]
        dense = dense if dense.ndim == 4 else dense[:, :, None]
        bias = bias_of(problem)
        offsets = np.zeros(geometry.outputs, np.float32) if bias < 0 else arrays[bias].reshape(-1)
        return [np.ascontiguousarray(dense.transpose(1, 2, 3, 0)), np.ascontiguousarray(offsets)]

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        routine, geometry, tail = Routine(problem, tactic, target, packed=2), geometry_of(problem), scalar_tail(problem)
        assert isinstance(tail, ScalarTail)
        writer = _Rows(routine, geometry, tail, int(tactic.key[1:]))
        rows: Dimension = geometry.batch * geometry.y.output
        routine.phase(rows, writer.row)
        return routine.code(scratch=_scratch(geometry))


def _refusal(geometry: Geometry) -> str:
    if geometry.outputs > MAX_OUTPUTS:
        return f"up to {MAX_OUTPUTS} output channels, not {geometry.outputs}"
    if geometry.groups > 1 or geometry.x.stride != 1:
        return "one group, and stride 1 along rows"
    if geometry.x.padding > (geometry.x.window - 1) * geometry.x.dilation:
        return "padding that is wider than the window"
    return "rows that are longer than the cache" if _scratch(geometry) > MAX_SCRATCH else ""


def _vectors(geometry: Geometry) -> int:
    """Of a row of the output."""
    return -(-geometry.x.output // BLOCK)


def _widest(geometry: Geometry, target: Target) -> int:
    """Vectors of a row whose sums fit the registers beside a vector of each and a weight."""
    registers = target.registers // target.registers_per_block
    return min(_vectors(geometry), max(1, (registers - 3) // (geometry.outputs + 1)))


def _row_bytes(geometry: Geometry) -> int:
    """Of a copied row: whole vectors of output and the taps beside them, so that no load leaves it."""
    reach = (geometry.x.window - 1) * geometry.x.dilation
    return -(-(_vectors(geometry) * BLOCK + reach) // BLOCK) * _VECTOR


def _scratch(geometry: Geometry) -> int:
    return geometry.channels * geometry.y.window * _row_bytes(geometry)


class _Rows:
    """Writes the code of one row of the output."""

    def __init__(self, routine: Routine, geometry: Geometry, tail: ScalarTail, width: int) -> None:
        self.routine, self.geometry, self.tail, self.width = routine, geometry, tail, width
        self.fn, self.row_bytes = routine.function, _row_bytes(geometry)

    def row(self, unit: Value) -> None:
        y, out = self.geometry.y, self.routine.outputs[0]
        image, line = unit // y.output, unit % y.output
        self._copy(image, line)
        axes = len(out.shape) - 2
        start = self.fn.offset(out.pointer, image * out.strides[0])
        if axes == 2:
            start = self.fn.offset(start, line * out.strides[2])
        vectors, whole = _vectors(self.geometry), self.geometry.x.output // BLOCK // self.width

        def strip(index: Value, _: list[Value]) -> Sequence[Value]:
            self._strip(start, index * (self.width * _VECTOR), self.width, BLOCK)
            return ()

        self.fn.loop(0, whole, strip)
        if rest := vectors - whole * self.width:
            last = self.geometry.x.output - (vectors - 1) * BLOCK
            self._strip(start, whole * self.width * _VECTOR, rest, last)

    # the input's rows -------------------------------------------------------------------------------------------------

    def _copy(self, image: Value, line: Value) -> None:
        """What the window sees, [channel][row] of it, zeros where there is no input."""
        fn, y, source = self.fn, self.geometry.y, self.routine.inputs[0]
        first = fn.offset(source.pointer, image * source.strides[0])

        def one(index: Value, _: list[Value]) -> Sequence[Value]:
            channel, row = index // y.window, index % y.window
            place = line * y.stride + row * y.dilation - y.padding
            target = fn.offset(self.routine.scratch, index * self.row_bytes)
            inside = fn.compare("ult", place, y.size)
            given = fn.offset(
                first, channel * source.strides[1] + fn.select(inside, place, 0) * (4 * self.geometry.x.size)
            )
            fn.when(inside, lambda: self._place(given, target), lambda: self._clear(target, 0, self.row_bytes))
            return ()

        fn.loop(0, self.geometry.channels * y.window, one)

    def _place(self, given: Value, target: Value) -> None:
        """A row behind its padding: what is copied beyond its end is then cleared."""
        fn, x = self.fn, self.geometry.x
        used = min(x.size, self.row_bytes // 4 - x.padding)
        self._clear(target, 0, 4 * x.padding)

        def whole(index: Value, _: list[Value]) -> Sequence[Value]:
            fn.store(fn.load(vector(BLOCK), given, index * _VECTOR), target, index * _VECTOR + 4 * x.padding)
            return ()

        fn.loop(0, used // BLOCK, whole)
        done = used // BLOCK * BLOCK
        if used > done:
            rest = fn.load_lanes(vector(BLOCK), given, used - done, 4 * done)
            fn.store_lanes(rest, target, used - done, 4 * (done + x.padding))
        self._clear(target, 4 * (used + x.padding), self.row_bytes)

    def _clear(self, target: Value, start: int, end: int) -> None:
        """The bytes from ``start`` to before ``end``."""
        fn, zero = self.fn, self.fn.zero(vector(BLOCK))
        whole = (end - start) // _VECTOR

        def one(index: Value, _: list[Value]) -> Sequence[Value]:
            fn.store(zero, target, index * _VECTOR + start)
            return ()

        fn.loop(0, whole, one)
        if rest := (end - start) % _VECTOR:
            fn.store_lanes(zero, target, rest // 4, start + whole * _VECTOR)

    # the output's pixels ----------------------------------------------------------------------------------------------

    def _strip(self, start: Value, offset: Index, vectors: int, last: int) -> None:
        """Some vectors of a row, of all output channels. last: lanes of the last one that are pixels."""
        fn, outputs, out = self.fn, self.geometry.outputs, self.routine.outputs[0]
        sums = [
            fn.splat(fn.load(FLOAT, self.routine.packed[1], 4 * o), BLOCK)
            for o in range(outputs)
            for _ in range(vectors)
        ]
        found = self._taps(offset, vectors, sums)
        for index, total in enumerate(found):
            o, v = divmod(index, vectors)
            lanes = last if v == vectors - 1 else BLOCK
            row = fn.offset(fn.offset(start, o * out.strides[1]), offset)
            fn.store_lanes(self.tail.apply(fn, total), row, lanes, v * _VECTOR)

    def _taps(self, offset: Index, vectors: int, sums: list[Value]) -> list[Value]:
        """The sums with every tap of every input row added."""
        fn, geometry = self.fn, self.geometry
        outputs, columns = geometry.outputs, geometry.x.window

        def row(index: Value, carried: list[Value]) -> Sequence[Value]:
            given = fn.offset(fn.offset(self.routine.scratch, index * self.row_bytes), offset)
            weights = fn.offset(self.routine.packed[0], index * (4 * columns * outputs))
            totals = list(carried)
            for column in range(columns):
                at = 4 * column * geometry.x.dilation
                pixels = [fn.load(vector(BLOCK), given, at + v * _VECTOR) for v in range(vectors)]
                for o in range(outputs):
                    weight = fn.splat(fn.load(FLOAT, weights, 4 * (column * outputs + o)), BLOCK)
                    for v in range(vectors):
                        totals[o * vectors + v] = fn.fma(weight, pixels[v], totals[o * vectors + v])
            return totals

        return fn.loop(0, geometry.channels * geometry.y.window, row, sums)
