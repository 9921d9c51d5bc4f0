"""`tenonrt build`: a model file becomes a plan."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tenonrt.cli.options import (
    NONE_GIVEN,
    Disable,
    Level,
    MaxBatch,
    ParserOptions,
    ShapeRanges,
    Threads,
    calibration_of,
    choice_of,
    config,
    layer_precision_of,
    parsed,
    plugin_set,
    profiles_of,
)
from tenonrt.cli.quantities import nbytes, parse_bytes, seconds

if TYPE_CHECKING:
    from tenonrt.runtime.engine import Engine


class Precision(StrEnum):
    """What kernels may compute in besides float32."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    int8 = "int8"
    best = "best"


def build(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The model file.")],
    plan: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="PLAN", help="Where to write; default MODEL's name.plan.")
    ] = None,
    device: Annotated[str, typer.Option(help="The device to build for.")] = "cpu",
    precision: Annotated[
        Precision, typer.Option(help="What kernels may compute in besides float32; best: all that they offer.")
    ] = Precision.float32,
    layer_precision: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN=MODE:PRECISION", help="fc*=obey:float32, conv*=prefer:bfloat16. Repeatable."),
    ] = None,
    max_batch: MaxBatch = None,
    shape: ShapeRanges = None,
    opt_level: Level = 3,
    timing_cache: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep measured times here, for later builds on this machine.")
    ] = None,
    threads: Threads = 1,
    tuning_seconds: Annotated[
        float | None, typer.Option(min=0, help="Stop timing after this many seconds; estimates decide the rest.")
    ] = None,
    workspace: Annotated[
        str | None, typer.Option(metavar="BYTES", help="The most workspace a tactic may use, such as 64M.")
    ] = None,
    plugins_allow: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Use only these distributions or entries. Repeatable.")
    ] = None,
    plugins_deny: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Use none of these, acme-* for instance. Repeatable.")
    ] = None,
    disable: Disable = None,
    lock: Annotated[bool, typer.Option("--lock", help="Fail on whatever the timing cache does not know.")] = False,
    replay: Annotated[
        Path | None, typer.Option(metavar="PLAN", help="Take the choices of this plan as they are, without timing.")
    ] = None,
    prefer: Annotated[
        Path | None, typer.Option(metavar="PLAN", help="Keep the choices of this plan where others are hardly faster.")
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="The same as --precision int8.")] = False,
    calibrate: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Samples for int8: an .npz by input, an .npy, or a folder of either."),
    ] = None,
    calibrator: Annotated[str, typer.Option(help="The installed calibrator that finds ranges.")] = "entropy",
    calibrator_option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="Of the calibrator, percentile=99.9. Repeatable.")
    ] = None,
    calibration_cache: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Ranges as TensorRT writes them: read if it exists, else written."),
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="LAYER", help="Compute this layer in float32 all the same. Repeatable.")
    ] = None,
    *,
    parser_options: ParserOptions = NONE_GIVEN,
) -> None:
    """Optimize a model for this machine and save the plan.

    Every candidate kernel is checked against its layer's reference before it is timed. What parsers can be told is
    listed by `tenonrt build MODEL --help`.
    """
    target = _target(model, plan)
    shapes, profiles = profiles_of(shape)
    given = calibrate is not None or calibration_cache is not None
    asked = precision if not (int8 or given) or precision != Precision.float32 else Precision.int8
    settings = config(
        device=device,
        precision=asked.value,
        layer_precisions=tuple(parsed("--layer-precision", layer_precision_of, text) for text in layer_precision or ()),
        max_batch=max_batch,
        workspace=None if workspace is None else parsed("--workspace", parse_bytes, workspace),
        optimization_level=opt_level,
        plugins=plugin_set(plugins_allow, plugins_deny),
        timing_cache=timing_cache,
        threads=threads,
        tuning_seconds=tuning_seconds,
        disable=frozenset(disable or ()),
        lock=lock,
        replay=None if replay is None else choice_of(replay),
        prefer=None if prefer is None else choice_of(prefer),
        shapes=shapes,
        profiles=profiles,
    )
    from tenonrt.cli.sources import build_engine

    calibration = None
    if given:
        calibration = calibration_of(calibrate, calibrator, calibrator_option, calibration_cache, keep)
    start = time.perf_counter()
    engine = build_engine(model, settings, parser_options, calibration)
    elapsed = time.perf_counter() - start
    engine.save(target)
    _report(engine, model, target, elapsed)


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
