"""A plan as data, read without any plugin: what it holds can be shown where it cannot run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tenonrt.errors import PlanCorruptError
from tenonrt.plan.container import PlanFile
from tenonrt.plan.plan import ProgramSection
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
        section: ProgramSection = _decode(file, "program", ProgramSection)
        codes: list[Code] = _decode(file, "code", list[Code])
        weights = len(file.section("weights", verify=False))
        return cls(file.header.plan, section.program, section.report, codes, weights, section.tuned)


def _decode(file: PlanFile, name: str, type: Any) -> Any:
    try:
        return msgspec.msgpack.decode(file.section(name), type=type)
    except (msgspec.DecodeError, RecursionError) as error:
        raise PlanCorruptError(f"{file.path}: section {name!r} cannot be understood: {error}") from error
