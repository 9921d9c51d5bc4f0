"""From the file a command was given to an engine: a plan is loaded, a model is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import warn

from tenonrt.cli.console import messages

if TYPE_CHECKING:
    from tenonrt.builder.config import BuilderConfig
    from tenonrt.calibration.session import Calibration
    from tenonrt.contracts import Progress
    from tenonrt.runtime.engine import Engine

_OPTIONS = {"optimization_level": "--opt-level"}  # that are called otherwise than their fields


def is_plan(path: Path) -> bool:
    """Whether a file begins as plans do; `ParseError` when it cannot be read."""
    from tenonrt.errors import ParseError
    from tenonrt.plan.container import MAGIC

    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise ParseError(f"{path} cannot be read: {error.strerror or error}") from error


def open_engine(path: Path, config: BuilderConfig, options: Mapping[str, Any]) -> Engine:
    """An engine from a plan or built from a model. What was said for a build changes no plan: a warning says so."""
    from tenonrt.runtime.engine import Engine

    if not is_plan(path):
        return build_engine(path, config, options)
    said = [field.name for field in fields(config) if getattr(config, field.name) != field_default(field)]
    if said := [_OPTIONS.get(name, f"--{name.replace('_', '-')}") for name in (*said, *options)]:
        threads = "; TENONRT_NUM_THREADS sets the threads of a run" if "--threads" in said else ""
        warn(f"{path} is a plan, built already: {', '.join(said)} had no effect{threads}", stacklevel=2)
    return Engine.load(path)


def field_default(field: Field[Any]) -> Any:
    """What a field of a configuration is where nothing was said."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def build_engine(
    path: Path, config: BuilderConfig, options: Mapping[str, Any], calibration: Calibration | None = None
) -> Engine:
    """Build a model with a progress bar on a terminal, and none elsewhere. options: of the model's parser."""
    from tenonrt.api import compile

    with progress_bar() as progress:
        config = replace(config, progress=progress)
        settings = {field.name: getattr(config, field.name) for field in fields(config)}
        return compile(path, options=options, calibration=calibration, **settings)


_PHASES = {
    "calibrate": "calibrating",
    "optimize": "rewriting",
    "offers": "asking kernels",
    "check": "first runs",
    "tune": "timing",
    "sensitivity": "quantizing",
}


@contextmanager
def progress_bar() -> Iterator[Progress | None]:
    """What tells how far a build is, on a terminal; None elsewhere."""
    if not messages().is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns: list[Any] = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[detail]}"),
    ]
    with Progress(*columns, console=messages(), transient=True) as bar:
        task = bar.add_task("reading", total=None, detail="")

        def tell(phase: str, done: int, total: int, detail: str) -> bool:
            bar.update(task, description=_PHASES.get(phase, phase), completed=done, total=total, detail=detail[:40])
            return True

        yield tell
