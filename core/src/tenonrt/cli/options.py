"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from tenonrt.cli.quantities import parse_shape, parse_shapes

if TYPE_CHECKING:
    from tenonrt.plugins.selection import PluginSet

T = TypeVar("T")

Source = Annotated[Path, typer.Argument(metavar="PLAN|MODEL", help="A plan, or a model file that is built first.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]
Shapes = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="NAME=SHAPE", help="The shape of an input, image=1x3x224x224. Repeatable."),
]
ShapeRanges = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="NAME=SHAPE[:SHAPE:SHAPE]",
        help="The shape of an input, or the least, one or more to tune for, and the greatest: ids=1x1:1x128:8x512. "
        "Repeatable; the second range of an input begins a second profile.",
    ),
]
Level = Annotated[
    int,
    typer.Option("--opt-level", min=0, max=5, help="0 chooses without timing, 3 times what may win, 4 every tactic."),
]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads that the engine uses.")]
Disable = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Leave out an optimization or pass that `tenonrt plugins` lists. Repeatable."),
]
Ranged = tuple[tuple[int, ...], ...]  # the least shape, those to tune for, the greatest
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


def profiles_of(texts: list[str] | None) -> tuple[dict[str, tuple[int, ...]], list[dict[str, Ranged]]]:
    """Fixed shapes by input, and profiles: the second range of an input is that of the second profile, a single range
    that of all.
    """
    fixed: dict[str, tuple[int, ...]] = {}
    ranges: dict[str, list[Ranged]] = {}
    for name, shapes in (parsed("--shape", parse_shapes, text) for text in texts or ()):
        if len(shapes) == 1:
            fixed[name] = shapes[0]
        else:
            ranges.setdefault(name, []).append(shapes)
    count = max(map(len, ranges.values()), default=0)
    for name, given in ranges.items():
        if len(given) not in (1, count):
            raise typer.BadParameter(
                f"{name} has {len(given)} ranges, another input {count}; give one for each profile, or one for all",
                param_hint="'--shape'",
            )
    return fixed, [{name: given[min(i, len(given) - 1)] for name, given in ranges.items()} for i in range(count)]


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
    import msgspec

    from tenonrt.plugins.selection import PluginSet

    base = PluginSet.from_environment()
    return msgspec.structs.replace(base, allow=tuple(allow) if allow else base.allow, deny=(*base.deny, *(deny or ())))


def layer_precision_of(text: str) -> Any:
    """``conv*=obey:float32``; `ValueError` says what is accepted."""
    from tenonrt.builder.config import LayerPrecision

    pattern, sign, rest = text.rpartition("=")
    mode, colon, precision = rest.partition(":")
    if not (pattern and sign and colon):
        raise ValueError(f"{text!r} is no precision of layers; write PATTERN=obey:float32 or PATTERN=prefer:bfloat16")
    return LayerPrecision(pattern, precision, mode)  # type: ignore[arg-type]


def choice_of(plan: Path) -> Any:
    """The selection that a plan records."""
    from tenonrt.plan.loading import recorded_choice

    return recorded_choice(plan)


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
