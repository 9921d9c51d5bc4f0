"""Options of parsers on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
import typer
from tenonrt import Registry, using
from tenonrt.cli.app import command_of
from tenonrt.cli.parsing import with_parser_options
from tenonrt.contracts import GraphBuilder, Parser, ParserOptions


class Options(ParserOptions, frozen=True):
    weights: Annotated[str | None, msgspec.Meta(description="Where the weights are.")] = None
    node: tuple[str, ...] = ()
    count: int | None = None
    seed: Annotated[Annotated[int, msgspec.Meta(ge=0)] | None, msgspec.Meta(description="Of made-up weights.")] = None
    fast: bool = False


class Told(Parser):
    Options = Options

    def sniff(self, head: bytes) -> bool:
        return False

    def parse(self, path: Path, builder: GraphBuilder) -> None:
        raise NotImplementedError


class OneParser(Registry):
    def usable(self, group: str) -> Any:
        return [type("Entry", (), {"name": "told"})]

    def parser(self, name: str) -> Parser:
        return Told()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["m"], {}),
        (["--weights", "w", "m", "--node", "a", "--node=b"], {"weights": "w", "node": ["a", "b"]}),
        (["m", "--fast", "--count", "3"], {"fast": True, "count": 3}),
        (["--seed", "4", "m"], {"seed": 4}),
    ],
)
def test_options_come_by_name(words: list[str], expected: dict[str, Any]) -> None:
    said: list[Any] = []

    def read(model: Annotated[Path, typer.Argument()], shape: str | None = None, *, parser_options: Any = None) -> None:
        said.append((str(model), shape, dict(parser_options)))

    read.__annotations__ = {"model": Annotated[Path, typer.Argument()], "shape": str | None, "parser_options": Any}
    with using(OneParser()):
        command_of("read", with_parser_options(read)).main(words, standalone_mode=False)
    assert said == [("m", None, expected)]


def test_a_number_is_asked_for_where_one_belongs() -> None:
    """A bounded number was taken for a text, which swallowed the option after it."""

    def read(model: Annotated[Path, typer.Argument()], *, parser_options: Any = None) -> None:
        raise AssertionError(parser_options)

    read.__annotations__ = {"model": Annotated[Path, typer.Argument()], "parser_options": Any}
    with using(OneParser()), pytest.raises(Exception, match="valid integer"):
        command_of("read", with_parser_options(read)).main(["m", "--seed", "--fast"], standalone_mode=False)
