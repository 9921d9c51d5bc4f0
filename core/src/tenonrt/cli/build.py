"""`tenonrt build`: a model file becomes a plan."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tenonrt.cli.build_options import EngineOptions, PluginOptions, PrecisionOptions, TuningOptions
from tenonrt.cli.groups import with_groups
from tenonrt.cli.options import NONE_GIVEN, ParserOptions, config
from tenonrt.cli.quantities import nbytes, seconds

if TYPE_CHECKING:
    from tenonrt.runtime.engine import Engine


@with_groups
def build(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The model file.")],
    plan: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="PLAN", help="Where to write; default MODEL's name.plan.")
    ] = None,
    *,
    engine: EngineOptions,
    precision: PrecisionOptions,
    tuning: TuningOptions,
    plugins: PluginOptions,
    parser_options: ParserOptions = NONE_GIVEN,
) -> None:
    """Optimize a model for this machine and save the plan.

    Every candidate kernel is checked against its layer's reference before it is timed. What parsers can be told is
    listed by `tenonrt build MODEL --help`.
    """
    target = _target(model, plan)
    settings = config(**engine.settings(), **precision.settings(), **tuning.settings(), **plugins.settings())
    from tenonrt.cli.sources import build_engine

    calibration = precision.calibration()
    start = time.perf_counter()
    built = build_engine(model, settings, parser_options, calibration)
    elapsed = time.perf_counter() - start
    built.save(target)
    _report(built, model, target, elapsed)


def _target(model: Path, plan: Path | None) -> Path:
    """Where the plan goes; said now if that cannot be, not after minutes of tuning."""
    target = plan or Path(model.with_suffix(".plan").name)
    if not target.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {target.parent}", param_hint="'--output'")
    if target.is_dir():
        raise typer.BadParameter(f"{target} is a folder; name a file in it", param_hint="'--output'")
    if target.resolve() == model.resolve():
        raise typer.BadParameter(f"{target} is the model itself", param_hint="'--output'")
    return target


def _report(engine: Engine, model: Path, target: Path, elapsed: float) -> None:
    from rich.text import Text

    from tenonrt.cli.console import output
    from tenonrt.cli.memory import memory_facts
    from tenonrt.cli.tables import ladder_table, print_facts, type_text
    from tenonrt.plan.program import sizes_text

    report = engine.report
    programs = [("tuned for", sizes_text(tuned.sizes)) for tuned in engine.plan.tuned]
    size = nbytes(target.stat().st_size)
    output().print(
        Text.assemble((model.name, "bold"), " → ", (str(target), "bold green"), f"  {size}\n"), soft_wrap=True
    )
    print_facts(
        [
            *((("input" if b.is_input else "output"), f"{b.name}  {type_text(b.type)}") for b in engine.bindings),
            *(("profile", str(profile)) for profile in engine.profiles),
            *programs,
            ("steps", str(report.ladder[-1].layers)),
            *memory_facts(engine.plan.program, engine.plan.codes, sum(w.nbytes for w in engine.plan.weights)),
            ("build time", seconds(elapsed) + _phases(report.timings)),
            *(("note", note) for note in report.notes),
        ]
    )
    output().print()
    output().print(ladder_table(report.ladder))
    hint = Text.assemble(("See why each kernel was chosen: ", "dim"), f"tenonrt inspect {target}")
    output().print(hint, soft_wrap=True)


def _phases(timings: dict[str, float]) -> str:
    return f"  ({', '.join(f'{phase} {seconds(spent)}' for phase, spent in timings.items())})" if timings else ""
