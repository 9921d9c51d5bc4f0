"""Pointwise regions of any length in one pass: every operand is read once, with broadcasting, and the result written.

The loops run over the result's physical axes, neighbours merged where every operand allows it, the last in vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from tenonrt.contracts import (
    LINEAR,
    NCHW16C,
    NHWC,
    Array,
    Code,
    Dim,
    Dimension,
    Format,
    GraphView,
    Layer,
    Problem,
    Support,
    Tactic,
    Tensor,
    Weights,
    broadcasts_to,
    to_storage,
)

from tenonrt_kernel_llvm.emitter import I32, I64, Function, Index, Value, vector
from tenonrt_kernel_llvm.indexing import known, times
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.operations import BYTES, REGISTER, compute, load, refusal, scalar_values, store
from tenonrt_kernel_llvm.routine import Operand, Routine, dense_strides
from tenonrt_kernel_llvm.tails import KINDS as TAIL_KINDS
from tenonrt_kernel_llvm.tails import grow
from tenonrt_kernel_llvm.target import BLOCK, Target

KINDS = TAIL_KINDS | {"Quantize", "Dequantize", "Saturate"}
MAX_LAYERS = 256
UNIT_ELEMENTS = 1 << 13  # a unit of a few microseconds
TOGETHER = 2  # vectors in flight


class PointwiseKernel(LlvmKernel):
    """float32, int32, int64 and bool; rows of any rank, or images in blocks of 16 channels; any broadcasting."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        yield (layer,)
        if layer.kind not in KINDS or any(_absorbs(view, t, layer) for t in layer.inputs if t is not None):
            return
        region = [layer]
        while (grown := grow(view, region, _spreads, MAX_LAYERS, KINDS)) is not None:
            region += grown
        if len(region) > 1:
            yield region

    def supports(self, problem: Problem) -> Support:
        why = next(filter(None, (refusal(problem, layer) for layer in problem.layers)), "")
        if not why and len(problem.outputs) != 1:
            why = "an interior result is wanted outside of the region"
        if not why and any(given.role == "host" for given in problem.inputs):
            why = "an input is on the host"
        if not why and problem.outputs[0] != problem.layers[-1].outputs[0]:
            why = "the result is not the last layer's"
        return Support(False, why) if why else Support(True, runtime_symbols=runtime_symbols(problem))

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        found = [_tactic(problem, LINEAR)]
        if _fits_blocks(problem):
            found.append(_tactic(problem, NCHW16C))
        if _fits_bytes(problem):
            found.append(_tactic(problem, NHWC))
        return found

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """The constants of more than one element as the result is stored, then the mask of channels that exist."""
        problem, format = code.problem, code.tactic.output_format(0)
        arrays = dict(zip(problem.constants, weights.constants, strict=True))
        packed = []
        for number in packed_constants(problem):
            type = problem.types[number]
            packed.append(to_storage(arrays[number], type.stored_as(format if format.fits(type.rank) else LINEAR)))
        if _is_ragged(problem, format):
            channels = int(problem.types[problem.outputs[0]].shape[1])  # type: ignore[arg-type]
            mask = np.zeros(-(-channels // BLOCK) * BLOCK, np.int32)
            mask[:channels] = -1
            packed.append(mask)
        return packed

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        count = len(packed_constants(problem)) + _is_ragged(problem, tactic.output_format(0))
        return _Chain(Routine(problem, tactic, target, packed=count)).code()


def _absorbs(view: GraphView, tensor: Tensor, layer: Layer) -> bool:
    """Whether the producer of a tensor takes its only reader along."""
    producer = view.producer(tensor)
    if producer is None or producer.kind not in KINDS or view.is_output(tensor):
        return False
    return len(view.consumers(tensor)) == 1 and tensor.type.shape == layer.outputs[0].type.shape


def _spreads(tensor: Tensor, result: Tensor) -> bool:
    return broadcasts_to(tensor.type.shape, result.type.shape)


def packed_constants(problem: Problem) -> list[int]:
    """Constants that are read from memory."""
    scalars = scalar_values(problem)
    return [number for number in problem.constants if number not in scalars]


def _fits_blocks(problem: Problem) -> bool:
    """Whether blocks of 16 channels suit every operand: images, values for each channel, single numbers."""
    result = problem.types[problem.outputs[0]]
    if result.rank != 4 or result.dtype != "float32" or not isinstance(result.shape[1], int):
        return False
    for number in (*problem.activations, *packed_constants(problem)):
        type = problem.types[number]
        if type.dtype != "float32" or type.rank != 4 or type.shape[1] != result.shape[1]:
            return False
    return all(
        problem.types[t].rank == 4 or t in scalar_values(problem) for layer in problem.layers for t in layer.inputs
    )


def _fits_bytes(problem: Problem) -> bool:
    """Whether bytes with channels innermost suit every operand: images of one shape, single numbers."""
    result = problem.types[problem.outputs[0]]
    given = [problem.types[number] for number in problem.activations]
    alike = result.rank == 4 and all(type.shape == result.shape for type in given)
    single = all(problem.types[number].size == 1 for number in packed_constants(problem))
    return alike and single and any(type.dtype in BYTES for type in (*given, result))


def _is_ragged(problem: Problem, format: Format) -> bool:
    channels = problem.types[problem.outputs[0]].shape[1] if format.blocks else BLOCK
    return isinstance(channels, int) and channels % BLOCK != 0


def _tactic(problem: Problem, format: Format) -> Tactic:
    result = problem.types[problem.outputs[0]]
    same = [
        (0, k) for k, i in enumerate(problem.activations)
        if (problem.types[i].shape, problem.types[i].dtype) == (result.shape, result.dtype)
    ]  # fmt: skip
    inputs = tuple(format for _ in problem.activations)
    strided = tuple(range(len(inputs))) if format.blocks else ()
    return Tactic(
        str(format), inputs, (format,), inplace=tuple(same), reads_strided=strided,
        writes_strided=(0,) if format.blocks else (),
    )  # fmt: skip


@dataclass(frozen=True)
class Stream:
    """An operand while looping: its element type, where it begins, and bytes per step of each axis (0: broadcast)."""

    number: int
    dtype: str
    pointer: Value
    strides: tuple[Index, ...]


class _Chain:
    """Writes the loops of one region."""

    def __init__(self, routine: Routine) -> None:
        self.routine, self.fn, self.problem = routine, routine.function, routine.problem
        out = routine.outputs[0]
        self.result = self.problem.outputs[0]
        type = self.problem.types[self.result]
        self.output = Stream(self.result, type.dtype, out.pointer, out.strides)
        self.streams = [self._stream(number, routine.inputs[k]) for k, number in enumerate(self.problem.activations)]
        for number, pointer in zip(packed_constants(self.problem), routine.packed, strict=False):
            self.streams.append(self._constant(number, pointer, out))
        self.mask = self._mask_stream(out) if _is_ragged(self.problem, out.type.format) else None
        self.axes: list[Dimension] = list(out.type.physical_shape)
        self._merge()

    def code(self) -> Code:
        axes, fn = self.axes, self.fn
        batch: Dimension = axes[0] if isinstance(axes[0], Dim) else 1
        outer = axes[1:-1] if isinstance(axes[0], Dim) else axes[:-1]
        rows = [known(d) for d in outer]
        length, total = known(axes[-1]), math.prod(rows)
        if 0 in (length, total):
            self.routine.phase(0, lambda unit: None)
            return self.routine.code()
        parts = max(1, min(length // (TOGETHER * BLOCK), length // UNIT_ELEMENTS))
        each = -(-length // parts // BLOCK) * BLOCK
        parts = -(-length // each)
        group = min(total, max(1, UNIT_ELEMENTS // length))
        groups = -(-total // group)

        def unit(number: Value) -> None:
            rest, part = number // parts, number % parts
            image, block = rest // groups, rest % groups
            first, last = block * group, fn.minimum(block * group + group, total)

            def row(index: Value, _: list[Value]) -> Sequence[Value]:
                self._row(image, index, rows, part * each, fn.minimum(part * each + each, length), length, parts)
                return ()

            fn.loop(first, last, row)

        self.routine.phase(batch * (groups * parts), unit)
        return self.routine.code()

    # operands --------------------------------------------------------------------------------------------------------

    def _stream(self, number: int, operand: Operand) -> Stream:
        physical = operand.type.physical_shape
        strides = self._aligned(physical, operand.strides)
        return Stream(number, operand.type.dtype, operand.pointer, strides)

    def _constant(self, number: int, pointer: Value, out: Operand) -> Stream:
        type = self.problem.types[number]
        stored = type.stored_as(out.type.format if out.type.format.fits(type.rank) else LINEAR)
        strides = dense_strides([known(d) for d in stored.physical_shape], stored.numpy.itemsize)
        return Stream(number, type.dtype, pointer, self._aligned(stored.physical_shape, strides))

    def _mask_stream(self, out: Operand) -> Stream:
        strides = [0] * len(out.shape)
        strides[1], strides[-1] = 4 * BLOCK, 4
        return Stream(-1, "int32", self.routine.packed[-1], tuple(strides))

    def _aligned(self, physical: Sequence[Dimension], strides: Sequence[Index]) -> tuple[Index, ...]:
        """Strides for the result's axes: axes are aligned at the end, and those of size 1 do not move."""
        missing = len(self.output.strides) - len(physical)
        own = tuple(0 if size == 1 else stride for size, stride in zip(physical, strides, strict=True))
        return (*[0] * missing, *own)

    def _merge(self) -> None:
        """Make one axis of two neighbours where every operand steps through them evenly."""
        every = [self.output, *self.streams, *([self.mask] if self.mask else [])]
        strides = [list(stream.strides) for stream in every]
        axes = list(self.axes) or [1]
        if not self.axes:
            strides = [[0] for _ in every]
        axis = len(axes) - 2
        while axis >= 0:
            inner = axes[axis + 1]
            if isinstance(axes[axis], int) and isinstance(inner, int):
                even = all(isinstance(s[axis], int) and s[axis] == times(s[axis + 1], inner) for s in strides)
                if even or axes[axis] == 1:
                    axes[axis : axis + 2] = [axes[axis] * inner]
                    for s in strides:
                        del s[axis]
            axis -= 1
        if isinstance(axes[-1], Dim):
            axes.append(1)
            strides = [[*s, 0] for s in strides]
        self.axes = axes
        made = [Stream(e.number, e.dtype, e.pointer, tuple(s)) for e, s in zip(every, strides, strict=True)]
        self.output, self.streams = made[0], made[1 : 1 + len(self.streams)]
        self.mask = made[-1] if self.mask else None

    # loops -----------------------------------------------------------------------------------------------------------

    def _row(
        self, image: Value, row: Value, rows: Sequence[int], first: Value, last: Index, length: int, parts: int
    ) -> None:
        """One row of the innermost axis, from ``first`` to ``last``."""
        fn = self.fn
        indices: list[Value] = []
        rest = row
        for size in reversed(rows[1:]):
            indices.insert(0, rest % size)
            rest = rest // size
        if rows:
            indices.insert(0, rest)
        if len(self.axes) - 1 > len(rows):
            indices.insert(0, image)
        at = {id(stream): self._start(stream, indices) for stream in self._all()}
        if parts == 1:
            self._whole_row(at, length)
        else:
            self._part_of_row(at, first, fn.as_value(last, I64), length)

    def _whole_row(self, at: dict[int, Value], length: int) -> None:
        """A row of known length."""
        whole = length // (TOGETHER * BLOCK)

        def several(number: Value, _: list[Value]) -> Sequence[Value]:
            self._vectors(at, number * (TOGETHER * BLOCK), TOGETHER, None)
            return ()

        self.fn.loop(0, whole, several)
        self._rest(at, whole * TOGETHER * BLOCK, length)

    def _part_of_row(self, at: dict[int, Value], first: Value, last: Value, length: int) -> None:
        """Elements [first, last) of a row, of which only the last part can end within a vector."""
        fn, many = self.fn, TOGETHER * BLOCK
        whole = (last - first) // many

        def several(number: Value, _: list[Value]) -> Sequence[Value]:
            self._vectors(at, number * many + first, TOGETHER, None)
            return ()

        def single(number: Value, _: list[Value]) -> Sequence[Value]:
            self._vectors(at, number, 1, None)
            return ()

        fn.loop(0, whole, several)
        start = whole * many + first
        fn.loop(start, (last - start) // BLOCK * BLOCK + start, single, step=BLOCK)
        tail = length % BLOCK
        if tail:
            ends = fn.compare("eq", last, length)
            fn.when(ends, lambda: self._vectors(at, fn.constant(I64, length - tail), 1, tail))

    def _rest(self, at: dict[int, Value], start: int, end: int) -> None:
        """What is left of a row of known length."""
        while end - start >= BLOCK:
            self._vectors(at, self.fn.constant(I64, start), 1, None)
            start += BLOCK
        if end > start:
            self._vectors(at, self.fn.constant(I64, start), 1, end - start)

    def _all(self) -> list[Stream]:
        return [self.output, *self.streams, *([self.mask] if self.mask else [])]

    def _start(self, stream: Stream, indices: Sequence[Value]) -> Value:
        fn, pointer = self.fn, stream.pointer
        for index, stride in zip(indices, stream.strides, strict=False):
            if not (isinstance(stride, int) and stride == 0):
                pointer = fn.offset(pointer, index * stride)
        return pointer

    def _vectors(self, at: dict[int, Value], index: Value, count: int, lanes: int | None) -> None:
        """Compute some vectors from an element on; ``lanes``: of the only one, where it is not whole."""
        fn, results = self.fn, []
        for step in range(count):
            place = index + step * BLOCK
            values: dict[int, Value] = {
                number: _constant(fn, self.problem, number, value)
                for number, value in scalar_values(self.problem).items()
            }
            for stream in self.streams:
                values[stream.number] = self._load(stream, at[id(stream)], place, lanes)
            compute(fn, self.problem, self.problem.layers, values)
            result = values[self.result]
            if self.mask is not None:
                mask = self._load(self.mask, at[id(self.mask)], place, lanes)
                result = fn.convert("bitcast", fn.binary("and", fn.convert("bitcast", result, I32), mask), "float")
            results.append((place, result))
        for place, result in results:
            size = self.problem.types[self.result].numpy.itemsize
            store(fn, self.output.dtype, result, fn.offset(at[id(self.output)], place * size), 0, lanes)

    def _load(self, stream: Stream, pointer: Value, place: Value, lanes: int | None) -> Value:
        fn, step = self.fn, stream.strides[-1]
        if isinstance(step, int) and step == 0:
            return fn.splat(load(fn, stream.dtype, pointer, 0, 1), BLOCK)
        return load(fn, stream.dtype, fn.offset(pointer, place * step), 0, BLOCK, lanes)


def _constant(fn: Function, problem: Problem, number: int, value: float) -> Value:
    type = problem.types[number]
    return fn.constant(vector(BLOCK, REGISTER[type.dtype]), value)
