"""What cannot win beside kernels on quantized tensors is not tried: docs/decisions/0040.

A layer between Dequantize and Quantize has two kinds of candidates: those of real numbers, of which there are many, and
regions on the integers, of which there are few. The few are tried and timed first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tenonrt.builder.offers import Offer
from tenonrt.builder.tuner import Tuner
from tenonrt.graph.graph import Layer

Refuse = Callable[[Offer, str], None]
Tune = Callable[[Sequence[Offer]], Sequence[Offer]]

# So much slower than what was measured on integers, a kernel is hopeless: estimates are that far off.
_HOPELESS = 1.5
_STORED = ("int", "uint", "float8")


def is_on_integers(offer: Offer) -> bool:
    """Whether a region multiplies tensors that are stored as integers, or as floats of 8 bits."""
    problem, region = offer.posed.problem, offer.posed.region
    stored = all(problem.types[i].dtype.startswith(_STORED) for i in problem.activations)
    return stored and bool(problem.activations) and any(_multiplies(layer) for layer in region.layers)


def without_hopeless(
    offers: Sequence[Offer], timed: Sequence[Offer], tuner: Tuner, tune: Tune, refuse: Refuse
) -> Sequence[Offer]:
    """The offers of real numbers that can win beside ``timed`` ones on integers. tune: tries and times offers.

    Each kernel is timed where those on integers take longest. Elsewhere it is judged by its estimates, as far off as
    they were there, or by that one comparison where it makes none. Where no kernel is left, nor is what computes a part
    of every region on integers.
    """
    if not timed:
        return offers
    times = _least_times(timed, tuner)
    rivals = {id(offer): found for offer in offers if (found := _rival(offer, times)) is not None}
    contenders = [offer for offer in offers if id(offer) in rivals and not offer.kernel.runs_reference]
    exemplars = _exemplars(contenders, rivals, tuner, tune)
    kept = []
    for offer in offers:
        nanoseconds = rivals.get(id(offer))
        if nanoseconds is None or offer.kernel.runs_reference:
            kept.append(offer)
        elif why := exemplars[offer.entry.id].refusal(offer, nanoseconds):
            refuse(offer, why)
        else:
            kept.append(offer)
    return _without_parts(kept, timed, refuse)


@dataclass(frozen=True)
class _Exemplar:
    """A kernel where it was timed. ratios: of its time to its estimate, and to the time on integers."""

    layers: frozenset[Layer]
    name: str
    of_estimate: float
    of_integers: float

    def refusal(self, offer: Offer, integers: int) -> str:
        """Why an offer cannot win beside a region that takes so many nanoseconds; empty when it can."""
        if self.layers == frozenset(offer.posed.region.layers) and self.of_integers <= _HOPELESS:
            return ""
        if offer.estimate is None:
            slow = self.of_integers > _HOPELESS
            return f"at {self.name} this kernel took {self.of_integers:.1f} times what integers take" if slow else ""
        expected = offer.estimate * 1e9 * self.of_estimate
        if expected <= _HOPELESS * integers:
            return ""
        return f"from its estimate, about {expected / 1e3:.1f} µs; on integers it takes {integers / 1e3:.1f}"


def _without_parts(offers: Sequence[Offer], timed: Sequence[Offer], refuse: Refuse) -> list[Offer]:
    """The offers without layers that some region on integers computes in every cover."""
    others = {m for o in offers if not o.kernel.runs_reference for m in o.posed.region.layers if _multiplies(m)}
    common: dict[Layer, frozenset[Layer]] = {}
    for layers in {frozenset(offer.posed.region.layers) for offer in timed}:
        for product in filter(_multiplies, layers):
            common[product] = common.get(product, layers) & layers
    certain = {layer for product, layers in common.items() if product not in others for layer in layers}
    kept = []
    for offer in offers:
        if offer.kernel.runs_reference or certain.isdisjoint(offer.posed.region.layers):
            kept.append(offer)
        else:
            refuse(offer, "a region on integers computes a part of it, whichever is chosen")
    return kept


def _multiplies(layer: Layer) -> bool:
    return layer.layer_type.pattern == "contraction"


def _least_times(timed: Iterable[Offer], tuner: Tuner) -> Mapping[frozenset[Layer], int]:
    """Nanoseconds of the fastest tactic of each region."""
    times: dict[frozenset[Layer], int] = {}
    for offer in timed:
        layers, nanoseconds = frozenset(offer.posed.region.layers), tuner.nanoseconds(offer)
        times[layers] = min(nanoseconds, times.get(layers, nanoseconds))
    return times


def _rival(offer: Offer, times: Mapping[frozenset[Layer], int]) -> int | None:
    """The least time of a region on integers that does all that an offer with a product does, and more."""
    mine = offer.posed.region.layers
    if not any(map(_multiplies, mine)):
        return None
    return min((n for layers, n in times.items() if layers.issuperset(mine)), default=None)


def _exemplars(offers: Sequence[Offer], rivals: Mapping[int, int], tuner: Tuner, tune: Tune) -> Mapping[str, _Exemplar]:
    """Each kernel at the region for which those on integers take longest, the smallest at that layer."""
    groups: dict[str, list[Offer]] = {}
    for offer in offers:
        groups.setdefault(offer.entry.id, []).append(offer)
    found = {}
    for kernel, group in groups.items():
        first = max(group, key=lambda o: (rivals[id(o)], -len(o.posed.region.layers)))
        same = [offer for offer in group if offer.posed.region.name == first.posed.region.name]
        least = min((tuner.nanoseconds(offer) for offer in tune(same)), default=math.inf)
        estimates = [offer.estimate for offer in same if offer.estimate is not None]
        ratio = max(1.0, least * 1e-9 / min(estimates)) if estimates and least < math.inf else 1.0
        region = first.posed.region
        found[kernel] = _Exemplar(frozenset(region.layers), region.name, ratio, least / rivals[id(first)])
    return found
