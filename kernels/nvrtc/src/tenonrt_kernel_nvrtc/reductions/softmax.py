"""Softmax along the last axis of tensors stored row by row."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from tenonrt.contracts import LINEAR, Problem, Tactic

from tenonrt_kernel_nvrtc.kernel import CudaKernel, grid
from tenonrt_kernel_nvrtc.reductions.rows import REDUCTIONS, RowPlan, fetched, plans
from tenonrt_kernel_nvrtc.storage import C_TYPES, Narrow, read, stored, write


class SoftmaxKernel(CudaKernel):
    """Rows of up to 32768 elements; the maximum is subtracted first."""

    def refuses(self, problem: Problem) -> str:
        type = problem.types[problem.layer.inputs[0]]
        if len(problem.layers) != 1 or problem.layer.attrs.log or type.dtype != "float32" or not problem.activations:
            return "another function, element type or region"
        if problem.layer.attrs.axis not in (-1, type.rank - 1) or not type.size:
            return "an axis that is not the last, or nothing to compute"
        return "" if plans(int(type.shape[-1]), "float32") else "rows too long for registers"  # type: ignore[arg-type]

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        length = int(problem.types[problem.layer.inputs[0]].shape[-1])  # type: ignore[arg-type]
        return [
            Tactic(f"{storage}:{plan.threads}", (storage,), (storage,), precision, inplace=((0, 0),))
            for storage, precision in ((LINEAR, "float32"), *((n.rows, n.dtype) for n in narrow))
            for plan in plans(length, precision)
        ]

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        type = problem.types[problem.layer.inputs[0]].stored_as(tactic.input_format(0))
        shape, dtype = type.concrete({}), stored(type)
        count, ctype = prod(shape[:-1]), C_TYPES[dtype]
        threads = int(tactic.key.rpartition(":")[2])
        plan = next(plan for plan in plans(shape[-1], dtype) if plan.threads == threads)
        body = "\n    ".join((*plan.place(), *plan.start(count), *_lines(plan, dtype, f"row * {shape[-1]} + at")))
        source = f'extern "C" __global__ void kernel({ctype} *out, const {ctype} *x) {{\n    {body}\n}}\n'
        return REDUCTIONS + source, {"grid": grid(count, plan.rows), "block": (plan.rows * plan.threads,)}


def _lines(plan: RowPlan, dtype: str, offset: str) -> list[str]:
    vector, total = plan.vector, plan.pieces * plan.vector
    keep = f"v[i * {vector} + j]"
    return [
        f"float v[{total}]; for (int i = 0; i < {total}; ++i) v[i] = -infinity();",
        plan.each(f"auto p = {fetched('x', dtype, vector, offset)}; "
                  + plan.elements(f"{keep} = {read(dtype, 'p.e[j]')};")),
        f"float m = v[0]; for (int i = 1; i < {total}; ++i) m = larger(m, v[i]);",
        f"m = row_max<{plan.threads}>(m);",
        f"float s = 0.f; for (int i = 0; i < {total}; ++i) {{ v[i] = expf(v[i] - m); s += v[i]; }}",
        f"s = 1.f / row_sum<{plan.threads}>(s);",
        plan.each(f"Vec<{C_TYPES[dtype]}, {vector}> p; "
                  + plan.elements(f"p.e[j] = {write(dtype, f'{keep} * s')};") + f" put(out + {offset}, p);"),
    ]  # fmt: skip
