"""`tenonrt rank`: every candidate for one layer of a model, timed on this machine as one watches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenonrt.cli.options import NONE_GIVEN, Disable, Json, MaxBatch, ParserOptions, Shapes, Threads, config, shapes_of
from tenonrt.cli.quantities import seconds

if TYPE_CHECKING:
    from tenonrt.plan.program import CandidateReport, RegionReport


def rank(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The model file.")],
    layer: Annotated[str, typer.Option(metavar="NAME", help="A layer, or the model's node that it came from.")],
    device: Annotated[str, typer.Option(help="The device to time on.")] = "cpu",
    precision: Annotated[str, typer.Option(help="What kernels may compute in besides float32; best: all.")] = "float32",
    max_batch: MaxBatch = None,
    shape: Shapes = None,
    threads: Threads = 1,
    timing_cache: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Times that are known already, and where new ones go.")
    ] = None,
    disable: Disable = None,
    json: Json = False,
    *,
    parser_options: ParserOptions = NONE_GIVEN,
) -> None:
    """Time every candidate for one layer of a model, live.

    All regions that contain the layer are listed: alone, with what follows it, with its siblings. Which of them a build
    chooses depends on what they leave to others; `tenonrt inspect PLAN --step NAME` tells.
    """
    from tenonrt.api import parse
    from tenonrt.builder.ranking import rank_layer

    settings = config(
        device=device, precision=precision, max_batch=max_batch, shapes=shapes_of(shape), threads=threads,
        timing_cache=timing_cache, disable=frozenset(disable or ()),
    )  # fmt: skip
    network = parse(model, options=parser_options)
    if json:
        import msgspec

        from tenonrt.cli.console import print_json

        print_json(msgspec.to_builtins(rank_layer(network, settings, layer)))
        return
    from rich.live import Live

    from tenonrt.cli.console import output

    with Live(console=output(), auto_refresh=False, vertical_overflow="visible") as live:
        shown = output().is_terminal
        ranking = rank_layer(
            network, settings, layer, lambda found: live.update(_table(found), refresh=True) if shown else None
        )
        live.update(_table(ranking), refresh=True)


def _table(ranking: Sequence[RegionReport]) -> Any:
    from rich.text import Text

    from tenonrt.cli.tables import solver_name, table

    made = table("Candidates, by region", "region", "kernel and tactic", "time", "error", "remark",
                 right=("time", "error"), fold=("region", "kernel and tactic", "remark"))  # fmt: skip
    for region in ranking:
        for number, candidate in enumerate(region.candidates):
            first = number == 0 and candidate.seconds is not None
            made.add_row(
                Text(region.name if number == 0 else ""),
                Text(solver_name(candidate.kernel, candidate.tactic)),
                seconds(candidate.seconds),
                "–" if candidate.error is None else f"{candidate.error:.1e}",
                Text(candidate.why or _relative(candidate, region)),
                style="bold green" if first else None,
            )
    return made


def _relative(candidate: CandidateReport, region: RegionReport) -> str:
    best = region.candidates[0].seconds
    if candidate.seconds is None or not best:
        return "not timed"
    return "fastest" if candidate is region.candidates[0] else f"{candidate.seconds / best:.2f} times the fastest"
