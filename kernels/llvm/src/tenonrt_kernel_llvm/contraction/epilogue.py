"""What happens to a tile of sums before it is stored: bias, the pointwise tail, zeros in lanes that are padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tenonrt.contracts import NCHW16C, Array, Code, Format, Problem, Tactic, Weights

from tenonrt_kernel_llvm.contraction.microkernel import BLOCK_BYTES, VECTOR
from tenonrt_kernel_llvm.emitter import I32, Index, Value, vector
from tenonrt_kernel_llvm.operations import compute, scalar_values
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.tails import Tail, read_tail
from tenonrt_kernel_llvm.target import BLOCK


@dataclass(frozen=True)
class Place:
    """Where a tile is: its image, its first block of channels, and the bytes from an image's start to its first pixel.

    The last holds for the output and for every operand as large as the output, since they are stored alike.
    """

    image: Index
    block: Index
    offset: Index


class Epilogue:
    """Finishes tiles of one problem. Packed weights from ``first`` on are its own: a row per vector of channels."""

    def __init__(self, routine: Routine, bias: int, channels: int, first: int) -> None:
        tail = read_tail(routine.problem)
        assert not isinstance(tail, str), tail
        self.routine, self.tail, self.channels = routine, tail, channels
        self.ragged = channels % BLOCK != 0 and bool(tail.layers)
        constants = channel_constants(routine.problem, tail, bias)
        self._rows = {number: routine.packed[first + row] for row, number in enumerate(constants)}
        self._bias = bias
        self._mask = routine.packed[first + len(constants)] if self.ragged else None
        self._scalars = scalar_values(routine.problem)

    def store(self, sums: Sequence[Value], blocks: int, place: Place, pixel: int, block: int) -> None:
        """Finish and store a tile; pixel and block: bytes from one to the next in the output."""
        fn, out = self.routine.function, self.routine.outputs[0]
        base = fn.offset(out.pointer, place.image * out.strides[0] + place.offset if isinstance(place.image, Value)
                         else place.offset)  # fmt: skip
        channel = {b: self._channel_values(place, b) for b in range(blocks)}
        full = {
            number: self._full_base(number, place) for number, reach in self.tail.operands.items() if reach == "full"
        }
        for index, total in enumerate(sums):
            p, b = divmod(index, blocks)
            values = dict(channel[b])
            bias = values.pop(self._bias, None)
            values[self.tail.result] = total if bias is None else total + bias
            for number, pointer in full.items():
                values[number] = fn.load(VECTOR, pointer, p * pixel + b * block)
            compute(fn, self.routine.problem, self.tail.layers, values)
            result = values[self.routine.problem.outputs[0]]
            fn.store(self._masked(result, place, b), base, p * pixel + b * block)

    def _channel_values(self, place: Place, block: int) -> dict[int, Value]:
        """Operands that have one value for each channel, or one in all."""
        fn, problem = self.routine.function, self.routine.problem
        found = {}
        for number, row in self._rows.items():
            at = (place.block + block) * BLOCK_BYTES
            found[number] = fn.load(VECTOR, row, at)
        for number, reach in self.tail.operands.items():
            if number in self._scalars:
                found[number] = fn.constant(VECTOR, self._scalars[number])
            elif reach != "full" and number in problem.activations:
                found[number] = self._activation(number, reach, place, block)
        return found

    def _activation(self, number: int, reach: str, place: Place, block: int) -> Value:
        fn, operand = self.routine.function, self.routine.inputs[self.routine.problem.activations.index(number)]
        image: Index = 0
        if operand.type.rank == self.routine.outputs[0].type.rank and operand.type.shape[0] != 1:
            image = place.image * operand.strides[0] if isinstance(place.image, Value) else 0
        pointer = fn.offset(operand.pointer, image)
        if reach == "scalar":
            return fn.splat(fn.load("float", pointer), BLOCK)
        return fn.load(VECTOR, pointer, (place.block + block) * BLOCK_BYTES)

    def _full_base(self, number: int, place: Place) -> Value:
        fn, operand = self.routine.function, self.routine.inputs[self.routine.problem.activations.index(number)]
        image = place.image * operand.strides[0] if isinstance(place.image, Value) else 0
        return fn.offset(
            operand.pointer, place.offset + image if isinstance(place.offset, Value) else image + place.offset
        )

    def _masked(self, value: Value, place: Place, block: int) -> Value:
        if self._mask is None:
            return value
        fn, integers = self.routine.function, vector(BLOCK, I32)
        mask = fn.load(integers, self._mask, (place.block + block) * BLOCK_BYTES)
        bits = fn.binary("and", fn.convert("bitcast", value, I32), mask)
        return fn.convert("bitcast", bits, "float")


def channel_constants(problem: Problem, tail: Tail, bias: int) -> list[int]:
    """The bias (-1: none) and the constants of the tail that have one value for each channel."""
    own = [bias] if bias >= 0 else []
    scalars = scalar_values(problem)
    return own + [n for n, reach in tail.operands.items() if n in problem.constants and n not in scalars]


def pack_epilogue(problem: Problem, tail: Tail, bias: int, channels: int, arrays: dict[int, Array]) -> list[Array]:
    """What `Epilogue` reads: rows of channels padded with zeros, then the mask of channels that exist."""
    padded = -(-channels // BLOCK) * BLOCK
    rows = []
    for number in channel_constants(problem, tail, bias):
        row = np.zeros(padded, np.float32)
        row[:channels] = np.broadcast_to(arrays[number].reshape(-1), (channels,))
        rows.append(row)
    if channels % BLOCK and tail.layers:
        mask = np.zeros(padded, np.int32)
        mask[:channels] = -1
        rows.append(mask)
    return rows


def operand_formats(problem: Problem, tail: Tail, source: Format, result: Format) -> tuple[Format, ...]:
    """The formats of a tactic's activations: the anchor's input, then the tail's operands stored as the result is."""
    formats = []
    for number in problem.activations:
        type = problem.types[number]
        if number == problem.layer.inputs[0] and number not in tail.operands:
            formats.append(source)
        elif result == NCHW16C and type.rank < 2:
            formats.append(Format())
        else:
            formats.append(result)
    return tuple(formats)


def tail_refusal(problem: Problem, tail: Tail) -> str:
    """Why a tail of a blocked result cannot be finished here; empty when it can."""
    result = problem.types[tail.result]
    for number, reach in tail.operands.items():
        type = problem.types[number]
        if type.dtype != "float32":
            return f"its tail reads {type}"
        constant = number in problem.constants
        if constant and reach == "full":
            return "its tail reads a constant as large as the result"
        if not constant and reach == "channel" and type.rank != result.rank:
            return f"its tail reads a computed {type} for the channels of {result}"
        if number == problem.layer.inputs[0] and reach != "full":
            return "its tail reads the anchor's input in another way"
    return (
        ""
        if all(problem.types[t].dtype == "float32" for layer in tail.layers for t in layer.outputs)
        else ("its tail has results that are not float32")
    )


def named(code: Code, weights: Weights) -> dict[int, Array]:
    """The real constants by their numbers in the problem."""
    return dict(zip(code.problem.constants, weights.constants, strict=True))


def strided(problem: Problem, tactic_inputs: int) -> tuple[int, ...]:
    """Every activation may be a slice along the batch: kernels take images' strides from the operands."""
    return tuple(range(tactic_inputs))


__all__ = [
    "Epilogue", "Place", "Tactic", "channel_constants", "named", "operand_formats", "pack_epilogue", "strided",
    "tail_refusal",
]  # fmt: skip
