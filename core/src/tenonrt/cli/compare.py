"""`tenonrt compare`: the outputs of several runtimes on the same inputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tenonrt.cli.options import (
    NONE_GIVEN,
    Json,
    Level,
    MaxBatch,
    ParserOptions,
    Shapes,
    Threads,
    calibration_of,
    config,
    shapes_of,
)

if TYPE_CHECKING:
    from tenonrt.accuracy.comparison import Compared, Comparison, Tolerances


def compare(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The model file.")],
    runners: Annotated[
        str, typer.Option(help="Names with commas; the last one is the reference, which others are measured against.")
    ] = "tenonrt,onnxruntime",
    data: Annotated[
        Path | None, typer.Option(metavar="DATA", help="Inputs: .npz, .npy or a folder; random ones without it.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="Of our engine: float32, tf32, float16, bfloat16 or int8.")
    ] = "float32",
    calibrate: Annotated[Path | None, typer.Option(metavar="DATA", help="Samples for int8; DATA if not given.")] = None,
    calibrator: Annotated[str, typer.Option(help="The installed calibrator that finds ranges.")] = "entropy",
    calibration_cache: Annotated[Path | None, typer.Option(metavar="FILE", help="Ranges for int8.")] = None,
    layerwise: Annotated[bool, typer.Option("--layerwise", help="What every step stores, too.")] = False,
    absolute: Annotated[float, typer.Option("--atol", min=0, help="The largest error that passes,")] = 1e-5,
    relative: Annotated[float, typer.Option("--rtol", min=0, help="or this share of the largest value.")] = 1e-3,
    seed: Annotated[int, typer.Option(min=0, help="Of random inputs.")] = 0,
    shape: Shapes = None,
    max_batch: MaxBatch = None,
    opt_level: Level = 3,
    threads: Threads = 1,
    json: Json = False,
    *,
    parser_options: ParserOptions = NONE_GIVEN,
) -> None:
    """Compare runtimes on the same inputs: tenonrt, reference (ours, exact and untimed), onnxruntime, openvino.

    Status 1 when an output is past the tolerance.
    """
    settings = config(
        precision=precision, max_batch=max_batch, optimization_level=opt_level, threads=threads, shapes=shapes_of(shape)
    )
    from tenonrt.accuracy.comparison import Request, Tolerances
    from tenonrt.accuracy.comparison import compare as run
    from tenonrt.cli.samples import sample_batches
    from tenonrt.cli.sources import progress_bar

    samples = calibrate or data
    calibration = None
    if precision == "int8" and (samples is not None or calibration_cache is not None):
        calibration = calibration_of(samples, calibrator, None, calibration_cache, None)
    batches = sample_batches(model, parser_options, data, settings, seed)
    names = [name.strip() for name in runners.split(",") if name.strip()]
    limits = Tolerances(absolute, relative)
    with progress_bar() as progress:
        settings = replace(settings, progress=progress)
        found = run(Request(model, batches, names, settings, calibration, layerwise, limits, parser_options))
    _print(found, limits, json)
    if not found.passed:
        raise typer.Exit(1)


def _print(found: Comparison, limits: Tolerances, json: bool) -> None:
    if json:
        import msgspec

        from tenonrt.cli.console import print_json

        parts = {"outputs": found.outputs, "tensors": found.tensors}
        rows = {name: [msgspec.to_builtins(row, str_keys=True) for row in part] for name, part in parts.items()}
        print_json({"reference": found.reference, "passed": found.passed, **rows})
        return
    from rich.text import Text

    from tenonrt.cli.console import output

    output().print(_table(f"outputs, against {found.reference}", found.outputs))
    if found.tensors:
        output().print(_table("tensors in the order of steps, against float32 without fusion", found.tensors))
    if found.passed:
        output().print(Text("PASSED", "bold green"))
        return
    worst = max((row for row in found.outputs if not row.passed), key=lambda row: row.summary.relative)
    why = (
        f"  {worst.tensor} of {worst.runner} is off by {worst.summary.relative:.3g} of its largest value and by "
        f"{worst.summary.largest:.3g}; --rtol admits {limits.relative:g}, --atol {limits.absolute:g}"
    )
    output().print(Text.assemble(("FAILED", "bold red"), why), soft_wrap=True)


def _table(title: str, rows: tuple[Compared, ...]) -> object:
    from rich.text import Text

    from tenonrt.cli.tables import table

    numbers = ("max", "mean", "median", "99 %", "relative", "cosine", "dB")
    made = table(title, "", "tensor", *numbers, "histogram", "", right=numbers)
    for row in rows:
        s = row.summary
        values = (s.largest, s.mean, s.median, s.quantiles[0.99], s.relative)
        verdict = Text("passed", "green") if row.passed else Text("failed", "red")
        texts = [f"{value:.3g}" for value in values]
        made.add_row(
            row.runner, Text(row.tensor, "bold"), *texts, f"{s.cosine:.6f}", f"{s.signal_to_noise:.1f}",
            _bars(s.histogram), verdict,
        )  # fmt: skip
    return made


def _bars(counts: tuple[int, ...]) -> str:
    """A bar for each bin, from no error to the largest."""
    most = max(counts, default=0)
    return "".join(" ▁▂▃▄▅▆▇█"[-(-8 * count // most) if most else 0] for count in counts)
