"""The filters of a convolution: one, or those of siblings with equal windows, computed as one with more outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from tenonrt.contracts import Array, Problem

from tenonrt_kernel_llvm.contraction.epilogue import Epilogue, bias_of, epilogue_rows, pack_epilogue, tail_refusal
from tenonrt_kernel_llvm.contraction.geometry import Geometry, read_geometry
from tenonrt_kernel_llvm.contraction.grouping import read_grouping
from tenonrt_kernel_llvm.contraction.results import Result, results_of, total_blocks
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.siblings import parts_of, read_tails
from tenonrt_kernel_llvm.tails import Tail
from tenonrt_kernel_llvm.target import BLOCK


@dataclass(frozen=True)
class Filters:
    """geometry: of all together; where there are several, each one's outputs are counted in whole blocks."""

    problem: Problem
    geometry: Geometry
    parts: Sequence[Problem]
    outputs: Sequence[int]
    tails: Sequence[Tail]

    @property
    def reach(self) -> Tail:
        """The operands of all tails."""
        operands = {number: reach for tail in self.tails for number, reach in tail.operands.items()}
        return replace(self.tails[0], operands=operands)

    @property
    def rows(self) -> list[int]:
        """Packed arrays of each epilogue."""
        given = zip(self.parts, self.tails, self.outputs, strict=True)
        return [epilogue_rows(self.problem, tail, bias_of(part), count) for part, tail, count in given]

    def results(self, routine: Routine) -> list[Result]:
        """An epilogue for each filter; their packed arrays follow the weights."""
        epilogues, first = [], 1
        for part, tail, count, rows in zip(self.parts, self.tails, self.outputs, self.rows, strict=True):
            output = self.problem.outputs.index(part.outputs[0])
            epilogues.append((Epilogue(routine, bias_of(part), count, first, tail=tail, output=output), count))
            first += rows
        return results_of(epilogues)

    def dense(self, arrays: dict[int, Array]) -> Array:
        """Weights [outputs, channels, rows, columns] of all filters behind each other."""
        geometry, found = self.geometry, list[Array]()
        for part, count in zip(self.parts, self.outputs, strict=True):
            own = arrays[part.layer.inputs[1]].reshape(count, -1, geometry.y.window, geometry.x.window)
            missing = -count % BLOCK if len(self.parts) > 1 else 0
            found.append(np.pad(own, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else own)
        return np.concatenate(found) if len(found) > 1 else found[0]

    def pack_epilogues(self, arrays: dict[int, Array]) -> list[Array]:
        """What the epilogues read, in order."""
        given = zip(self.parts, self.tails, self.outputs, strict=True)
        return [a for p, tail, count in given for a in pack_epilogue(self.problem, tail, bias_of(p), count, arrays)]


def read_filters(problem: Problem) -> Filters | str:
    """The filters of a problem, or why direct convolution does not compute it."""
    parts = parts_of(problem)
    geometries = [read_geometry(part) for part in parts if part.layer.kind == "Convolution"]
    if len(geometries) != len(parts):
        return "every part of a region must begin with a convolution"
    tails = read_tails(parts)
    known = [g for g in geometries if not isinstance(g, str)]
    if len(known) < len(parts) or isinstance(tails, str):
        return next(found for found in (*geometries, tails) if isinstance(found, str))
    why = next((found for tail in tails if (found := tail_refusal(problem, tail))), "")
    grouping = read_grouping(known[0])
    if why or isinstance(grouping, str):
        return why or str(grouping)
    outputs = [geometry.outputs for geometry in known]
    if len(parts) == 1:
        return Filters(problem, known[0], parts, outputs, tails)
    alike = len({part.layer.inputs[0] for part in parts}) == len({replace(g, outputs=0) for g in known}) == 1
    if not alike or known[0].groups > 1:
        return "siblings must read one tensor with equal windows, in one group"
    return Filters(problem, replace(known[0], outputs=total_blocks(outputs) * BLOCK), parts, outputs, tails)


def filters_of(problem: Problem) -> Filters:
    """The filters of a problem that `supports` has accepted."""
    filters = read_filters(problem)
    assert not isinstance(filters, str), filters
    return filters
