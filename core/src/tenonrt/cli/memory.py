"""What an engine needs in memory, from its program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

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


def tensor_rows(program: Program) -> list[dict[str, Any]]:
    """Every tensor of a program: bytes, where it lies and from which step to which it is needed."""
    from tenonrt.plan.placement import lifetimes, root_of, upper_bytes
    from tenonrt.plan.program import UNPLACED

    lives, rows = lifetimes(program), list[dict[str, Any]]()
    for index, tensor in enumerate(program.tensors):
        root = root_of(program.tensors, index)
        owner = program.tensors[root]
        where = "weights" if owner.weight != UNPLACED else "arena" if owner.offset != UNPLACED else "on its own"
        rows.append({
            "name": tensor.name, "type": str(tensor.type), "bytes": upper_bytes(tensor), "where": where,
            "offset": owner.offset if where == "arena" else None,
            "steps": lives.get(root), "view_of": program.tensors[tensor.base].name if tensor.base != UNPLACED else None,
            "part": tensor.part,
        })  # fmt: skip
    return rows


def print_tensors(program: Program) -> None:
    """The tensors of a program, largest first."""
    from rich.text import Text

    from tenonrt.cli.console import output
    from tenonrt.cli.tables import table

    made = table("Tensors", "tensor", "type", "bytes", "where", "steps", "shares the bytes of",
                 right=("bytes",), fold=("tensor", "shares the bytes of"))  # fmt: skip
    for row in sorted(tensor_rows(program), key=lambda row: -(row["bytes"] or 0)):
        steps = "–" if row["steps"] is None else f"{row['steps'][0]}–{row['steps'][1]}"
        where = f"arena + {row['offset']}" if row["offset"] is not None else row["where"]
        shared = (row["view_of"] or "") + (" (a slice)" if row["part"] is not None else "")
        made.add_row(Text(row["name"]), row["type"], nbytes(row["bytes"]), where, steps, Text(shared))
    output().print(made)
