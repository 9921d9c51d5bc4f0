"""Groups of a convolution as blocks of 16 channels: which input blocks a block of outputs reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tenonrt.contracts import Array

from tenonrt_kernel_llvm.contraction.geometry import Geometry
from tenonrt_kernel_llvm.emitter import Index, Value
from tenonrt_kernel_llvm.target import BLOCK


@dataclass(frozen=True)
class Grouping:
    """``depth`` input channels from a block on are read for each block of outputs; ``together``: blocks that share.

    Groups smaller than a block are computed a block at a time, with zeros for the weights between groups.
    """

    groups: int
    depth: int
    together: int
    input_blocks: int  # from one set of input channels to the next

    def first_block(self, group: Value, blocks: int) -> Index:
        """The first input block of a group of output blocks."""
        if self.groups == 1:
            return 0
        return group // (self.together // blocks) * self.input_blocks

    def dense(self, weights: Array) -> Array:
        """Weights [outputs, depth, rows, columns] with explicit zeros."""
        outputs, depth = weights.shape[:2]
        if depth == self.depth:
            return weights
        wide = np.zeros((outputs, self.depth, *weights.shape[2:]), np.float32)
        each = outputs // self.groups
        for output in range(outputs):
            start = output // each * depth % BLOCK
            wide[output, start : start + depth] = weights[output]
        return wide


def read_grouping(geometry: Geometry) -> Grouping | str:
    """How groups fall on blocks, or why they do not."""
    if geometry.groups == 1:
        return Grouping(1, geometry.channels, geometry.output_blocks, 0)
    inputs, outputs = geometry.channels // geometry.groups, geometry.outputs // geometry.groups
    if inputs % BLOCK == 0 and outputs % BLOCK == 0:
        return Grouping(geometry.groups, inputs, _together(outputs // BLOCK), inputs // BLOCK)
    if inputs == outputs and BLOCK % inputs == 0 and geometry.channels % BLOCK == 0:
        return Grouping(geometry.groups, BLOCK, 1, 1)
    return f"groups of {inputs} to {outputs} channels do not fall on blocks of {BLOCK}"


def _together(blocks: int) -> int:
    return blocks
