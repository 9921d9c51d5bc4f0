"""The base of kernels in Triton: a function and how it is specialised, made into machine code that a plan carries.

Public: other distributions subclass `TritonKernel` and require this one. Only building an engine imports Triton.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar

from tenonrt.contracts import Code, Executable, Kernel, Problem, Support, Tactic

from tenonrt_kernel_triton.compiler import compile_program, missing
from tenonrt_kernel_triton.launching import Launched, Launching
from tenonrt_kernel_triton.program import Program

__all__ = ["Program", "TritonKernel"]


class TritonKernel(Kernel):
    """A kernel that is one function of Triton, for problems whose sizes are known."""

    on_device: ClassVar[bool] = True

    def supports(self, problem: Problem) -> Support:
        why = _refuses_types(problem) or self.refuses(problem) or missing()
        return Support(not why, why)

    @abstractmethod
    def refuses(self, problem: Problem) -> str:
        """Why this kernel does not take a problem of static tensors on the device; empty when it does."""

    @abstractmethod
    def program(self, problem: Problem, tactic: Tactic) -> Program:
        """The function and how it is compiled and launched; import Triton, and what uses it, only in here."""

    def compile(self, problem: Problem, tactic: Tactic) -> Code:
        """The machine code for the GPU of this process, Hopper's where there is none."""
        cubin, launching = compile_program(self.program(problem, tactic))
        return Code(problem, tactic, cubin, asdict(launching))

    def bind(self, code: Code, packed: Sequence[Any]) -> Executable:
        return Launched(code.blob, Launching(**code.info), packed)


def _refuses_types(problem: Problem) -> str:
    """Sizes are compiled into the code, and offsets are counted in 32 bits."""
    for type in problem.types:
        if not type.static:
            return f"{type} has a size that changes at run time"
        if not isinstance(type.size, int) or type.size >= 1 << 31:
            return f"{type} has 2^31 elements or more"
    return "an input is on the host" if any(given.role == "host" for given in problem.inputs) else ""
