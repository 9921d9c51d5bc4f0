"""Where output goes: results to standard output, everything else to standard error."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console


@lru_cache(maxsize=1)
def output() -> Console:
    """The console for results. Long names stay whole when nobody looks: a file or pipe has no width."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal or "COLUMNS" in console._environ else Console(highlight=False, width=160)


@lru_cache(maxsize=1)
def messages() -> Console:
    """The console for progress, warnings and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def complain(error: object) -> None:
    """One error, without its traceback."""
    messages().print("[bold red]error:[/]", _plain(error), soft_wrap=True)


def complain_of_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Takes the place of `warnings.showwarning`: people at a terminal have no use for a line of our source."""
    messages().print("[yellow]warning:[/]", _plain(message), soft_wrap=True)


def _plain(value: object) -> Any:
    from rich.text import Text

    return Text(str(value))


def print_json(value: Any) -> None:
    """Plain values as JSON on standard output; numbers that JSON lacks (infinity) become null."""
    import sys

    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
