"""A kernel that leaves out a tactic that is permitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tenonrt.contracts import Array, Code, Executable, Kernel, Problem, Support, Tactic


class SoftmaxKernel(Kernel):
    """Takes float32 Softmax of known sizes."""

    def supports(self, problem: Problem) -> Support:
        if problem.kinds != ("Softmax",) or problem.types[0].dtype != "float32" or problem.symbols:
            return Support(False, "only a single Softmax of float32 and of known sizes")
        return Support(True)

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return [Tactic("rows"), Tactic("columns")]

    def tactics_within(self, problem: Problem, permits: Callable[[str], bool]) -> Sequence[Tactic]:
        return self.tactics(problem)[:1]

    def bind(self, code: Code, packed: Sequence[Array]) -> Executable:
        return SoftmaxExecutable(code.problem)


class SoftmaxExecutable:
    def __init__(self, problem: Problem) -> None:
        self.attrs = problem.layer.attrs

    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any | None, stream: Any | None) -> None:
        outputs[0][...] = softmax(inputs[0], self.attrs.axis, self.attrs.log)


def softmax(x: Array, axis: int, log: bool) -> Array:
    if not x.size:
        return x.copy()
    with np.errstate(invalid="ignore", under="ignore"):
        shifted = x - x.max(axis, keepdims=True)
        powers = np.exp(shifted)
        total = powers.sum(axis, keepdims=True)
        return shifted - np.log(total) if log else powers / total
