"""What the demonstration prints, as tables of rich."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

_BAR = "━"


def milliseconds(seconds: float | None) -> str:
    """``1.23 ms``, a dash for what was not timed."""
    return "–" if seconds is None else f"{seconds * 1e3:.3f} ms" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def kilobytes(nbytes: int) -> str:
    """In units of 1024 bytes."""
    return f"{nbytes / 1024:.1f} KiB"


def accuracy_line(right: int, total: int) -> str:
    """Share of images whose most probable digit is the labelled one."""
    return f"   top-1 accuracy [bold green]{right / total:.2%}[/]  ({right} of {total})"


def _table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    made = Table(box=SIMPLE_HEAD, pad_edge=True)
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return made


def ladder_table(ladder: Sequence[Any]) -> Table:
    """Layers left after each step of the build."""
    made = _table("after", "layers", "", numbers=("layers",))
    most = max(rung.layers for rung in ladder)
    for rung in ladder:
        made.add_row(rung.step, str(rung.layers), Text(_BAR * round(rung.layers * 30 / most), "cyan"))
    return made


def latency_table(rows: Sequence[tuple[int, Sequence[float]]]) -> Table:
    """Median and 90th percentile in milliseconds, images a second from the mean."""
    numbers = ("batch", "median", "p90", "images per second", "runs")
    made = _table(*numbers, numbers=numbers)
    for batch, samples in rows:
        times = [milliseconds(float(np.quantile(samples, part))) for part in (0.5, 0.9)]
        rate = batch * len(samples) / sum(samples)
        made.add_row(str(batch), f"[bold]{times[0]}[/]", times[1], f"{rate:,.0f}", str(len(samples)))
    return made


def steps_table(spent: Mapping[str, float], solved_by: Mapping[str, tuple[str, str]]) -> Table:
    """Median seconds per step in order of execution."""
    made = _table("step", "kernel", "median", "share", "", numbers=("median", "share"))
    total = sum(spent.values())
    for name, seconds in spent.items():
        bar = Text(_BAR * round(20 * seconds / total), "cyan")
        kernel = solver(*solved_by[name]) if name in solved_by else ""
        made.add_row(Text(name), Text(kernel, "dim"), milliseconds(seconds), f"{seconds / total:.0%}", bar)
    return made


def candidates_table(regions: Sequence[Any]) -> Table:
    """Every candidate of the regions, fastest first within each; what the engine runs is marked."""
    made = _table("", "region", "kernel", "time", "remark", numbers=("time",))
    for region in regions:
        name = " + ".join(region.layers)
        for number, candidate in enumerate(sorted(region.candidates, key=_order)):
            won = region.won(candidate)
            made.add_row(
                "➜" if won else "",
                Text("" if number else name),
                Text(solver(candidate.kernel, candidate.tactic)),
                milliseconds(candidate.seconds),
                Text("chosen" if won else candidate.why or ("not timed" if candidate.seconds is None else "")),
                style="bold green" if won else None,
            )
        made.add_section()
    return made


def _order(candidate: Any) -> tuple[bool, float]:
    return bool(candidate.why), float("inf") if candidate.seconds is None else candidate.seconds


def solver(kernel: str, tactic: str) -> str:
    """A kernel's entry id with its tactic, where that has a name."""
    return kernel.removeprefix("tenonrt-") + ("" if tactic == "default" else f" · {tactic}")
