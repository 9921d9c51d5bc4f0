"""A plan as data, read without any plugin: what it holds can be shown where it cannot run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tenonrt.plan.container import PlanFile
from tenonrt.plan.plan import ProgramSection, decoded
from tenonrt.problem import Code

if TYPE_CHECKING:
    from tenonrt.plan.program import BuildReport, PlanHeader, Program, TunedProgram


@dataclass(frozen=True)
class PlanContents:
    """The sections of a plan; attributes of layers stay plain values."""

    header: PlanHeader
    program: Program
    report: BuildReport
    codes: list[Code]
    weights: int  # bytes
    tuned: tuple[TunedProgram, ...] = ()

    @classmethod
    def read(cls, path: Path) -> PlanContents:
        """`NotAPlanError`, `PlanVersionError` and `PlanCorruptError` as `tenonrt.Engine.load` raises them."""
        file = PlanFile(path)
        section: ProgramSection = decoded(file.section("program"), ProgramSection, path, "program")
        codes: list[Code] = decoded(file.section("code"), list[Code], path, "code")
        weights = len(file.section("weights", verify=False))
        return cls(file.header.plan, section.program, section.report, codes, weights, section.tuned)
