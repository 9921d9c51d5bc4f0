"""What happens to a tile of sums before it is stored: bias, the pointwise tail, zeros in lanes that are padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tenonrt.contracts import LINEAR, Array, Code, Format, Problem, Weights

from tenonrt_kernel_llvm.contraction.microkernel import BLOCK_BYTES
from tenonrt_kernel_llvm.emitter import I32, Index, Value, vector
from tenonrt_kernel_llvm.operations import compute, scalar_values
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.tails import Tail, read_tail
from tenonrt_kernel_llvm.target import BLOCK


@dataclass(frozen=True)
class Place:
    """Where a tile is: its image, its first block of channels, and the bytes from an image's start to its first pixel.

    The last holds for the output and for every operand as large as the output, since they are stored alike. part: the
    byte of the block at which a vector narrower than a block begins.
    """

    image: Index
    block: Index
    offset: Index
    part: int = 0


class Epilogue:
    """Finishes tiles of one problem. Packed weights from ``first`` on are its own: a row per vector of channels.

    padded: the result is stored in whole blocks, whose lanes past the last channel must be zero. lanes: of its vectors.
    tail: the problem's own unless given. output: which of the problem's outputs it stores.
    """

    def __init__(
        self,
        routine: Routine,
        bias: int,
        channels: int,
        first: int,
        padded: bool = True,
        lanes: int = BLOCK,
        tail: Tail | None = None,
        output: int = 0,
    ) -> None:
        found = tail or read_tail(routine.problem)
        assert not isinstance(found, str), found
        tail = found
        self.routine, self.tail, self.channels, self.output = routine, tail, channels, output
        self.lanes, self.vector = lanes, vector(lanes)
        masked = _needs_mask(tail, channels, padded)
        constants = channel_constants(routine.problem, tail, bias)
        self._rows = {number: routine.packed[first + row] for row, number in enumerate(constants)}
        self._bias = bias
        self._mask = routine.packed[first + len(constants)] if masked else None
        self._scalars = scalar_values(routine.problem)

    def store(
        self,
        sums: Sequence[Value],
        blocks: int,
        place: Place,
        steps: tuple[int, int],
        lanes: int | None = None,
        elsewhere: Value | None = None,
        biased: bool = False,
    ) -> list[Value]:
        """Finish and store a tile; what was stored. steps: bytes from pixel to pixel and from block to block.

        lanes: how many channels of the last block there are. elsewhere: where its first pixel goes instead. biased:
        whether the sums began with the bias.
        """
        lanes = self.lanes if lanes is None else lanes
        fn = self.routine.function
        base = elsewhere or self._target(place)
        channel = [self.channel_values(place, b, lanes if b == blocks - 1 else self.lanes) for b in range(blocks)]
        full, stored = self.full_bases(place), list[Value]()
        for index, total in enumerate(sums):
            p, b = divmod(index, blocks)
            count, at = lanes if b == blocks - 1 else self.lanes, p * steps[0] + b * steps[1]
            values = dict(channel[b])
            bias = values.pop(self._bias, None)
            values[self.tail.result] = total if bias is None or biased else total + bias
            result = self.finish(values, full, count, at)
            stored.append(self._masked(result, place, b))
            fn.store_lanes(stored[-1], base, count, at)
        return stored

    def start(self, place: Place, block: int) -> Value:
        """What the sums of a block may begin with, which spares adding it to each of them: the bias, or zeros."""
        fn = self.routine.function
        row = self._rows.get(self._bias)
        return fn.zero(self.vector) if row is None else fn.load(self.vector, row, self._at(place, block))

    def _target(self, place: Place) -> Value:
        """Where a place is in the output."""
        fn, out = self.routine.function, self.routine.outputs[self.output]
        return fn.offset(fn.offset(out.pointer, place.image * out.strides[0]), place.offset)

    def finish(self, values: dict[int, Value], full: dict[int, Value], count: int, at: Index) -> Value:
        """The tail's result for one vector. full: where operands as large as the result begin; at: bytes from there."""
        fn, problem = self.routine.function, self.routine.problem
        for number, pointer in full.items():
            values[number] = fn.load_lanes(self.vector, pointer, count, at)
        compute(fn, problem, self.tail.layers, values)
        return values[self.tail.layers[-1].outputs[0] if self.tail.layers else self.tail.result]

    def channel_values(self, place: Place, block: int, lanes: int) -> dict[int, Value]:
        """Operands that have one value for each channel, or one in all."""
        fn, problem, at = self.routine.function, self.routine.problem, self._at(place, block)
        found = {number: fn.load(self.vector, row, at) for number, row in self._rows.items()}
        for number, spread in self.tail.operands.items():
            if number in self._scalars:
                found[number] = fn.constant(self.vector, self._scalars[number])
            elif spread != "full" and number in problem.activations:
                pointer = self._image(number, place)
                found[number] = (
                    fn.splat(fn.load("float", pointer), self.lanes)
                    if spread == "scalar"
                    else fn.load_lanes(self.vector, pointer, lanes, at)
                )
        return found

    def _at(self, place: Place, block: int) -> Index:
        return (place.block + block) * BLOCK_BYTES + place.part

    def _image(self, number: int, place: Place) -> Value:
        """Where an operand's values for an image begin."""
        fn, problem = self.routine.function, self.routine.problem
        operand = self.routine.inputs[problem.activations.index(number)]
        each = operand.type.rank == problem.types[self.tail.result].rank and operand.type.shape[0] != 1
        return fn.offset(operand.pointer, place.image * operand.strides[0]) if each else operand.pointer

    def full_bases(self, place: Place) -> dict[int, Value]:
        """Where the operands that are as large as the result have the place's first vector."""
        fn, operands = self.routine.function, self.tail.operands.items()
        return {n: fn.offset(self._image(n, place), place.offset) for n, spread in operands if spread == "full"}

    def _masked(self, value: Value, place: Place, block: int) -> Value:
        if self._mask is None:
            return value
        fn, integers = self.routine.function, vector(self.lanes, I32)
        mask = fn.load(integers, self._mask, self._at(place, block))
        bits = fn.binary("and", fn.convert("bitcast", value, I32), mask)
        return fn.convert("bitcast", bits, "float")


