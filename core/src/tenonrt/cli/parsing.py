"""Options that parsers add to the commands that read models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import typer

_PREFIX = "parser_"  # no command has an argument that begins so, except the one that gets what was said


def with_parser_options(command: Callable[..., None], ask: bool = True) -> Callable[..., None]:
    """A command with the options of the installed parsers beside its own.

    Those that were used come as ``parser_options``, by the name of the field of the parser's ``Options``. An option
    that the command has itself stays the command's. ask: False leaves the parsers alone, which import NumPy.
    """
    own = signature(command).parameters
    hints = get_type_hints(command, include_extras=True)
    hints.pop("parser_options")
    added = {f"{_PREFIX}{name}": hint for name, hint in _contributed() if name not in own} if ask else {}

    @wraps(command)
    def run(**given: Any) -> None:
        said = {name.removeprefix(_PREFIX): given.pop(name, None) for name in added}
        command(**given, parser_options={name: value for name, value in said.items() if value not in (None, [], False)})

    parameters = [own[name].replace(annotation=hint) for name, hint in hints.items() if name in own]
    parameters += [Parameter(n, Parameter.KEYWORD_ONLY, default=None, annotation=h) for n, h in added.items()]
    run.__annotations__ = {**hints, **added}
    run.__signature__ = signature(command).replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


def _contributed() -> Iterator[tuple[str, Any]]:
    """Each option's name and the annotation that typer makes it of; of parsers that share a name, the first's."""
    from tenonrt.errors import PluginError
    from tenonrt.plugins.registry import PARSERS, current_registry

    registry, seen = current_registry(), set()
    for entry in registry.usable(PARSERS):
        try:
            options = registry.parser(entry.name).Options
        except PluginError:
            continue  # the registry has told of it
        hints = get_type_hints(options, include_extras=True)
        for name in options.__struct_fields__:
            if name not in seen:
                seen.add(name)
                yield name, _annotation(name, entry.name, hints[name])


def _annotation(name: str, parser: str, hint: Any) -> Any:
    notes = [note for note in get_args(hint)[1:] if isinstance(note, msgspec.Meta)] if _annotated(hint) else []
    kind = get_args(hint)[0] if _annotated(hint) else hint
    described = next((note.description for note in notes if note.description), "")
    option = typer.Option(
        f"--{name.replace('_', '-')}", help=f"{described} ({parser})", rich_help_panel="Options of parsers"
    )
    if kind is bool:
        return Annotated[bool, option]
    if get_origin(kind) is tuple:
        return Annotated[list[str] | None, option]
    plain = [get_args(part)[0] if _annotated(part) else part for part in get_args(kind) or (kind,)]
    number = next((t for t in (int, float) if t in plain), str)
    return Annotated[number | None, option]


def _annotated(hint: Any) -> bool:
    return hasattr(hint, "__metadata__")
