"""`tenonrt bench`: how fast a plan or a model runs on this machine."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenonrt.cli.options import (
    NONE_GIVEN,
    Json,
    Level,
    MaxBatch,
    ParserOptions,
    Shapes,
    Source,
    Threads,
    config,
    shapes_of,
)
from tenonrt.cli.quantities import nbytes, seconds

if TYPE_CHECKING:
    from tenonrt.plan.program import Program
    from tenonrt.runtime.engine import Engine
    from tenonrt.types import Array

_PROFILED_RUNS = 20


def bench(
    source: Source,
    batch: Annotated[list[int] | None, typer.Option("--batch", "-b", min=1, help="Batch size. Repeatable.")] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="Count this many runs, whatever they take.")] = None,
    time_limit: Annotated[float, typer.Option("--seconds", min=0, help="Run for this long, per batch size.")] = 2.0,
    layers: Annotated[bool, typer.Option("--layers", help="Show the time of each step too.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the random inputs.")] = 0,
    shape: Shapes = None,
    max_batch: MaxBatch = None,
    opt_level: Level = 3,
    threads: Threads = 1,
    json: Json = False,
    *,
    parser_options: ParserOptions = NONE_GIVEN,
) -> None:
    """Measure latency, throughput and memory of a plan or a model, on random inputs.

    A call of execute is timed as an application sees it: inputs are checked and copied, outputs are fresh arrays.
    Warm-up runs are not counted.
    """
    shapes = shapes_of(shape)
    settings = config(max_batch=max_batch, optimization_level=opt_level, threads=threads)
    from tenonrt.cli.sources import open_engine

    engine = open_engine(source, settings, parser_options)
    sizes: list[int | None] = [*batch] if batch else [None]
    rows = [_measured(engine, size, shapes, runs, time_limit, seed, layers) for size in sizes]
    if json:
        from tenonrt.cli.console import print_json

        print_json({"network": engine.header.network, "device": engine.header.fingerprint,
                    "threads": engine.header.threads, "measurements": rows})  # fmt: skip
    else:
        _report(engine, rows)


def _measured(
    engine: Engine,
    batch: int | None,
    shapes: Mapping[str, tuple[int, ...]],
    runs: int | None,
    time_limit: float,
    seed: int,
    layers: bool,
) -> dict[str, Any]:
    """One row: seconds, images or other items a second, bytes."""
    from tenonrt.cli.inputs import batch_of, fill, input_sizes
    from tenonrt.cli.measurement import measure, profile

    bindings = [binding for binding in engine.bindings if binding.is_input]
    values = input_sizes(bindings, {}, shapes, batch, engine.profiles)
    inputs = fill(bindings, {}, values, seed)
    context = engine.create_context(seed)
    latency = measure(context, inputs, runs, time_limit)
    items = batch_of(bindings, values)
    row: dict[str, Any] = {
        "batch": items,
        "inputs": {name: list(array.shape) for name, array in inputs.items()},
        "median": latency.quantile(0.5),
        "p90": latency.quantile(0.9),
        "min": min(latency.samples),
        "mean": latency.mean,
        "throughput": items / latency.mean,
        "runs": len(latency.samples),
        "warm_up_runs": latency.warm_up,
        "first_run": latency.first,
        "memory": _memory(engine, values, inputs),
    }
    if layers:
        spent = profile(context, inputs, runs or _PROFILED_RUNS)
        kernels = _kernels(engine.plan.program_at(values))
        row["steps"] = [
            {"step": name, "kernel": kernels.get(name), "median": statistics.median(samples), "runs": len(samples)}
            for name, samples in spent.items()
        ]
    return row


def _memory(engine: Engine, values: Mapping[str, int], inputs: Mapping[str, Array]) -> dict[str, int | None]:
    from tenonrt.cli.memory import arena_at
    from tenonrt.plan.workspace import workspace_bytes

    program = engine.plan.program_at(values)
    arena, lower_bound = arena_at(program, values)
    return {
        "arena": arena,
        "arena_lower_bound": lower_bound,
        "weights": sum(array.nbytes for array in engine.plan.weights),
        "workspace": workspace_bytes(program, engine.plan.codes),
        "inputs": sum(array.nbytes for array in inputs.values()),
    }


def _kernels(program: Program) -> dict[str, str]:
    """Kernel ids by step, from the program: reformats have no report of their own."""
    from tenonrt.plan.program import KernelStep

    found: dict[str, str] = {}

    def visit(program: Program) -> None:
        for step in program.steps:
            if isinstance(step, KernelStep):
                found.setdefault(step.name, step.kernel)
            else:
                for graph in step.graphs:
                    visit(graph)

    visit(program)
    return found


def _report(engine: Engine, rows: list[dict[str, Any]]) -> None:
    from tenonrt.cli.console import output
    from tenonrt.cli.tables import print_facts, table

    header, memory = engine.header, rows[0]["memory"]
    numbers = ("batch", "median", "p90", "min", "per second", "runs", "warm-up")
    threads = f"{header.threads} thread{'s' * (header.threads > 1)}"
    made = table(f"{header.network} on {header.device}, {threads}", *numbers, right=numbers)
    for row in rows:
        times = [f"[bold]{seconds(row['median'])}[/]", seconds(row["p90"]), seconds(row["min"])]
        rate = f"{row['throughput']:,.0f}" if row["throughput"] >= 100 else f"{row['throughput']:.3g}"
        made.add_row(str(row["batch"]), *times, rate, str(row["runs"]), str(row["warm_up_runs"]))
    output().print(made)
    print_facts(
        [
            ("arena", f"{nbytes(memory['arena'])}  (no layout needs less than {nbytes(memory['arena_lower_bound'])})"),
            ("weights", nbytes(memory["weights"])),
            ("workspace", nbytes(memory["workspace"])),
        ]
    )
    for row in rows:
        if "steps" in row:
            output().print()
            _report_steps(row)


def _report_steps(row: dict[str, Any]) -> None:
    from rich.text import Text

    from tenonrt.cli.console import output
    from tenonrt.cli.tables import kernel_name, table

    steps = row["steps"]
    total = sum(step["median"] for step in steps) or 1.0
    made = table(
        f"Steps at batch {row['batch']}, in order of execution", "step", "kernel", "median", "share", "",
        right=("median", "share"),
    )  # fmt: skip
    for step in steps:
        share = step["median"] / total
        bar = f"[cyan]{'━' * round(share * 20)}[/]"
        kernel = Text(kernel_name(step["kernel"] or ""), "dim")
        made.add_row(Text(step["step"]), kernel, seconds(step["median"]), f"{share:.0%}", bar)
    made.add_section()
    made.add_row("all steps, one by one", "", seconds(total), "", "")
    output().print(made)
