"""`tenonrt cache`: what a timing cache knows, joining several, and dropping what is of no use any more."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenonrt.cli.options import Json
from tenonrt.cli.quantities import nbytes

if TYPE_CHECKING:
    from tenonrt.builder.cachefile import Row

cache = typer.Typer(help="List, merge and prune timing caches.", no_args_is_help=True, add_completion=False)
File = Annotated[Path, typer.Argument(metavar="FILE", help="The timing cache.")]


@cache.command("list")
def list_entries(file: File, json: Json = False) -> None:
    """What a timing cache knows, by machine and kernel: entries, times, refusals, bytes of compiled code."""
    from tenonrt.builder.cachefile import rows

    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows(file):
        groups.setdefault(_group(row), []).append(row)
    summary = [_summary(name, members) for name, members in sorted(groups.items())]
    if json:
        from tenonrt.cli.console import print_json

        print_json(summary)
    else:
        _print(file, summary)


@cache.command("merge")
def merge_files(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The timing cache that grows; made if need be.")],
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="The ones that are read.")],
) -> None:
    """Add to a timing cache what others know. What the target knows already stays as it is.

    Entries name the machine they were measured on, so caches of different machines may share a file.
    """
    from tenonrt.builder.cachefile import merge

    typer.echo(f"{target}: {merge(target, sources)} entries added")


@cache.command("prune")
def prune_file(
    file: File,
    other_machines: Annotated[bool, typer.Option("--other-machines", help="Drop other machines' times.")] = False,
    device: Annotated[str, typer.Option(help="The device whose fingerprint is this machine's.")] = "cpu",
) -> None:
    """Drop what no build here can use: kernels that are not installed in that version, earlier tuners."""
    from tenonrt.builder.cachefile import prune

    typer.echo(f"{file}: {prune(file, _useless(device, other_machines))} entries dropped")


def _useless(device: str, other_machines: bool) -> Any:
    import msgspec

    from tenonrt.builder.cache import TUNER_VERSION
    from tenonrt.plugins.code_version import code_version
    from tenonrt.plugins.registry import KERNELS, Registry

    registry = Registry()
    installed = {(entry.id, code_version(entry)) for entry in registry.usable(KERNELS)} | {("", "")}
    here = msgspec.json.encode(dict(sorted(registry.device(device).fingerprint().items()))).decode()

    def useless(row: Row) -> bool:
        subject = row.subject
        if subject is None or subject.tuner != TUNER_VERSION or (subject.kernel, subject.version) not in installed:
            return True
        return other_machines and subject.device != here

    return useless


def _group(row: Row) -> tuple[str, str, str]:
    subject = row.subject
    return ("", "", "") if subject is None else (subject.device, subject.kernel, subject.version)


def _summary(name: tuple[str, str, str], members: list[Row]) -> dict[str, Any]:
    import msgspec

    counts = Counter(
        "refused" if row.entry.why else "timed" if row.entry.seconds is not None else "tried" for row in members
    )
    device, kernel, version = name
    machine = msgspec.json.decode(device) if device else {}
    code = sum(row.code for row in members)
    return {"machine": machine, "kernel": kernel, "version": version, "entries": len(members), "code": code, **{
        word: counts[word] for word in ("timed", "tried", "refused")
    }}  # fmt: skip


def _print(file: File, summary: list[dict[str, Any]]) -> None:
    from rich.text import Text

    from tenonrt.cli.console import output
    from tenonrt.cli.tables import kernel_name, table

    numbers = ("entries", "timed", "refused", "code")
    made = table(f"{file}, {nbytes(file.stat().st_size)}", "machine", "kernel", "version", *numbers,
                 right=numbers, fold=("machine", "kernel"))  # fmt: skip
    before = None
    for row in summary:
        machine = " ".join(str(row["machine"].get(word, "")) for word in ("kind", "machine", "model")).strip()
        machine = machine or "written by an earlier version"
        kernel = kernel_name(row["kernel"]) or "whole networks"
        made.add_row(
            Text("" if machine == before else machine), Text(kernel), row["version"], str(row["entries"]),
            str(row["timed"]), str(row["refused"]), nbytes(row["code"]),
        )  # fmt: skip
        before = machine
    output().print(made)
