"""Products of two computed tensors: stacks of matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, ClassVar

from tenonrt.contracts import Array, Code, Executable, Kernel, Problem, Support, Tactic, Weights, numpy_dtype

from tenonrt_kernel_cublaslt.library import ARITHMETIC, missing
from tenonrt_kernel_cublaslt.matmul import Description, Launched, Product, most, rows

MOST = 8


class BatchedKernel(Kernel):
    """Equal stacks of matrices of one rank; the second operand may be a constant matrix."""

    on_device: ClassVar[bool] = True

    def supports(self, problem: Problem) -> Support:
        why = _refusal(problem) or missing()
        return Support(not why, why)

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return self.tactics_within(problem, lambda precision: True)

    def tactics_within(self, problem: Problem, permits: Callable[[str], bool]) -> Sequence[Tactic]:
        count = len(problem.activations)
        return [
            Tactic(key, (rows(precision),) * count, (rows(precision),), precision, int(found.workspace))
            for precision in filter(permits, ARITHMETIC)
            for key, found in Product(description(problem, precision)).algorithms(most(MOST, precision)).items()
        ]

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        d = description(problem, tactic.precision)
        return 3e-6 + d.batches * max(2 * d.m * d.n * d.k / 4e14, 2 * (d.m * d.k + d.n * d.k + d.m * d.n) / 4e12)

    def compile(self, problem: Problem, tactic: Tactic) -> Code:
        found = Product(description(problem, tactic.precision)).algorithms(most(MOST, tactic.precision))
        if tactic.key not in found:
            raise ValueError(f"cuBLASLt no longer offers the algorithm {tactic.key}")
        return Code(problem, tactic, bytes(found[tactic.key].algorithm))

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        return [array.astype(numpy_dtype(ARITHMETIC[code.tactic.precision].stored)) for array in weights.constants]

    def packing(self, problem: Problem, tactic: Tactic) -> str:
        return tactic.precision

    def bind(self, code: Code, packed: Sequence[Any]) -> Executable:
        problem = code.problem
        x, w = problem.layer.inputs
        second = problem.activations.index(w) if w in problem.activations else None
        d = description(problem, code.tactic.precision)
        return Launched(d, code.blob, packed, problem.activations.index(x), second, None)


def description(problem: Problem, precision: str) -> Description:
    """The product of a problem that is supported; a stack of rows by one matrix is one."""
    a, b = (problem.types[i].concrete({}) for i in problem.layer.inputs)
    attrs = problem.layer.attrs
    m, k = (a[-1], a[-2]) if attrs.transpose_a else (a[-2], a[-1])
    n = b[-2] if attrs.transpose_b else b[-1]
    count = prod(a[:-2])
    if prod(b[:-2]) == 1 and not attrs.transpose_a:
        return Description(count * m, n, k, transpose_w=attrs.transpose_b, precision=precision)
    return Description(
        m,
        n,
        k,
        transpose_x=attrs.transpose_a,
        transpose_w=attrs.transpose_b,
        batches=count,
        strides=(m * k, n * k, m * n),
        precision=precision,
    )


def _refusal(problem: Problem) -> str:
    if problem.kinds != ("MatrixMultiply",) or not all(t.static and t.size for t in problem.types):
        return "no single product, or a size that changes at run time or is 0"
    a, b = problem.layer.inputs
    left, right = problem.types[a], problem.types[b]
    if left.dtype != "float32" or a not in problem.activations or left.rank < 2 or right.rank < 2:
        return "vectors, a constant first operand, or another element type"
    shapes = left.concrete({}), right.concrete({})
    one = prod(shapes[1][:-2]) == 1 and not problem.layer.attrs.transpose_a
    if not one and shapes[0][:-2] != shapes[1][:-2]:
        return "stacks that broadcast"
    aligned = all(size % 8 == 0 for shape in shapes for size in shape[-2:])
    return "" if aligned else "sizes that are no multiples of 8"
