"""Two kernels for acme.Swish6. Neither knows which is faster: the tuner finds out, for each shape and machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tenonrt.contracts import Array, Code, Executable, Kernel, Problem, Support, Tactic

DTYPES = ("float32", "float64")
BLOCK = 8192  # elements: 32 KiB of float32, which stay in a first-level cache while four passes go over them


class UfuncKernel(Kernel):
    """Four NumPy passes over the whole tensor, the result being the only memory used."""

    def supports(self, problem: Problem) -> Support:
        return _support(problem)

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return [Tactic(precision=problem.types[0].dtype, reads_strided=(0,), writes_strided=(0,))]

    def bind(self, code: Code, packed: Sequence[Array]) -> Executable:
        return UfuncExecutable(code.problem.layer.attrs.beta)


class UfuncExecutable:
    """What `UfuncKernel` binds."""

    def __init__(self, beta: float) -> None:
        self._beta = beta

    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any | None, stream: Any | None) -> None:
        [x], [y] = inputs, outputs
        _gate(x, self._beta, out=y)
        np.multiply(x, y, out=y)


class BlockedKernel(Kernel):
    """The same passes block by block through a workspace, so that only x and y travel to memory, and y may be x."""

    def supports(self, problem: Problem) -> Support:
        return _support(problem)

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        [given, _] = problem.types
        return [Tactic(precision=given.dtype, workspace=BLOCK * given.numpy.itemsize, inplace=((0, 0),))]

    def bind(self, code: Code, packed: Sequence[Array]) -> Executable:
        return BlockedExecutable(code.problem.layer.attrs.beta)


class BlockedExecutable:
    """What `BlockedKernel` binds."""

    def __init__(self, beta: float) -> None:
        self._beta = beta

    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any, stream: Any | None) -> None:
        x, y = inputs[0].reshape(-1), outputs[0].reshape(-1)
        scratch = workspace.view(x.dtype)
        for start in range(0, x.size, BLOCK):
            block = x[start : start + BLOCK]
            gate = scratch[: block.size]
            _gate(block, self._beta, out=gate)
            np.multiply(block, gate, out=y[start : start + BLOCK])


def _gate(x: Array, beta: float, out: Array) -> None:
    np.add(x, 3, out=out)
    np.maximum(out, 0, out=out)
    np.minimum(out, beta, out=out)
    np.divide(out, beta, out=out)


def _support(problem: Problem) -> Support:
    """Any shape, also one that changes between launches: the code asks the arrays."""
    if problem.kinds != ("acme.Swish6",) or problem.inputs[0].role != "activation":
        return Support(False, "computes one acme.Swish6 of a computed tensor")
    if problem.types[0].dtype not in DTYPES:
        return Support(False, f"computes in {' or '.join(DTYPES)}, not in {problem.types[0].dtype}")
    return Support(True, runtime_symbols="all")
