"""The innermost piece: one input element of every pixel, times one vector of weights of every block, accumulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tenonrt_kernel_llvm.emitter import FLOAT, Function, Value, lanes_of, vector
from tenonrt_kernel_llvm.target import BLOCK

BLOCK_BYTES = 4 * BLOCK
VECTOR = vector(BLOCK)


@dataclass(frozen=True)
class Steps:
    """Input channels that follow each other, and where they and their weights lie, in bytes."""

    count: int
    input: int  # from one channel to the next
    weights: int  # from one channel's weights to the next's
    block: int = BLOCK_BYTES  # from one block of output channels to the next
    stored: str = FLOAT  # how a weight is stored
    ahead: int = 0  # bytes by which weights are asked for in advance


def accumulate(
    fn: Function,
    sums: Sequence[Value],
    blocks: int,
    inputs: Value,
    weights: Value,
    pixels: Sequence[tuple[int, int]],
    steps: Steps,
) -> list[Value]:
    """``sums[pixel * blocks + block]`` after these channels. pixels: (number, byte offset of its input).

    Weights are loaded once per channel and kept in registers; each input is loaded into all lanes of one. A block whose
    sums have fewer lanes has that many output channels.
    """
    result = list(sums)
    types = [total.type for total in sums[:blocks]]
    for channel in range(steps.count):
        at = channel * steps.weights
        loaded = [_weights(fn, type, steps.stored, weights, at + k * steps.block) for k, type in enumerate(types)]
        for k in range(len(types) if steps.ahead else 0):
            fn.prefetch(weights, at + k * steps.block + steps.ahead, level=1)
        for number, offset in pixels:
            element = fn.load(FLOAT, inputs, offset + channel * steps.input)
            spread = {type: fn.splat(element, lanes_of(type)) for type in dict.fromkeys(types)}
            for block, type in enumerate(types):
                place = number * blocks + block
                result[place] = fn.fma(spread[type], loaded[block], result[place])
    return result


def _weights(fn: Function, type: str, stored: str, weights: Value, at: int) -> Value:
    """One vector of weights as floats."""
    if stored == FLOAT:
        return fn.load(type, weights, at)
    return fn.convert("fpext", fn.load(vector(lanes_of(type), stored), weights, at, 2), FLOAT)


def fetch_ahead(fn: Function, weights: Value, lines: int) -> None:
    """Ask for this many cache lines of weights, which come from far away and are wanted soon."""

    def line(number: Value, _: list[Value]) -> Sequence[Value]:
        fn.prefetch(fn.offset(weights, number * BLOCK_BYTES))
        return ()

    fn.loop(0, lines, line)
