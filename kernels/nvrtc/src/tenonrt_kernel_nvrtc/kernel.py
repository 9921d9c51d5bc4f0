"""What all kernels of this pack share: they work on the GPU's arrays, and are compiled where they are tried."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from tenonrt.contracts import FLOAT8, Array, Code, Executable, Kernel, Problem, Support, Tactic, Weights

from tenonrt_kernel_nvrtc.compiler import compile_cubin
from tenonrt_kernel_nvrtc.loading import Launched, architecture
from tenonrt_kernel_nvrtc.storage import NARROW, Narrow, prelude, refusal

# Let the next kernel begin, and wait until those before have ended: nothing on architectures without either.
BEGIN = "begin();"
_PROGRAMMATIC = 90  # the first architecture whose kernels may begin before those that they follow have ended
_FLOAT8 = 89  # the first one that converts them


def capability() -> int:
    """Of the architecture that is compiled for, as a number: 90."""
    return int(architecture().removeprefix("sm_").rstrip("a"))


class CudaKernel(Kernel):
    """A kernel that is one generated function, called ``kernel``."""

    on_device: ClassVar[bool] = True
    # Whether the source itself lets the next kernel begin and waits for the one before; otherwise it is made to.
    begins_itself: ClassVar[bool] = False
    # Device functions that the source calls, besides those of the prelude.
    library: ClassVar[str] = ""

    def supports(self, problem: Problem) -> Support:
        why = next((why for type in problem.types if (why := refusal(type))), "")
        if not why and capability() < _FLOAT8 and any(type.dtype == FLOAT8 for type in problem.types):
            why = f"{architecture()} converts no {FLOAT8}"
        if not why and any(given.role == "host" for given in problem.inputs):
            why = "an input is on the host"
        why = why or self.refuses(problem)
        return Support(not why, why)

    @abstractmethod
    def refuses(self, problem: Problem) -> str:
        """Why this kernel does not take a problem of static tensors; empty when it does."""

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return self.offers(problem, NARROW)

    def tactics_within(self, problem: Problem, permits: Callable[[str], bool]) -> Sequence[Tactic]:
        return self.offers(problem, [narrow for narrow in NARROW if permits(narrow.dtype)])

    @abstractmethod
    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        """The tactics of a supported problem: those of single precision, and those that store these narrow floats."""

    @abstractmethod
    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        """The source without the prelude, and plain values: ``grid`` and ``block``; ``pitches``, ``shared``."""

    def compile(self, problem: Problem, tactic: Tactic) -> Code:
        source, info = self.generate(problem, tactic)
        early = capability() >= _PROGRAMMATIC
        if not self.begins_itself:
            source = beginning(source)
        cubin = compile_cubin(prelude(tactic) + self.library + source, architecture())
        return Code(problem, tactic, cubin, {**info, "early": early})

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Nothing: what is packed is passed to the function, and most kernels have the constants in their source."""
        return ()

    def bind(self, code: Code, packed: Sequence[Any]) -> Executable:
        info = code.info
        return Launched(
            code.blob, packed, info["grid"], info["block"], info.get("pitches", ()),
            shared=info.get("shared", 0), early=info["early"],
        )  # fmt: skip


def beginning(source: str) -> str:
    """The kernel, which first lets the one after it begin, then waits for those before it, in all of its threads."""
    parameters = source.index(" kernel(")
    body = source.index("{", source.index(")", parameters)) + 1
    return f"{source[:body]}\n    {BEGIN}{source[body:]}"


def grid(threads: int, block: int) -> tuple[int]:
    """Blocks for so many threads."""
    return (-(-threads // block),)
