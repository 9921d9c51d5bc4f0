"""What all kernels of this distribution share: code for the host's target, and which symbols may change at run time."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

from tenonrt.contracts import Code, Kernel, Problem, Tactic, TensorType

from tenonrt_kernel_llvm.target import Target, host_target


class LlvmKernel(Kernel):
    """A kernel whose code is generated for a target; the device loads it, so there is no `bind`."""

    def compile(self, problem: Problem, tactic: Tactic) -> Code:
        """Native code for this machine."""
        return self.generate(problem, tactic, host_target())

    @abstractmethod
    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        """Native code for any target, whether or not it can run here."""


def runtime_symbols(problem: Problem) -> tuple[()] | Literal["all"]:
    """All symbols where only outermost sizes are symbolic, as the batch is; otherwise code is made for each size."""
    return "all" if all(_outermost(type) for type in problem.types) else ()


def _outermost(type: TensorType) -> bool:
    return type.reshape(type.shape[1:]).static if type.rank else True
