"""The innermost piece: one input element of every pixel, times one vector of weights of every block, accumulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tenonrt_kernel_llvm.emitter import FLOAT, Function, Value, vector
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

    Weights are loaded once per channel and kept in registers; each input is loaded into all lanes of one.
    """
    result = list(sums)
    for channel in range(steps.count):
        at = channel * steps.weights
        loaded = [fn.load(VECTOR, weights, at + block * steps.block) for block in range(blocks)]
        for number, offset in pixels:
            element = fn.splat(fn.load(FLOAT, inputs, offset + channel * steps.input), BLOCK)
            for block in range(blocks):
                place = number * blocks + block
                result[place] = fn.fma(element, loaded[block], result[place])
    return result
