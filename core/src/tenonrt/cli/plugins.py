"""`tenonrt plugins`: what is installed, in what state, and why."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenonrt.cli.options import Json

if TYPE_CHECKING:
    from tenonrt.plugins.discovery import Entry
    from tenonrt.plugins.registry import Record, Registry

_COLOURS = {"found": "green", "loaded": "green", "blocked": "yellow", "incompatible": "red", "failed": "red"}


def plugins(
    why: Annotated[
        str | None, typer.Option(metavar="NAME", help="Import what has this name, or is of this distribution, and say.")
    ] = None,
    json: Json = False,
) -> None:
    """List what is installed, and say why something is not usable.

    Listing imports nothing: "found" means that nothing speaks against an entry yet.
    """
    from tenonrt.plugins.registry import PluginWarning, current_registry

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)  # the table says the same
        registry = current_registry()
        records = registry.records() if why is None else list(_loaded(registry, why))
    if json:
        from tenonrt.cli.console import print_json

        print_json([_as_data(record, traceback=why is not None) for record in records])
    elif why is None:
        _report(records)
    else:
        _explain(registry, records)


def _loaded(registry: Registry, name: str) -> Iterator[Record]:
    """The records of a name, each after its import was tried. Names match entries, their ids and distributions."""
    from tenonrt.errors import PluginError

    found = [r for r in registry.records() if name in (r.entry.name, r.entry.id, r.entry.distribution)]
    if not found:
        raise PluginError(f"nothing installed has the name {name!r}; {_nearest(registry, name)}")
    for record in found:
        if record.state == "found":
            with suppress(PluginError):  # the record holds the reason, which is what was asked for
                registry.load(record.entry)
        yield record


def _nearest(registry: Registry, name: str) -> str:
    """The names that were probably meant: those that contain it, or are spelt much like it."""
    from difflib import get_close_matches

    names = {n for r in registry.records() for n in (r.entry.name, r.entry.distribution)}
    near = sorted(n for n in names if name.lower() in n.lower()) or get_close_matches(name, sorted(names))
    return f"did you mean {' or '.join(near[:3])}?" if near else "`tenonrt plugins` lists entries and distributions"


def _as_data(record: Record, traceback: bool) -> dict[str, Any]:
    entry = record.entry
    data = {
        "group": entry.group,
        "name": entry.name,
        "value": entry.value,
        "distribution": entry.distribution,
        "version": entry.version,
        "state": record.state,
        "why": record.why,
    }
    return {**data, "traceback": record.traceback} if traceback else data


def _report(records: list[Record]) -> None:
    from rich.text import Text

    from tenonrt.cli.console import output
    from tenonrt.cli.tables import table

    by_group: dict[str, list[Record]] = {}
    for record in records:
        by_group.setdefault(record.entry.group, []).append(record)
    for group, members in by_group.items():
        made = table(f"{group.removeprefix('tenonrt.')}  ({len(members)})", "name", "distribution", "version", "state",
                     "why", fold=("name", "why"))  # fmt: skip
        for record in members:
            entry = record.entry
            state = Text(record.state, _COLOURS[record.state])
            made.add_row(Text(entry.name), entry.distribution, entry.version, state, Text(record.why))
        output().print(made)
    _report_optimizations()


def _report_optimizations() -> None:
    """What `--disable` takes besides the names of passes."""
    from tenonrt.builder.optimizations import OPTIMIZATIONS
    from tenonrt.cli.console import output
    from tenonrt.cli.tables import table

    made = table("Optimizations, which --disable leaves out as it does passes", "name", "what it does",
                 fold=("what it does",))  # fmt: skip
    for name, does in OPTIMIZATIONS.items():
        made.add_row(name, does)
    output().print(made)


def _remark(registry: Registry, entry: Entry) -> str:
    """Why an entry that imports is used by nobody all the same; empty where nothing is known."""
    from tenonrt.errors import PluginError
    from tenonrt.plugins.registry import DEVICES, KERNELS, LAYERS, MAPPINGS

    if entry.group in (LAYERS, MAPPINGS):
        try:
            registry.find(entry.group, entry.name)
        except PluginError as error:
            return str(error)
    if entry.group != KERNELS:
        return ""
    device, _, rest = entry.name.partition("/")
    computes = rest.rpartition(".")[0]
    for group, name in ((DEVICES, device), (LAYERS, computes)):
        if name != "*" and not name.startswith("@") and name not in registry.names(group):
            return (
                f"nothing will ask for it: no installed distribution offers {name!r} of {group}; "
                f"kernels are named <device>/<kind>.<implementation>"
            )
    return ""


def _explain(registry: Registry, records: list[Record]) -> None:
    from rich.text import Text

    from tenonrt.cli.console import output

    for record in records:
        entry = record.entry
        line = Text.assemble(
            (entry.name, "bold"),
            f"  {entry.group}  {entry.distribution} {entry.version}  ",
            (record.state, _COLOURS[record.state]),
        )
        output().print(line, soft_wrap=True)
        output().print(Text(f"  {record.why or f'{entry.value} was imported without an error'}"), soft_wrap=True)
        if remark := _remark(registry, entry):
            output().print(Text(f"  {remark}", "yellow"), soft_wrap=True)
        if record.traceback:
            output().print(Text(record.traceback.rstrip(), "dim"), soft_wrap=True)
