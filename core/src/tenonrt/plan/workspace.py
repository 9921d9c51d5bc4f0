"""How much workspace a program needs: the largest of its steps', not their sum."""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt.dims import bounds
from tenonrt.plan.program import KernelStep, Program
from tenonrt.problem import Code


def workspace_bytes(program: Program, codes: Sequence[Code]) -> int | None:
    """Bytes at the largest shapes the program takes, None when they have no upper bound."""
    sizes: list[int | None] = [0]
    for step in program.steps:
        if isinstance(step, KernelStep):
            sizes.append(bounds(codes[step.code].workspace_bytes)[1])
        else:
            sizes += [workspace_bytes(graph, codes) for graph in step.graphs]
    bounded = [size for size in sizes if size is not None]
    return max(bounded) if len(bounded) == len(sizes) else None
