"""Three ways to a cover: by rank without timing, by measured times, or as recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from tenonrt.builder.cover import Column, Cover, find_cycles
from tenonrt.builder.offers import Offer, Refusal
from tenonrt.builder.selection import Selector, is_known
from tenonrt.builder.tuner import Tuner
from tenonrt.builder.tuning import price, rivals_by_problem
from tenonrt.errors import BuildError
from tenonrt.graph.graph import Layer
from tenonrt.plan.program import Choice
from tenonrt.plugins.selection import PluginSet
from tenonrt.types import LINEAR

# Times that differ by less than this are equal: a lower id, or what was recorded, decides.
_NOISE = 0.02

Found = Mapping[int, Sequence[Offer]]  # offers by the position of their region's first layer


def special_columns(selector: Selector) -> Iterator[Column]:
    """Columns of layers that the core itself takes care of: views, known results, and layers with subgraphs."""
    for layer in selector.layers:
        if layer.graphs:
            yield selector.control_column(layer)
        elif is_known(layer):
            yield selector.known_column(layer)
        if layer in selector.views:
            yield from selector.view_columns(layer)


# level 0 -------------------------------------------------------------------------------------------------------------


def rank(offer: Offer, plugins: PluginSet) -> tuple[object, ...]:
    """The application's preference, then most layers, any kernel before the reference, estimate, distribution."""
    return (
        plugins.rank(offer.entry),
        -len(offer.posed.region.layers),
        offer.kernel.runs_reference,
        offer.estimate if offer.estimate is not None else float("inf"),
        offer.entry.distribution,
        offer.entry.name,
        offer.order,
    )


def ranked_cover(
    selector: Selector, found: Found, tuner: Tuner, plugins: PluginSet, refusals: Sequence[Refusal] = ()
) -> Cover:
    """In topological order, the best-ranked offer at each layer that is not yet covered.

    Only the offers that would be taken have their first run. Slices of larger tensors are left to higher levels.
    """
    covered: set[int] = set()
    chosen: list[Column] = []
    for position, layer in enumerate(selector.layers):
        if position in covered:
            continue
        column = _first_column(selector, layer, found.get(position, ()), covered, tuner, plugins)
        if column is None:
            raise BuildError(_nothing_computes([layer], found, tuner, refusals))
        covered.update(column.layers)
        chosen.append(column)
    return selector.finish(chosen)


def _first_column(
    selector: Selector, layer: Layer, offers: Sequence[Offer], covered: set[int], tuner: Tuner, plugins: PluginSet
) -> Column | None:
    if layer.graphs:
        return selector.control_column(layer)
    if is_known(layer):
        return selector.known_column(layer)
    view = selector.views.get(layer)
    if view is not None and view.parts is None:
        return next(selector.view_columns(layer))
    for offer in sorted(offers, key=lambda o: rank(o, plugins)):
        # Regions with several exits can need each other in a circle, and formats need a solver.
        single_exit = len(offer.posed.region.layers) == 1 or len(offer.posed.region.outputs) == 1
        linear = all(f == LINEAR for f in (*offer.tactic.inputs, *offer.tactic.outputs))
        free = covered.isdisjoint(selector.positions(offer))
        if single_exit and linear and free and not tuner.check(offer):
            return next(selector.columns_of(offer, 1))
    return None


# level 1 and up ------------------------------------------------------------------------------------------------------


def timed_columns(
    selector: Selector, found: Found, sound: Sequence[Offer], tuner: Tuner, refusals: Sequence[Refusal] = ()
) -> list[Column]:
    """Columns with measured costs of the offers that are sound."""
    rivals = rivals_by_problem(sound, tuner)
    columns: list[Column] = []
    for offer in sound:
        columns += selector.columns_of(offer, price(offer, rivals[offer.posed.key], tuner))
    columns = without_near_ties(columns)
    columns += special_columns(selector)
    missing = selector.uncovered(columns)
    if missing:
        raise BuildError(_nothing_computes(missing, found, tuner, refusals))
    return columns


