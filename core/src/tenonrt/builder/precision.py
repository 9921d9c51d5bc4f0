"""Which precisions tactics may compute in: permissions for the whole network, constraints for single layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from tenonrt.builder.config import LayerPrecision, Mode
from tenonrt.builder.offers import Offer
from tenonrt.errors import BuildError
from tenonrt.graph.graph import Graph, Layer

Refuse = Callable[[Offer, str], None]


def obeyed(graph: Graph, constraints: Sequence[LayerPrecision], offers: Iterable[Offer], refuse: Refuse) -> list[Offer]:
    """The offers that break no constraint; `BuildError` where a pattern matches nothing or nothing obeys it."""
    bound = _bound_layers(graph, constraints, "obey")
    kept = []
    for offer in offers:
        broken = next(
            (c for layer in offer.posed.region.layers for c in bound.get(layer, ()) if _breaks(offer, c)), None
        )
        if broken is None:
            kept.append(offer)
        else:
            refuse(offer, f"it computes in {offer.tactic.precision}; {broken.pattern!r} obeys {broken.precision}")
    offered = {layer for offer in kept for layer in offer.posed.region.layers}
    for layer, (first, *_) in bound.items():
        if layer not in offered:
            raise BuildError(
                f"layer {layer.name!r} ({layer.kind}) cannot obey {first.precision}, as {first.pattern!r} demands: no "
                "installed kernel computes it so; permit the precision, install a kernel, or say prefer instead of obey"
            )
    return kept


def preferred(
    graph: Graph, constraints: Sequence[LayerPrecision], sound: Sequence[Offer], refuse: Refuse
) -> list[Offer]:
    """Without what a preference makes needless: other precisions where some sound offer has the preferred one."""
    bound = _bound_layers(graph, constraints, "prefer")
    served = {
        layer
        for offer in sound
        for layer in offer.posed.region.layers
        if layer in bound and not any(_breaks(offer, c) for c in bound[layer])
    }
    kept = []
    for offer in sound:
        broken = [
            c for layer in offer.posed.region.layers if layer in served for c in bound[layer] if _breaks(offer, c)
        ]
        if broken:
            refuse(
                offer, f"it computes in {offer.tactic.precision}; {broken[0].pattern!r} prefers {broken[0].precision}"
            )
        else:
            kept.append(offer)
    return kept


def is_reduced(offer: Offer) -> bool:
    """Whether a tactic computes less precisely than the tensors it is given, by its algorithm or in its arithmetic."""
    given = {type.dtype for type in offer.posed.problem.types}
    return not offer.tactic.exact or offer.tactic.precision not in given | {"float32", "float64"}


def _breaks(offer: Offer, constraint: LayerPrecision) -> bool:
    return offer.tactic.precision != constraint.precision


def _bound_layers(
    graph: Graph, constraints: Sequence[LayerPrecision], mode: Mode
) -> Mapping[Layer, Sequence[LayerPrecision]]:
    """The constraints on each layer that computes; views and shape arithmetic have no precision."""
    found: dict[Layer, list[LayerPrecision]] = {}
    for constraint in (c for c in constraints if c.mode == mode):
        matched = [layer for layer in graph.layers if constraint.matches((layer.name, *layer.sources))]
        if not matched:
            raise BuildError(
                f"the pattern {constraint.pattern!r} of a precision matches no layer and no node of the model"
            )
        for layer in matched:
            if layer.layer_type.pattern in ("contraction", "pointwise", "reduction") and not layer.graphs:
                found.setdefault(layer, []).append(constraint)
    return found
