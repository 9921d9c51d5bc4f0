"""Options in groups: a command takes a dataclass where it would take a dozen options that belong together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import Field, fields, is_dataclass
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any, get_args, get_type_hints


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """A command with an option for each field of the parameters that are dataclasses, in whose place they come.

    A group's options stand under the first line of its docstring in the help.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}

    @wraps(command)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    parameters: list[Parameter] = []
    for name, parameter in signature(command).parameters.items():
        added = _options(groups[name]) if name in groups else [parameter.replace(annotation=hints[name])]
        parameters += (p.replace(kind=Parameter.KEYWORD_ONLY) for p in added)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = signature(command).replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


def _options(group: Any) -> Iterator[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    panel = (group.__doc__ or "").partition("\n")[0].rstrip(".")
    for field in fields(group):
        yield _option(field, hints[field.name], panel)


def _option(field: Field[Any], hint: Any, panel: str) -> Parameter:
    kind, option = get_args(hint)
    option = copy(option)  # other commands have it in another place
    option.rich_help_panel = panel
    return Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=Annotated[kind, option])