def greedy_columns(selector: Selector, columns: Sequence[Column]) -> list[Column]:
    """What a greedy selection leaves to choose: the longest region first, of each the fastest tactic by itself.

    How its tensors are stored (as slices, in which reformats) is still chosen at the least cost.
    """
    offers: dict[tuple[int, ...], dict[str, list[Column]]] = {}
    for column in columns:
        source, _ = selector.sources[column.id]
        name = source.id if isinstance(source, Offer) else column.id
        offers.setdefault(column.layers, {}).setdefault(name, []).append(column)
    kept: list[Column] = []
    covered: set[int] = set()
    for layers in sorted(offers, key=lambda layers: (-len(layers), layers)):
        fastest = min(offers[layers].values(), key=lambda twins: (twins[0].cost, twins[0].id))
        if covered.isdisjoint(layers) and not find_cycles([*kept, fastest[0]]):
            covered.update(layers)
            views = [
                c for found in offers[layers].values() for c in found if isinstance(selector.sources[c.id][0], Layer)
            ]
            kept += dict.fromkeys([*fastest, *views])
    return kept


def without_near_ties(columns: Sequence[Column]) -> list[Column]:
    """Columns that can be exchanged and differ by less than measurements do cost the same, so that ids decide."""
    groups: dict[tuple[object, ...], list[Column]] = {}
    for column in columns:
        groups.setdefault((column.layers, column.reads, column.writes), []).append(column)
    least = {key: min(column.cost for column in group) for key, group in groups.items()}
    equal = []
    for column in columns:
        low = least[column.layers, column.reads, column.writes]
        equal.append(replace(column, cost=low) if column.cost <= low * (1 + _NOISE) else column)
    return equal


def preferred_cover(selector: Selector, columns: Sequence[Column], cover: Cover, prefer: Choice) -> tuple[Cover, str]:
    """The recorded selection at today's prices unless the least cover is better by more than the noise; and a note."""
    named = {column.id: selector.recorded_as(column) for column in columns}
    recorded = [c for c in columns if prefer.regions.get(named[c.id][0]) == named[c.id][1]]
    if selector.uncovered(recorded):
        return cover, "the preferred selection does not fit this network; it was left aside"
    try:
        kept = selector.solve(recorded)
    except BuildError as error:
        return cover, f"the preferred selection was left aside: {error}"
    if kept.cost <= cover.cost * (1 + _NOISE):
        return kept, f"the preferred selection was kept: {kept.cost} ns, the least is {cover.cost} ns"
    return cover, f"the preferred selection takes {kept.cost} ns, the least {cover.cost} ns: it was given up"


# replay --------------------------------------------------------------------------------------------------------------


def recorded_columns(selector: Selector, found: Found, choice: Choice) -> list[Column]:
    """Only the columns that a recorded choice names; `BuildError` when they leave a layer out."""
    columns: list[Column] = []
    for offer in (offer for group in found.values() for offer in group):
        if choice.regions.get(offer.posed.region.name) == (offer.entry.id, offer.tactic.key):
            columns += selector.columns_of(offer, 1)
    for column in special_columns(selector):
        layer, _ = selector.sources[column.id]
        if isinstance(layer, Layer) and choice.regions.get(layer.name) == (column.id.partition("@")[0], ""):
            columns.append(column)
    lost = selector.uncovered(columns)
    if lost:
        names = ", ".join(layer.name for layer in lost[:5])
        raise BuildError(f"the recorded choice does not fit: nothing recorded, installed and allowed computes {names}")
    return columns


def _nothing_computes(layers: Sequence[Layer], found: Found, tuner: Tuner, refusals: Sequence[Refusal]) -> str:
    named = ", ".join(f"{layer.name!r} ({layer.kind})" for layer in layers[:5])
    reasons = []
    for offer in (offer for group in found.values() for offer in group):
        known = tuner.known(offer)
        if known is not None and known.why and layers[0] in offer.posed.region.layers:
            reasons.append(f"{offer.id}: {known.why}")
    reasons += [
        f"{refusal.kernel}{f'#{refusal.tactic}' if refusal.tactic else ''}: {refusal.why}"
        for refusal in refusals
        if layers[0] in refusal.posed.region.layers
    ]
    return (
        f"no installed kernel computes {named}{' and others' if len(layers) > 5 else ''}"
        + (f" ({'; '.join(dict.fromkeys(reasons))})" if reasons else "")
        + ". Install a kernel distribution for it; tenonrt-kernel-numpy runs every layer's reference."
    )
