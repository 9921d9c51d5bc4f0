"""What an engine needs in memory, from its program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tenonrt.cli.quantities import nbytes

if TYPE_CHECKING:
    from tenonrt.plan.program import Program
    from tenonrt.problem import Code


def memory_facts(program: Program, codes: Sequence[Code], weights: int) -> list[tuple[str, str]]:
    """Labelled sizes: activations at the largest shapes the engine takes, weights, workspace."""
    bound = "" if program.lower_bound is None else f"  (no layout needs less than {nbytes(program.lower_bound)})"
    return [
        ("arena", nbytes(program.arena) + bound),
        ("weights", nbytes(weights)),
        ("workspace", nbytes(workspace(program, codes))),
    ]


def workspace(program: Program, codes: Sequence[Code]) -> int | None:
    """Bytes of the largest workspace of any step at the largest shapes; None when a size has no upper bound."""
    from tenonrt.dims import bounds
    from tenonrt.plan.program import KernelStep

    largest = 0
    for step in program.steps:
        if isinstance(step, KernelStep):
            upper = bounds(codes[step.code].tactic.workspace)[1]
        else:
            inner = [workspace(graph, codes) for graph in step.graphs]
            upper = None if None in inner else max((size for size in inner if size is not None), default=0)
        if upper is None:
            return None
        largest = max(largest, upper)
    return largest


def arena_at(program: Program, values: Mapping[str, int]) -> tuple[int, int]:
    """Bytes of the arena at given sizes and the least any layout could take."""
    from tenonrt.dims import evaluate
    from tenonrt.plan.placement import arena_layout

    if program.arena is not None and program.lower_bound is not None:
        return program.arena, program.lower_bound
    _, layout = arena_layout(program, lambda tensor: evaluate(tensor.type.nbytes, values))
    return layout.nbytes, layout.lower_bound
