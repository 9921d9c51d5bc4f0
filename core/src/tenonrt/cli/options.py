"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from tenonrt.cli.quantities import parse_shape

if TYPE_CHECKING:
    from tenonrt.plugins.selection import PluginSet

T = TypeVar("T")

Source = Annotated[Path, typer.Argument(metavar="PLAN|MODEL", help="A plan, or a model file that is built first.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]
Shapes = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="NAME=SHAPE", help="The shape of an input, image=1x3x224x224. Repeatable."),
]
Level = Annotated[
    int,
    typer.Option("--opt-level", min=0, max=5, help="0 chooses without timing, from 3 on every tactic is timed."),
]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads that the engine uses.")]
ParserOptions = Mapping[str, Any]  # what was said for the model's parser; see parsing.py
NONE_GIVEN: ParserOptions = {}
MaxBatch = Annotated[
    int | None,
    typer.Option("--max-batch", min=1, help="Accept batches of 1 to this many, and tune for the largest."),
]


def parsed(option: str, parse: Callable[[str], T], text: str) -> T:
    """A parsed option; what it refuses is wrong usage (status 2) of that option."""
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=f"'{option}'") from error


def shapes_of(texts: list[str] | None) -> dict[str, tuple[int, ...]]:
    """Shapes by input name."""
    return dict(parsed("--shape", parse_shape, text) for text in texts or ())


def pairs_of(option: str, texts: list[str] | None) -> dict[str, str]:
    """``NAME=VALUE`` options as a dictionary."""
    pairs = {}
    for text in texts or ():
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise typer.BadParameter(f"{text!r} is not NAME=FILE", param_hint=f"'{option}'")
        pairs[name] = value
    return pairs


def plugin_set(allow: list[str] | None, deny: list[str] | None) -> PluginSet | None:
    """What the environment selects, narrowed by the options; None when there are none."""
    if not allow and not deny:
        return None
    from dataclasses import replace

    from tenonrt.plugins.selection import PluginSet

    base = PluginSet.from_environment()
    return replace(base, allow=tuple(allow) if allow else base.allow, deny=(*base.deny, *(deny or ())))


def config(**settings: Any) -> Any:
    """A `BuilderConfig`; a value that it refuses is wrong usage."""
    from tenonrt.builder.config import BuilderConfig

    try:
        return BuilderConfig(**settings)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def calibration_of(
    data: Path | None, calibrator: str, options: list[str] | None, cache: Path | None, keep: list[str] | None
) -> Any:
    """A `Calibration`; numbers of a calibrator that are none are wrong usage."""
    from tenonrt.calibration.session import Calibration

    numbers = {}
    for name, text in pairs_of("--calibrator-option", options).items():
        try:
            numbers[name] = float(text)
        except ValueError as error:
            raise typer.BadParameter(f"{text!r} is no number", param_hint="'--calibrator-option'") from error
    return Calibration(data, calibrator, cache, numbers, frozenset(keep or ()))