def bias_of(problem: Problem) -> int:
    """The number of the bias, -1 when there is none."""
    return problem.layer.inputs[2] if len(problem.layer.inputs) > 2 else -1


def channel_constants(problem: Problem, tail: Tail, bias: int) -> list[int]:
    """The bias (-1: none) and the constants of the tail that have one value for each channel."""
    own = [bias] if bias >= 0 else []
    scalars = scalar_values(problem)
    return own + [n for n, reach in tail.operands.items() if n in problem.constants and n not in scalars]


def epilogue_rows(problem: Problem, tail: Tail, bias: int, channels: int, padded: bool = True) -> int:
    """How many arrays `pack_epilogue` makes."""
    return len(channel_constants(problem, tail, bias)) + _needs_mask(tail, channels, padded)


def _needs_mask(tail: Tail, channels: int, padded: bool) -> bool:
    return padded and channels % BLOCK != 0 and bool(tail.layers)


def pack_epilogue(
    problem: Problem, tail: Tail, bias: int, channels: int, arrays: dict[int, Array], padded: bool = True
) -> list[Array]:
    """What `Epilogue` reads: rows of channels padded with zeros, then the mask of channels that exist."""
    length = -(-channels // BLOCK) * BLOCK
    rows: list[Array] = []
    for number in channel_constants(problem, tail, bias):
        row = np.zeros(length, np.float32)
        row[:channels] = np.broadcast_to(arrays[number].reshape(-1), (channels,))
        rows.append(row)
    if _needs_mask(tail, channels, padded):
        mask = np.zeros(length, np.int32)
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
        else:
            formats.append(result if result.fits(type.rank) else LINEAR)
    return tuple(formats)


def reads_source(problem: Problem, tail: Tail) -> bool:
    """Whether a tail reads what the anchor does: that is stored as the result then, not in planes."""
    return problem.layer.inputs[0] in tail.operands


def overwritable(
    problem: Problem, tails: Sequence[Tail], formats: Sequence[Format], result: Format
) -> tuple[tuple[int, int], ...]:
    """(output, activation) pairs that may share a buffer: what a tail reads at the very place that it then writes.

    Every element must be finished once only. The convolved tensor itself is read elsewhere too.
    """
    pairs = []
    for tail in tails:
        last = tail.layers[-1].outputs[0] if tail.layers else tail.result
        output = problem.outputs.index(last)
        for k, number in enumerate(problem.activations):
            alike = tail.operands.get(number) == "full" and formats[k] == result
            elsewhere = number == problem.layer.inputs[0] or sum(number in other.operands for other in tails) > 1
            if alike and not elsewhere and problem.types[number].dtype == problem.types[last].dtype:
                pairs.append((output, k))
    return tuple(pairs)


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
