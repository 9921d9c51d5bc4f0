"""Options in groups reach the command as the dataclasses it asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer
from tenonrt.cli.groups import with_groups
from tenonrt.cli.options import Level, Threads
from typer.testing import CliRunner

given: dict[str, Any] = {}


@dataclass(frozen=True)
class Speed:
    """How fast.

    Nobody reads this.
    """

    threads: Threads = 1
    names: Annotated[list[str] | None, typer.Option("--name", "-n", help="Names.")] = None


@dataclass(frozen=True)
class Care:
    """How carefully."""

    opt_level: Level = 3


@with_groups
def drive(
    car: Annotated[str, typer.Argument(help="The car.")], loud: bool = False, *, speed: Speed, care: Care
) -> None:
    given.update(car=car, loud=loud, speed=speed, care=care)


def invoke(*arguments: str) -> Any:
    app = typer.Typer()
    app.command()(drive)
    return CliRunner().invoke(app, arguments)


def test_a_command_gets_its_groups() -> None:
    assert invoke("red", "--threads", "2", "--opt-level", "0", "-n", "a", "--name", "b", "--loud").exit_code == 0
    assert given == {"car": "red", "loud": True, "speed": Speed(2, ["a", "b"]), "care": Care(0)}


def test_what_is_not_said_has_the_groups_defaults() -> None:
    assert invoke("red").exit_code == 0
    assert given == {"car": "red", "loud": False, "speed": Speed(), "care": Care()}


def test_limits_of_options_hold() -> None:
    assert invoke("red", "--opt-level", "6").exit_code == 2


def test_help_has_the_groups_in_their_order() -> None:
    shown = invoke("--help").output
    assert 0 < shown.index("--loud") < shown.index("How fast") < shown.index("--threads") < shown.index("How carefully")
    assert "Nobody" not in shown
    assert Threads.__metadata__[0].rich_help_panel is None, "the option itself is that of other commands too"
