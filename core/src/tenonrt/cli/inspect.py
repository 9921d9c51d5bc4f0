"""`tenonrt inspect`: what a plan holds, read from the file alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenonrt.cli.options import Json
from tenonrt.cli.quantities import nbytes, seconds

if TYPE_CHECKING:
    from tenonrt.cli.planfile import PlanContents
    from tenonrt.plan.program import BuildReport, CandidateReport, Program, Step


def inspect(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="The plan.")],
    brief: Annotated[bool, typer.Option("--brief", help="Leave out the candidates that were not chosen.")] = False,
    step: Annotated[
        str | None, typer.Option(metavar="NAME", help="Say why this step, layer or node of the model won, and by what.")
    ] = None,
    memory: Annotated[bool, typer.Option("--memory", help="List the bytes and place of every tensor instead.")] = False,
    json: Json = False,
) -> None:
    """Show what a plan holds and why each kernel was chosen.

    The file alone is read: neither the plan's device nor its plugins need be installed.
    """
    from tenonrt.cli.planfile import PlanContents

    contents = PlanContents.read(plan)
    if json:
        from tenonrt.cli.console import print_json

        print_json(_as_data(contents) if step is None else _choice_data(contents, step))
    elif step is not None:
        from tenonrt.cli.explained import find_choices, print_choices

        print_choices(find_choices(contents.report, step))
    elif memory:
        from tenonrt.cli.memory import memory_facts, print_tensors
        from tenonrt.cli.tables import print_facts

        print_facts(memory_facts(contents.program, contents.codes, contents.weights))
        print_tensors(contents.program)
    else:
        _report(plan, contents, brief)


def _as_data(contents: PlanContents) -> dict[str, Any]:
    import msgspec

    general = _program_data(contents.program, contents.report, contents)
    general["memory"]["weights"] = contents.weights
    return {
        "header": msgspec.to_builtins(contents.header),
        "requirements": {need.distribution: _installed(need.distribution) for need in contents.header.requires},
        **general,
        "tuned": [{"sizes": t.sizes, **_program_data(t.program, t.report, contents)} for t in contents.tuned],
    }


def _program_data(program: Program, report: BuildReport, contents: PlanContents) -> dict[str, Any]:
    import msgspec

    from tenonrt.cli.memory import tensor_rows
    from tenonrt.plan.workspace import workspace_bytes

    return {
        "report": msgspec.to_builtins(report),
        "steps": [_step_data(step, contents) for step in _steps(program)],
        "memory": {
            "arena": program.arena,
            "lower_bound": program.lower_bound,
            "workspace": workspace_bytes(program, contents.codes),
            "tensors": tensor_rows(program),
        },
    }


def _choice_data(contents: PlanContents, step: str) -> Any:
    import msgspec

    from tenonrt.cli.explained import find_choices

    return msgspec.to_builtins(find_choices(contents.report, step))


def _step_data(step: Step, contents: PlanContents) -> dict[str, Any]:
    from tenonrt.plan.program import KernelStep

    data: dict[str, Any] = {"name": step.name, "sources": step.sources, "patches": step.patches}
    if isinstance(step, KernelStep):
        code = contents.codes[step.code]
        return {**data, "kernel": step.kernel, "tactic": code.tactic.key, "kinds": list(code.problem.kinds)}
    return {**data, "kernel": None, "tactic": None, "kinds": [step.kind]}


def _steps(program: Program) -> Iterator[Step]:
    """The steps of a program, each followed by those of its sub-programs."""
    for step in program.steps:
        yield step
        for graph in getattr(step, "graphs", ()):
            yield from _steps(graph)


def _installed(distribution: str) -> str | None:
    """The version that is installed here, None when none is."""
    from importlib_metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


# for people ----------------------------------------------------------------------------------------------------------


def _report(path: Path, contents: PlanContents, brief: bool) -> None:
    from rich.text import Text

    from tenonrt.cli.console import output
    from tenonrt.cli.memory import memory_facts
    from tenonrt.cli.tables import ladder_table, print_facts, type_text
    from tenonrt.plan.program import sizes_text

    header, report = contents.header, contents.report
    output().print(Text.assemble((str(path), "bold"), f"  {nbytes(path.stat().st_size)}\n"), soft_wrap=True)
    machine = ", ".join(f"{key} {value}" for key, value in header.fingerprint.items() if key != "kind")
    print_facts(
        [
            ("network", header.network),
            ("made by", f"{header.producer}, plan format {header.format_version}"),
            ("device", f"{header.device}, {header.threads} thread{'s' * (header.threads > 1)}"),
            ("tuned on", machine),
            *((("input" if b.is_input else "output"), f"{b.name}  {type_text(b.type)}") for b in header.bindings),
            *(("profile", str(profile)) for profile in header.profiles),
            *memory_facts(contents.program, contents.codes, contents.weights),
            *(("note", note) for note in report.notes),
            *(("quarantined", f"{name}: {why}") for name, why in report.quarantined.items()),
        ]
    )
    output().print()
    _report_requirements(contents)
    output().print(ladder_table(report.ladder))
    _report_program(contents.program, report, contents, brief, "of every other shape" if contents.tuned else "")
    for tuned in contents.tuned:
        _report_program(tuned.program, tuned.report, contents, brief, f"at {sizes_text(tuned.sizes)}")


def _report_program(program: Program, report: BuildReport, contents: PlanContents, brief: bool, where: str) -> None:
    _report_steps(program, report, contents, where)
    if not brief:
        _report_candidates(report, where)


def _report_requirements(contents: PlanContents) -> None:
    from rich.text import Text

    from tenonrt.cli.console import output
    from tenonrt.cli.tables import table

    made = table("Needs these distributions", "distribution", "built with", "installed", "for", fold=("for",))
    for need in contents.header.requires:
        made.add_row(
            need.distribution, need.version, _installed(need.distribution) or "[bold red]missing[/]", Text(need.why)
        )
    output().print(made)


def _report_steps(program: Program, report: BuildReport, contents: PlanContents, where: str) -> None:
    from rich.text import Text

    from tenonrt.cli.console import output
    from tenonrt.cli.tables import solver_name, table

    times = {step.name: step.seconds for step in report.steps}
    made = table(f"Steps {where}".strip(), "#", "step", "kernel and tactic", "alone", "of the model",
                 right=("#", "alone"), fold=("step", "of the model", "kernel and tactic"))  # fmt: skip
    for number, step in enumerate(_steps(program)):
        data = _step_data(step, contents)
        solved = solver_name(data["kernel"], data["tactic"]) if data["kernel"] else f"control: {data['kinds'][0]}"
        sources = "" if data["sources"] == (step.name,) else ", ".join(data["sources"])
        made.add_row(str(number), Text(step.name), Text(solved), seconds(times.get(step.name)), Text(sources))
    output().print(made)


def _report_candidates(report: BuildReport, where: str) -> None:
    """Every candidate of every region, fastest first, and what was chosen."""
    from rich.text import Text

    from tenonrt.cli.console import output
    from tenonrt.cli.tables import table

    title = f"Candidates {where}".strip() + ", by region"
    made = table(title, "region", "kernel and tactic", "time", "error", "remark",
                 right=("time", "error"), fold=("region", "kernel and tactic", "remark"))  # fmt: skip
    for region in report.regions:
        name = region.name
        for number, candidate in enumerate(sorted(region.candidates, key=_order)):
            won = region.won(candidate)
            cells = _candidate_cells(candidate, won)
            made.add_row(Text("" if number else name), *cells, style="bold green" if won else None)
    output().print(made)


def _candidate_cells(candidate: CandidateReport, won: bool) -> list[Any]:
    from rich.text import Text

    from tenonrt.cli.tables import solver_name

    error = "–" if candidate.error is None else f"{candidate.error:.1e}"
    untimed = "" if candidate.seconds is not None else ", not timed" if won else "not timed"
    remark = f"chosen{untimed}" if won else candidate.why or untimed
    return [Text(solver_name(candidate.kernel, candidate.tactic)), seconds(candidate.seconds), error, Text(remark)]


def _order(candidate: CandidateReport) -> tuple[bool, float]:
    """Fastest first, refused last."""
    return bool(candidate.why), candidate.seconds if candidate.seconds is not None else float("inf")
