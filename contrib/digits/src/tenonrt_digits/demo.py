"""`tenonrt demo`: from the model file to digits recognised, saying what happens and what it costs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tenonrt
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from tenonrt.contracts import Array

from tenonrt_digits import heldout, model_path
from tenonrt_digits.demo_tables import (
    accuracy_line,
    candidates_table,
    kilobytes,
    ladder_table,
    latency_table,
    milliseconds,
    steps_table,
)

MAX_BATCH = 64
LEVEL = 3
_SECONDS = 1.0  # of timed runs per batch size
_WARM_UP_SECONDS = 0.2
_PROFILED_RUNS = 30


def demo() -> None:
    """Build a digit classifier, save it, load it again, and measure it."""
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="tenonrt-demo-", ignore_cleanup_errors=True) as folder:
        plan = Path(folder) / "digits.plan"
        _build(console, plan)
        engine = _load(console, plan)
        context = engine.create_context()
        images, labels = heldout()
        _classify(console, context, images, labels)
        _measure(console, context, images)
        _memory(console, engine)
        _explain(console, engine, context, images)


def _say(console: Console, number: int, title: str) -> None:
    console.print(f"\n[bold cyan]{number}[/]  [bold]{title}[/]")


def _build(console: Console, plan: Path) -> None:
    _say(console, 1, f"Build {model_path().name}: rewrite the graph, then time every kernel that fits (level {LEVEL})")
    start = time.perf_counter()
    with _progress(console) as tell:
        engine = tenonrt.compile(model_path(), max_batch=MAX_BATCH, optimization_level=LEVEL, progress=tell)
    built = time.perf_counter() - start
    report = engine.report
    tried = sum(len(region.candidates) for region in report.regions)
    refused = sum(bool(candidate.why) for region in report.regions for candidate in region.candidates)
    engine.save(plan)
    console.print(
        f"   {built:.1f} s for {report.ladder[0].layers} layers; {tried} candidates for {len(report.regions)} regions, "
        f"{refused} refused"
    )
    console.print(ladder_table(report.ladder))


@contextmanager
def _progress(console: Console) -> Iterator[Any]:
    """A progress bar on a terminal; elsewhere it would only fill a log."""
    if not console.is_terminal:
        yield None
        return
    bar = Progress(
        TextColumn("   {task.description}"), BarColumn(), MofNCompleteColumn(), console=console, transient=True
    )
    with bar:
        task = bar.add_task("reading", total=None)

        def tell(phase: str, done: int, total: int, detail: str) -> bool:
            bar.update(task, description=f"{phase} {detail}"[:40], completed=done, total=total)
            return True

        yield tell


def _load(console: Console, plan: Path) -> tenonrt.Engine:
    _say(console, 2, "Save the plan and load it from its file")
    start = time.perf_counter()
    engine = tenonrt.Engine.load(plan, verify=True)
    needs = ", ".join(need.distribution for need in engine.header.requires)
    console.print(
        f"   {kilobytes(plan.stat().st_size)}, loaded and verified in {milliseconds(time.perf_counter() - start)}"
    )
    console.print(Padding(f"It needs {needs}.", (0, 0, 0, 3)), style="dim")
    return engine


def _classify(console: Console, context: tenonrt.ExecutionContext, images: Array, labels: Array) -> None:
    _say(console, 3, f"Classify {len(images)} handwritten digits that the network was never trained on")
    batches = [images[start : start + MAX_BATCH] for start in range(0, len(images), MAX_BATCH)]
    found = np.concatenate([context.execute({"image": batch})["probabilities"].argmax(axis=1) for batch in batches])
    console.print(accuracy_line(int((found == labels).sum()), len(labels)))


def _measure(console: Console, context: tenonrt.ExecutionContext, images: Array) -> None:
    _say(console, 4, "Measure: each call by itself, input checks and copies included, warm-up not counted")
    rows = [(batch, _latencies(context, images[:batch])) for batch in (1, MAX_BATCH)]
    console.print(latency_table(rows))


def _latencies(context: tenonrt.ExecutionContext, images: Array) -> list[float]:
    """Seconds of each call in about a second of calls, after a warm-up."""
    _calls(context, images, _WARM_UP_SECONDS)
    return _calls(context, images, _SECONDS)


def _calls(context: tenonrt.ExecutionContext, images: Array, seconds: float) -> list[float]:
    samples: list[float] = []
    stop = time.perf_counter() + seconds
    while not samples or time.perf_counter() < stop:
        start = time.perf_counter()
        context.execute({"image": images})
        samples.append(time.perf_counter() - start)
    return samples


def _memory(console: Console, engine: tenonrt.Engine) -> None:
    _say(console, 5, f"Memory at batch {MAX_BATCH}")
    memory = engine.inspect()["memory"]
    console.print(
        f"   arena [bold]{kilobytes(memory['arena'])}[/] (no layout needs less than "
        f"{kilobytes(memory['lower_bound'])}), weights {kilobytes(memory['weights'])}, workspace "
        f"{kilobytes(memory['workspace'])}"
    )


def _explain(console: Console, engine: tenonrt.Engine, context: tenonrt.ExecutionContext, images: Array) -> None:
    _say(console, 6, f"Where the time goes at batch {MAX_BATCH}, step by step")
    spent = _profile(context, images[:MAX_BATCH])
    chosen = {step.name: step for step in engine.report.steps}
    console.print(
        "   */*.numpy runs a layer's own reference: it is always there, and every other kernel must beat it.",
        style="dim",
    )
    console.print(steps_table(spent, {name: (step.kernel, step.tactic) for name, step in chosen.items()}))
    slowest = max((name for name in spent if name in chosen), key=lambda name: spent[name])
    layers = next(r.layers for r in engine.report.regions if " + ".join(r.layers) == slowest)
    rivals = [region for region in engine.report.regions if set(region.layers) & set(layers)]
    _say(console, 7, f"Who competed for the slowest step, {slowest}")
    console.print(candidates_table(rivals))


def _profile(context: tenonrt.ExecutionContext, images: Array) -> dict[str, float]:
    """Median seconds of each step over a number of runs."""
    samples: dict[str, list[float]] = {}

    def note(step: str, seconds: float) -> None:
        samples.setdefault(step, []).append(seconds)

    context.profiler = note
    try:
        for _ in range(_PROFILED_RUNS):
            context.execute({"image": images})
    finally:
        context.profiler = None
    return {step: median(times) for step, times in samples.items()}
