"""Products with constant weights: FullyConnected, and convolutions whose window is one element."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import (
    Array,
    Code,
    Executable,
    Format,
    GraphView,
    Kernel,
    Layer,
    Problem,
    SumTail,
    Support,
    Tactic,
    Weights,
    added_operand,
    numpy_dtype,
    row_product_refusal,
)

from tenonrt_kernel_cublaslt.library import ARITHMETIC, Heuristic, missing
from tenonrt_kernel_cublaslt.matmul import Description, Launched, Product, most, rows

# Heuristics that are tried: what is fastest for few rows comes late among those of a product.
MOST = {"FullyConnected": 32, "Convolution": 8}
_EPILOGUES = {"relu": "relu", "gelu": "gelu", "gelu_tanh": "gelu"}  # the library's is the tanh form: 5e-4 off at most
TAIL = SumTail(lambda attrs: attrs.function in _EPILOGUES)


class ProductKernel(Kernel):
    """With bias, a sum with one tensor of the result's shape, and ReLU or GELU."""

    on_device: ClassVar[bool] = True

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return TAIL.regions(view, layer)

    def supports(self, problem: Problem) -> Support:
        why = _refusal(problem) or missing()
        return Support(not why, why)

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return self.tactics_within(problem, lambda precision: True)

    def tactics_within(self, problem: Problem, permits: Callable[[str], bool]) -> Sequence[Tactic]:
        images, count = problem.layer.kind == "Convolution", len(problem.activations)
        strided = tuple(range(count)) if images else ()
        return [
            Tactic(key, (_format(images, precision),) * count, (_format(images, precision),), precision,
                   int(found.workspace), reads_strided=strided, writes_strided=strided[:1])
            for precision in filter(permits, ARITHMETIC)
            for key, found in _offered(problem, precision).items()
        ]  # fmt: skip

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        d = description(problem, tactic.precision)
        moved = 2 * (d.m * d.k + d.n * d.k + d.m * d.n * (1 + d.added))
        return 3e-6 + max(2 * d.m * d.n * d.k / 6e14, moved / 4e12)

    def compile(self, problem: Problem, tactic: Tactic) -> Code:
        found = _offered(problem, tactic.precision)
        if tactic.key not in found:
            raise ValueError(f"cuBLASLt no longer offers the algorithm {tactic.key}")
        return Code(problem, tactic, bytes(found[tactic.key].algorithm))

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Weights [N, K] and bias [N] as they are multiplied, padded with zeros where channels are."""
        problem, layer = code.problem, code.problem.layer
        stored = numpy_dtype(ARITHMETIC[code.tactic.precision].stored)
        given = dict(zip(problem.constants, weights.constants, strict=True))
        d = description(problem, code.tactic.precision)
        matrix = given[layer.inputs[1]].reshape(given[layer.inputs[1]].shape[0], -1)
        packed = [np.pad(matrix, ((0, d.n - matrix.shape[0]), (0, d.k - matrix.shape[1]))).astype(stored)]
        if len(layer.inputs) > 2 and layer.inputs[2] >= 0:
            bias = given[layer.inputs[2]]
            packed.append(np.pad(bias, (0, d.n - bias.shape[0])).astype(stored))
        return packed

    def packing(self, problem: Problem, tactic: Tactic) -> str:
        return tactic.precision

    def bind(self, code: Code, packed: Sequence[Any]) -> Executable:
        problem = code.problem
        added = added_operand(problem)
        x = problem.activations.index(problem.layer.inputs[0])
        c = None if added is None else problem.activations.index(added)
        return Launched(description(problem, code.tactic.precision), code.blob, packed, x, None, c)


def description(problem: Problem, precision: str) -> Description:
    """The product of a problem that is supported."""
    layer = problem.layer
    source, weights = problem.types[layer.inputs[0]].concrete({}), problem.types[layer.inputs[1]].concrete({})
    biased = "bias" if len(layer.inputs) > 2 and layer.inputs[2] >= 0 else ""
    functions = [_EPILOGUES[f.attrs.function] for f in problem.layers if f.kind == "Activation"]
    epilogue = "+".join(filter(None, (biased, *functions))) or "none"
    added = added_operand(problem) is not None
    if layer.kind == "Convolution":
        images, channels, height, width = source
        m, n, k = images * height * width, _padded(weights[0], precision), _padded(channels, precision)
    else:
        m, n, k = prod(source[:-1]), weights[0], source[-1]
    return Description(m, n, k, epilogue, added, precision=precision)


def _offered(problem: Problem, precision: str) -> dict[str, Heuristic]:
    return Product(description(problem, precision)).algorithms(most(MOST[problem.layer.kind], precision))


def _block(precision: str) -> int:
    """Channels in 16 bytes, which pixels are padded to."""
    return 16 // numpy_dtype(ARITHMETIC[precision].stored).itemsize


def _padded(channels: int, precision: str) -> int:
    return -(-channels // _block(precision)) * _block(precision)


def _format(images: bool, precision: str) -> Format:
    return Format((0, 2, 3, 1), ((1, _block(precision)),), rows(precision).dtype) if images else rows(precision)


def _refusal(problem: Problem) -> str:
    if not all(type.static and type.size for type in problem.types):
        return "a size that changes at run time or is 0"
    return row_product_refusal(problem) or TAIL.refusal(problem)
