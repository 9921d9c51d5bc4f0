"""The pass engine: phases in order, each run over a worklist until no pass has anything to offer."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from tenonrt.contracts import Pass, Patch
from tenonrt.errors import GraphError, PluginError
from tenonrt.graph.graph import Graph, Layer
from tenonrt.graph.patching import apply_patch
from tenonrt.graph.records import LadderStep, PatchRecord
from tenonrt.graph.verification import verify
from tenonrt.plugins.discovery import Entry
from tenonrt.plugins.registry import PASSES, PluginWarning, Registry

# Phase: what the ladder calls the network after it.
PHASES = {
    "clean": "after dead-layer removal",
    "fold": "after folding",
    "fuse": "after fusing into weights",
    "tidy": "after tidying",
}
# A pair of passes that undo each other would run for ever; no real network comes near this many patches a layer.
_PATCHES_PER_LAYER = 50
# Constants may grow fourfold, those of small networks by 64 MiB: a chain of layers that each multiply a size must not
# fill the memory. Tiny ones (shapes, axes, scales) are never refused.
_GROWTH, _ALLOWED_BYTES, _TINY_BYTES = 4, 1 << 26, 1 << 10


@dataclass
class PassLog:
    """What the passes did."""

    ladder: list[LadderStep] = field(default_factory=list)
    patches: list[PatchRecord] = field(default_factory=list)
    refused: list[PatchRecord] = field(default_factory=list)
    quarantined: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Offer:
    entry: Entry
    rewriter: Pass


class _ConstantBudget:
    """How many bytes of constants patches may still add; those that nothing reads any more are given back once."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._limit = max(_ALLOWED_BYTES, _GROWTH * constant_bytes(graph)) + constant_bytes(graph)
        self._used = constant_bytes(graph)
        self._counted = False  # counting anew at every refusal would take quadratic time

    def refusal(self, patch: Patch) -> str:
        """Why a patch may not be applied, or an empty string."""
        added = sum(values.nbytes for _, values in patch.constants)
        if added <= _TINY_BYTES:
            return ""
        if self._used + added > self._limit and not self._counted:
            self._used, self._counted = constant_bytes(self._graph), True
        if self._used + added > self._limit:
            return f"its constants of {added} bytes would take the network's past {self._limit}"
        self._used += added
        return ""


def constant_bytes(graph: Graph) -> int:
    """Bytes of the constants that layers of a graph and of the graphs within read, each once."""
    found: dict[int, int] = {}
    graphs = [graph]
    while graphs:
        for layer in graphs.pop().layers:
            constants = (t.constant for t in layer.inputs if t is not None and t.constant is not None)
            found.update((array.__array_interface__["data"][0], array.nbytes) for array in constants)
            graphs.extend(layer.graphs)
    return sum(found.values())


def run_passes(
    graph: Graph,
    registry: Registry,
    notify: Callable[[str, int], None] | None = None,
    disable: Collection[str] = (),
) -> PassLog:
    """Run every installed pass; a pass that raises is quarantined with its reason and the graph is as it was.

    disable: names of passes that are left out.
    """
    log = PassLog([LadderStep("original", count_layers(graph))])
    budget = _ConstantBudget(graph)
    for phase, after in PHASES.items():
        offers = [offer for offer in _load(registry, phase, log) if offer.entry.name not in disable]
        _run_phase(graph, offers, registry, log, budget)
        verify(graph)
        log.ladder.append(LadderStep(after, count_layers(graph)))
        if notify is not None:
            notify(phase, len(graph))
    return log


def _set_aside(author: str, why: str, log: PassLog) -> None:
    if author not in log.quarantined:
        log.quarantined[author] = why
        warnings.warn(f"pass {author} is quarantined: {why}", PluginWarning, stacklevel=3)


def count_layers(graph: Graph) -> int:
    """Layers of a graph and of the graphs its layers own."""
    return sum(1 + sum(count_layers(g) for g in layer.graphs) for layer in graph.layers)


def _load(registry: Registry, phase: str, log: PassLog) -> list[_Offer]:
    offers = []
    for entry in registry.usable(PASSES):
        name, _, _ = entry.name.partition(".")
        if name not in PHASES:
            _set_aside(entry.id, f"unknown phase {name!r}; there are {', '.join(PHASES)}", log)
        elif name == phase:
            offers.append(_Offer(entry, registry.passes(entry)))
    return offers


def _run_phase(
    graph: Graph, offers: Sequence[_Offer], registry: Registry, log: PassLog, constants: _ConstantBudget
) -> None:
    for layer in list(graph.layers):
        for subgraph in layer.graphs:
            _run_phase(subgraph, offers, registry, log, constants)
    by_kind: dict[str, list[_Offer]] = {}
    # From the outputs upwards: a dead layer is then seen after its dead readers are gone.
    queue = deque(reversed(graph.layers))
    waiting = set(queue)
    budget = _PATCHES_PER_LAYER * (len(queue) + 10)
    while queue:
        layer = queue.popleft()
        waiting.discard(layer)
        if layer not in graph:
            continue
        if layer.kind not in by_kind:
            by_kind[layer.kind] = [o for o in offers if o.rewriter.kinds is None or layer.kind in o.rewriter.kinds]
        for again in _offer_all(graph, layer, by_kind[layer.kind], registry, log, constants):
            if again not in waiting:
                waiting.add(again)
                queue.append(again)
                budget -= 1
        if budget < 0:
            authors = ", ".join(dict.fromkeys(p.author for p in log.patches[-20:]))
            raise GraphError(f"passes do not come to an end; the last patches are by {authors}")


def _offer_all(
    graph: Graph,
    layer: Layer,
    offers: Sequence[_Offer],
    registry: Registry,
    log: PassLog,
    constants: _ConstantBudget,
) -> list[Layer]:
    """The layers to look at again after the first pass that had something to offer."""
    for offer in offers:
        author = offer.entry.id
        if author in log.quarantined:
            continue
        try:
            patch = offer.rewriter.rewrite(graph, layer)
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises, the build goes on without it
            _set_aside(author, f"at layer {layer.name!r}: {error!r}", log)
            continue
        if patch is None:
            continue
        if why := constants.refusal(patch):
            log.refused.append(PatchRecord(author, layer.name, f"{patch.reason}: {why}"))
            continue
        try:
            touched = apply_patch(graph, patch, author, registry)
        except (GraphError, PluginError) as error:
            log.refused.append(PatchRecord(author, layer.name, f"{patch.reason}: {error}"))
            continue
        log.patches.append(PatchRecord(author, layer.name, patch.reason))
        return [*touched, *([layer] if layer in graph else [])]
    return []
