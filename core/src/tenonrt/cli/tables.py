"""Tables that more than one command prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tenonrt.cli.console import output

if TYPE_CHECKING:
    from rich.table import Table

    from tenonrt.graph.records import LadderStep
    from tenonrt.types import TensorType


def table(title: str, *columns: str, right: Sequence[str] = (), fold: Sequence[str] = ()) -> Table:
    """A table without frames; the columns in ``right`` hold numbers, those in ``fold`` may take several lines."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table(title=Text(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(
            column,
            justify="right" if column in right else "left",
            overflow="fold" if column in fold else "ellipsis",
            no_wrap=column not in fold,
            min_width=min(len(column), 6) if column in fold else None,
        )
    return made


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Labels and values in two columns."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in facts:
        grid.add_row(label, Text(value))
    output().print(grid)


def ladder_table(ladder: Sequence[LadderStep]) -> Table:
    """How many layers were left after each step of a build, with a bar to scale."""
    made = table("Layers after each step", "step", "layers", "change", "", right=("layers", "change"))
    most = max((rung.layers for rung in ladder), default=0) or 1
    before: int | None = None
    for rung in ladder:
        change = "" if before is None or rung.layers == before else f"{rung.layers - before:+d}"
        made.add_row(rung.step, str(rung.layers), change, f"[cyan]{'━' * round(rung.layers * 30 / most)}[/]")
        before = rung.layers
    return made


def type_text(type: TensorType) -> str:
    """A type with the ranges of its symbols: ``float32[Nx10], N 1 to 64``."""
    from tenonrt.dims import symbols

    found = {s.name: s for dimension in type.shape for s in symbols(dimension)}
    ranges = (f"{s.name} {s.lower} to {s.upper}" if s.upper is not None else f"{s.name} from {s.lower}"
              for s in found.values())  # fmt: skip
    return ", ".join([str(type), *ranges])


def kernel_name(kernel_id: str) -> str:
    """An entry id without the prefix that all first-party distributions share."""
    return kernel_id.removeprefix("tenonrt-")


def solver_name(kernel_id: str, tactic: str) -> str:
    """A kernel with its tactic, where it has more than the default one."""
    return kernel_name(kernel_id) + ("" if tactic == "default" else f" · {tactic}")
