"""Regions of siblings: anchors that read one tensor, each with a tail of its own, as the core joins them."""

from __future__ import annotations

import msgspec
from tenonrt.contracts import Problem, ProblemLayer

from tenonrt_kernel_llvm.tails import Tail, read_tail


def parts_of(problem: Problem) -> list[Problem]:
    """The parts of a region that are connected by tensors made in it, each with the numbers of the whole problem.

    A part has the layers and outputs that are its own; inputs and types are those of the whole.
    """
    part_of: dict[int, int] = {}  # by the tensors that are made
    parts: dict[int, list[ProblemLayer]] = {}
    for number, layer in enumerate(problem.layers):
        touched = sorted({part_of[t] for t in layer.inputs if t in part_of})
        first = touched[0] if touched else number
        members = [member for part in touched for member in parts.pop(part)]
        parts[first] = [*members, layer]
        part_of.update({t: first for member in parts[first] for t in member.outputs})
    return [_part(problem, members) for _, members in sorted(parts.items())]


def _part(problem: Problem, layers: list[ProblemLayer]) -> Problem:
    ordered = tuple(sorted(layers, key=lambda layer: layer.outputs))
    made = {t for layer in ordered for t in layer.outputs}
    return msgspec.structs.replace(problem, layers=ordered, outputs=tuple(o for o in problem.outputs if o in made))


def read_tails(parts: list[Problem]) -> list[Tail] | str:
    """The tail of every part, or why one has none."""
    found = []
    for part in parts:
        tail = read_tail(part)
        if isinstance(tail, str):
            return tail
        found.append(tail)
    return found
