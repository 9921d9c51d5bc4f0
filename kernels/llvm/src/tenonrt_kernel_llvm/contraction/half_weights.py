"""Fully connected layers whose weights are stored as float16, where a configuration permits it; sums are of float32.

A few rows take as long as their weights take to come from memory, which half as many bytes halve; so is the plan. More
rows pay for the conversions with each tile.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tenonrt.contracts import Array, Code, Problem, Support, Tactic, Weights

from tenonrt_kernel_llvm.contraction.fully_connected import FullyConnectedKernel
from tenonrt_kernel_llvm.emitter import HALF
from tenonrt_kernel_llvm.target import host_target


class HalfWeightsProduct(FullyConnectedKernel):
    """As the kernel in float32; weights past 65504 become infinite, which the comparison of engines finds."""

    stored = HALF

    def supports(self, problem: Problem) -> Support:
        if not host_target().converts_half:
            return Support(False, "the processor, or the target that was asked for, does not convert float16")
        return super().supports(problem)

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return [Tactic(t.key, inplace=t.inplace, precision="float16") for t in super().tactics(problem)]

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """The weights rounded to nearest, the epilogue's arrays as they are."""
        packed, *rest = super().pack(code, weights)
        with np.errstate(over="ignore"):
            return [packed.astype(np.float16), *rest]
