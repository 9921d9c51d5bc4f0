"""The `tenonrt` command: verbs of its own and of plugins, each imported when it is invoked and not before."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from tenonrt.cli.console import complain, complain_of_warning
from tenonrt.cli.contributed import contributed, load_contributed
from tenonrt.errors import TenonError

# Verb: what the listing says of it. Each is a function of the same name in the module of the same name.
VERBS = {
    "parse": "Read a model without building it, and say which plugins provide its layers.",
    "convert": "Write a model in another format: ONNX, or UFF from a TensorFlow graph.",
    "build": "Optimize a model for this machine and save the plan.",
    "run": "Run a plan or a model once and describe its outputs.",
    "bench": "Measure latency, throughput and memory, per step if asked.",
    "inspect": "Show what a plan holds and why each kernel was chosen.",
    "rank": "Time every candidate for one layer of a model, live.",
    "cache": "List, merge and prune timing caches.",
    "compare": "Compare outputs with other runtimes, step by step if asked.",
    "sensitivity": "Rank layers by what int8 costs, and find those to keep.",
    "plugins": "List what is installed, and say why something is not usable.",
}
# These have the options of parsers too.
_READ_MODELS = {"parse", "convert", "build", "run", "bench", "rank", "compare", "sensitivity"}
_CANCELLED = 130  # what shells report of a process that an interrupt ended


class Verbs(TyperGroup):
    """Lists verbs by name alone; `resolve_command` imports the one that is invoked."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*VERBS, *(name for name in contributed() if name not in VERBS)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in VERBS:
            return TyperCommand(cmd_name, help=VERBS[cmd_name])
        described = contributed().get(cmd_name)
        return None if described is None else TyperCommand(cmd_name, help=described)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and _loaded(str(command.name), rest), rest

    def invoke(self, ctx: Any) -> Any:
        """Errors raised on purpose become one message and status 1, an interrupt status 130."""
        try:
            return super().invoke(ctx)
        except (TenonError, OSError) as error:
            if isinstance(error, BrokenPipeError) or ctx.params.get("traceback"):
                raise
            complain(error)
            raise typer.Exit(1) from error
        except KeyboardInterrupt:
            complain("interrupted; no file was left half written")
            raise typer.Exit(_CANCELLED) from None


def _loaded(name: str, arguments: Sequence[str]) -> Any:
    """A verb's command. Parsers, which are heavy, are asked for their options when more than help is wanted."""
    if name not in VERBS:
        return command_of(name, load_contributed(name))
    from importlib import import_module

    function = getattr(import_module(f"tenonrt.cli.{name}"), name)
    if name in _READ_MODELS:
        from tenonrt.cli.parsing import with_parser_options

        function = with_parser_options(function, ask=not {*arguments} <= {"-h", "--help"})
    return command_of(name, function)


def command_of(name: str, function: Any) -> Any:
    """The command that typer makes of a function's signature and docstring; a `typer.Typer` is taken as it is."""
    if isinstance(function, typer.Typer):
        return typer.main.get_command(function)
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name)(function)
    return typer.main.get_command(alone)


_root = typer.Typer(
    cls=Verbs,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(wanted: bool) -> None:
    if wanted:
        from importlib_metadata import version

        typer.echo(f"tenonrt {version('tenonrt-core')}")
        raise typer.Exit


@_root.callback()
def root(
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error was raised.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Optimize neural networks for the machine they run on, and run them."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Status 0, 1 after an error, 2 after wrong usage, 130 after an interrupt."""
    warnings.showwarning = complain_of_warning
    typer.main.get_command(_root)(_hoisted(sys.argv[1:] if arguments is None else arguments), prog_name="tenonrt")


def _hoisted(arguments: Sequence[str]) -> list[str]:
    """``--traceback`` is accepted after the verb too, where one adds it to a command that has just failed."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    before, after = list(arguments[:end]), list(arguments[end:])
    kept = [word for word in before if word != "--traceback"]
    return ["--traceback"] * (len(kept) < len(before)) + kept + after
