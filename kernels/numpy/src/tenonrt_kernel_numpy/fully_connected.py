"""FullyConnected as one matrix product through BLAS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from tenonrt.contracts import Array, Code, Executable, GraphView, Kernel, Layer, Problem, Support, Tactic, Weights

from tenonrt_kernel_numpy.tail import finish, read_tail, regions_with_tail

DTYPES = ("float32", "float64")


class FullyConnectedKernel(Kernel):
    """float32 and float64, any batch. Tactics: ``rows`` keeps the weights [N, K], ``columns`` packs them as [K, N]."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return regions_with_tail(view, layer)

    def supports(self, problem: Problem) -> Support:
        why = _refusal(problem)
        return Support(False, why) if why else Support(True, runtime_symbols="all")

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return [Tactic(key, precision=problem.types[0].dtype) for key in ("rows", "columns")]

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        arrays = dict(zip(code.problem.constants, weights.constants, strict=True))
        matrix, *bias = (arrays[t] for t in code.problem.layer.inputs[1:] if t >= 0)
        return [np.ascontiguousarray(matrix.T) if code.tactic.key == "columns" else matrix, *bias]

    def bind(self, code: Code, packed: Sequence[Array]) -> Executable:
        return FullyConnectedExecutable(code, packed)


class FullyConnectedExecutable:
    """One product for the whole batch."""

    def __init__(self, code: Code, packed: Sequence[Array]) -> None:
        self._weights = packed[0] if code.tactic.key == "columns" else packed[0].T
        self._bias = packed[1] if len(packed) > 1 else None
        tail = read_tail(code.problem)
        assert not isinstance(tail, str), tail
        self._tail = tail
        self._source = code.problem.activations.index(code.problem.layer.inputs[0])

    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any | None, stream: Any | None) -> None:
        depth, units = self._weights.shape
        if not outputs[0].size:
            return
        target = outputs[0].reshape(-1, units)
        np.matmul(inputs[self._source].reshape(len(target), depth), self._weights, out=target)
        finish(outputs[0], self._bias, self._tail, inputs)


def _refusal(problem: Problem) -> str:
    layer = problem.layer
    if layer.kind != "FullyConnected":
        return f"the region begins with {layer.kind}"
    dtypes = {t.dtype for t in problem.types}
    if len(dtypes) != 1 or not dtypes <= set(DTYPES):
        return f"computes in {' or '.join(DTYPES)}; the region has {', '.join(sorted(dtypes))}"
    if layer.inputs[0] not in problem.activations or any(t not in (-1, *problem.constants) for t in layer.inputs[1:]):
        return "the input must be computed, the weights and the bias constant"
    if not problem.types[layer.inputs[1]].static:
        return "the shape of the weights must be known"
    tail = read_tail(problem)
    return tail if isinstance(tail, str) else ""
