"""`tenonrt parse`: what a model becomes when it is read, without building it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tenonrt.cli.options import NONE_GIVEN, Json, ParserOptions

if TYPE_CHECKING:
    from tenonrt.graph.graph import Graph
    from tenonrt.graph.graph import Layer as GraphLayer
    from tenonrt.graph.network import Network

_SHOWN = 3  # nodes of the model named for each kind


@dataclass
class _Kind:
    """The layers of one kind, the distribution that offers it, and the model's nodes that they came from."""

    distribution: str
    count: int = 0
    nodes: dict[str, None] = field(default_factory=dict)


def parse(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The model file.")],
    check: Annotated[
        bool, typer.Option("--check", help="List which plugin provides each kind of layer, and fail if any is missing.")
    ] = False,
    json: Json = False,
    *,
    parser_options: ParserOptions = NONE_GIVEN,
) -> None:
    """Read a model and say what it is made of. Nothing is optimized or built.

    A model that needs what is not installed is an error that lists all of it; --check lists what is provided as well.
    """
    from tenonrt.api import parse as read
    from tenonrt.errors import UnsupportedError

    try:
        network = read(model, options=parser_options)
    except UnsupportedError as error:
        if check and error.provided:
            _print_provided(error.provided)
        raise
    kinds = _kinds(network)
    if json:
        _print_json(network, kinds)
        return
    from tenonrt.cli.console import output
    from tenonrt.cli.tables import print_facts, table, type_text

    graph = network.graph
    facts = [("model", str(model))]
    facts += [("input" if i == 0 else "", f"{t.name} {type_text(t.type)}") for i, t in enumerate(graph.inputs)]
    outputs = enumerate(graph.outputs.items())
    facts += [("output" if i == 0 else "", f"{name} {type_text(t.type)}") for i, (name, t) in outputs]
    facts.append(("layers", str(sum(kind.count for kind in kinds.values()))))
    print_facts(facts)
    if check:
        made = table("Everything is supported", "kind", "layers", "provided by", "nodes", right=("layers",))
        for name, kind in sorted(kinds.items()):
            nodes = list(kind.nodes)
            more = f" and {len(nodes) - _SHOWN} more" if len(nodes) > _SHOWN else ""
            made.add_row(name, str(kind.count), kind.distribution, ", ".join(nodes[:_SHOWN]) + more)
        output().print(made)


def _print_provided(provided: Mapping[str, int]) -> None:
    """The operators of a model that lacks others, and where each comes from."""
    from tenonrt.cli.console import output
    from tenonrt.cli.tables import table
    from tenonrt.plugins.registry import MAPPINGS, current_registry

    entries = current_registry().usable(MAPPINGS)
    made = table("Supported", "operator", "nodes", "provided by", right=("nodes",))
    for name, count in sorted(provided.items(), key=lambda item: item[0].partition(":")[2]):
        entry = next((e for e in entries if e.name == name or e.name.startswith(f"{name}@")), None)
        origin = "a function of other operators" if entry is None else f"{entry.distribution} {entry.version}"
        made.add_row(name.partition(":")[2].removeprefix(":"), str(count), origin)
    output().print(made)


def _kinds(network: Network) -> dict[str, _Kind]:
    from tenonrt.plugins.registry import LAYERS

    kinds: dict[str, _Kind] = {}
    for layer in _layers(network.graph):
        if layer.kind not in kinds:
            entry = network.registry.find(LAYERS, layer.kind)
            kinds[layer.kind] = _Kind("" if entry is None else f"{entry.distribution} {entry.version}")
        kinds[layer.kind].count += 1
        kinds[layer.kind].nodes.update(dict.fromkeys(layer.sources))
    return kinds


def _layers(graph: Graph) -> Iterator[GraphLayer]:
    """The layers of a graph and of those nested in it."""
    for layer in graph.layers:
        yield layer
        for nested in layer.graphs:
            yield from _layers(nested)


def _print_json(network: Network, kinds: dict[str, _Kind]) -> None:
    from tenonrt.cli.console import print_json

    print_json(
        {
            "inputs": {tensor.name: str(tensor.type) for tensor in network.graph.inputs},
            "outputs": {name: str(tensor.type) for name, tensor in network.graph.outputs.items()},
            "layers": {
                name: {"count": kind.count, "distribution": kind.distribution, "nodes": list(kind.nodes)}
                for name, kind in sorted(kinds.items())
            },
        }
    )
