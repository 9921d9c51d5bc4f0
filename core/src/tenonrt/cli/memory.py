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
    from tenonrt.plan.workspace import workspace_bytes

    bound = "" if program.lower_bound is None else f"  (no layout needs less than {nbytes(program.lower_bound)})"
    return [
        ("arena", nbytes(program.arena) + bound),
        ("weights", nbytes(weights)),
        ("workspace", nbytes(workspace_bytes(program, codes))),
    ]


def arena_at(program: Program, values: Mapping[str, int]) -> tuple[int, int]:
    """Bytes of the arena at given sizes and the least any layout could take."""
    from tenonrt.dims import evaluate
    from tenonrt.plan.placement import arena_layout

    if program.arena is not None and program.lower_bound is not None:
        return program.arena, program.lower_bound
    _, layout = arena_layout(program, lambda tensor: evaluate(tensor.type.nbytes, values))
    return layout.nbytes, layout.lower_bound
