"""`tenonrt sensitivity`: which layers lose most when they are quantized, and which to keep."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tenonrt.cli.options import NONE_GIVEN, Json, MaxBatch, ParserOptions, Shapes, calibration_of, config, shapes_of

if TYPE_CHECKING:
    from tenonrt.accuracy.sensitivity import Sensitivity, Study


def sensitivity(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The model file.")],
    data: Annotated[Path, typer.Option(metavar="DATA", help="Samples: an .npz by input, an .npy, or a folder.")],
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="An .npy with the class of every sample, for top-1 accuracy.")
    ] = None,
    target: Annotated[
        float, typer.Option(help="With labels the least accuracy, else the largest error relative to the outputs.")
    ] = 0.01,
    calibrator: Annotated[str, typer.Option(help="The installed calibrator that finds ranges.")] = "entropy",
    calibration_cache: Annotated[Path | None, typer.Option(metavar="FILE", help="Ranges, read or written.")] = None,
    shape: Shapes = None,
    max_batch: MaxBatch = None,
    json: Json = False,
    *,
    parser_options: ParserOptions = NONE_GIVEN,
) -> None:
    """Rank layers by the error that quantizing each adds, and find the fewest to keep in float32 for a target.

    The command that builds with these is printed. Status 1 when the target is out of reach.
    """
    settings = config(max_batch=max_batch, shapes=shapes_of(shape))
    from tenonrt.accuracy.sensitivity import Study
    from tenonrt.accuracy.sensitivity import sensitivity as run
    from tenonrt.cli.inputs import load_array
    from tenonrt.cli.samples import sample_batches
    from tenonrt.cli.sources import progress_bar
    from tenonrt.types import TensorType

    classes = None if labels is None else load_array("labels", labels, TensorType((), "int64")).reshape(-1).tolist()
    batches = sample_batches(model, parser_options, data, settings, 0)
    calibration = calibration_of(data, calibrator, None, calibration_cache, None)
    with progress_bar() as progress:
        settings = replace(settings, progress=progress)
        study = Study(model, batches, calibration, classes, target, settings, parser_options)
        found = run(study)
    if json:
        import msgspec

        from tenonrt.cli.console import print_json

        print_json(msgspec.to_builtins(found))
    else:
        _print(found, study)
    if not found.reached:
        raise typer.Exit(1)


def _print(found: Sensitivity, study: Study) -> None:
    from rich.text import Text

    from tenonrt.cli.console import output
    from tenonrt.cli.tables import print_facts, table

    made = table("what quantizing each layer alone adds", "layer", "error", "accuracy", right=("error", "accuracy"))
    for cost in found.costs:
        score = "–" if cost.score is None else f"{cost.score:.4f}"
        made.add_row(Text(cost.layer, "bold"), f"{cost.error:.3g}", score)
    output().print(made)
    facts = [
        ("keep in float32", f"{len(found.keep)} of {len(found.costs)} layers"),
        ("error with these kept", f"{found.error:.3g}"),
    ]
    if found.score is not None:
        facts.append(("accuracy", f"{found.score:.4f}, float32 {found.reference_score:.4f}"))
    beyond = found.reference_score is not None and found.reference_score < study.target
    verdict = "reached" if found.reached else "more than float32 has" if beyond else "out of reach"
    print_facts([*facts, ("target", f"{study.target:g} {verdict}")])
    if found.reached:
        output().print(Text(f"\n{_command(found, study)}"), soft_wrap=True)


def _command(found: Sensitivity, study: Study) -> str:
    """What builds the engine that was found."""
    given = study.calibration
    words = ["tenonrt", "build", str(study.model), "--calibrate", str(given.data), "--calibrator", given.calibrator]
    if given.cache is not None:
        words += ["--calibration-cache", str(given.cache)]
    for option, value in study.options.items():
        for each in value if isinstance(value, list) else [value]:
            words += [f"--{option.replace('_', '-')}"] + [str(each)] * (each is not True)
    for name, shape in study.config.shapes.items():
        words += ["--shape", f"{name}={'x'.join(map(str, shape)) or 'scalar'}"]
    if study.config.max_batch is not None:
        words += ["--max-batch", str(study.config.max_batch)]
    for layer in found.keep:
        words += ["--keep", layer]
    return shlex.join(words)
