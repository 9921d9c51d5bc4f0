"""What is tuned, and in which order: first runs before timing, plain layers before the regions that begin with them.

Regions on integers come before all others, which they may spare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from tenonrt.builder.offers import Offer
from tenonrt.builder.progress import Clock, Teller
from tenonrt.builder.pruning import is_on_integers, without_hopeless
from tenonrt.builder.rounds import race_again
from tenonrt.builder.selection import Selector
from tenonrt.builder.timing import let_threads_sleep
from tenonrt.builder.tuner import Tuner
from tenonrt.graph.graph import Layer
from tenonrt.problem import Problem

Refuse = Callable[[Offer, str], None]

# A kernel that runs the reference is worth its while only where nothing else computes the layer: it is priced at this
# many times the slowest of its rivals, and as much again for one step, so that formats do not decide for it.
_REFERENCE_FACTOR, _REFERENCE_NANOSECONDS = 10, 100_000
# Problems that make up less than this share of the network's estimated time are not timed.
_NEGLIGIBLE = 0.002
# A tail of pointwise layers changes little of which tile is best: so many tactics of a kernel and pair of formats are
# tried with it, the best of those without it.
_HEIRS = 2
# A tactic that its kernel estimates at more than this many times its best one in equal formats has no first run: of 128
# such groups in three networks, none had its fastest tactic beyond.
_OUT_OF_REACH = 1.25
# From this level on nothing is left out.
_THOROUGH = 4


def tune(
    selector: Selector, offers: Sequence[Offer], tuner: Tuner, clock: Clock, teller: Teller, refuse: Refuse
) -> list[Offer]:
    """The sound offers, those worth it timed."""
    thorough = tuner.config.optimization_level >= _THOROUGH
    contested = contested_problems(selector, offers)
    negligible = set() if thorough else negligible_problems(offers)
    tuner.counts["problems left to estimates"] += len(contested & negligible)
    contested -= negligible
    if not thorough and tuner.device.races:  # a convolution of a large batch takes the host seconds, again and again
        contested -= in_other_regions(offers).keys()

    def attempt(tried: Sequence[Offer]) -> list[Offer]:
        with clock.phase("check"):  # all first runs before any timing: both at once would spoil the times
            tuner.check_all(tried, partial(teller.tell, "check"))
        passed = [offer for offer in tried if not tuner.check(offer)]
        with clock.phase("tune"):
            worth = [rivals for key, rivals in by_problem(passed).items() if key in contested]
            time_problems(worth, tuner, partial(teller.tell, "tune"))
        return passed

    if not thorough and not tuner.device.races:  # estimates of a GPU's kernels only order them
        reached = within_reach(offers, refuse)
        tuner.counts["tactics ruled out by estimates"] += len(offers) - len(reached)
        offers = reached
    sound: list[Offer] = []
    if not thorough and not tuner.config.layer_precisions:
        sound = attempt([offer for offer in offers if is_on_integers(offer)])
        offers = without_hopeless([o for o in offers if not is_on_integers(o)], sound, tuner, attempt, refuse)
    stages: tuple[list[Offer], ...] = ([], [], [])  # layers alone, layers that follow each other, siblings
    for offer in offers:
        stages[2 if len(offer.posed.region.parts) > 1 else len(offer.posed.problem.layers) > 1].append(offer)
    plain, tails, siblings = stages
    for stage in stages:
        tried = stage
        if stage is tails and not thorough:
            tried = heirs(stage, plain, tuner, refuse)
        elif stage is siblings and not thorough:
            tried = sibling_heirs(stage, [*plain, *tails], tuner, refuse)
        sound += attempt(tried)
    first_seconds = clock.seconds.get("tune", 0.0)
    timed = {key: rivals for key, rivals in by_problem(sound).items() if key in contested}
    with clock.phase("tune"):
        race_again(timed, tuner, first_seconds, partial(teller.tell, "tune again"))
    return sound


def time_problems(problems: Iterable[Sequence[Offer]], tuner: Tuner, tell: Callable[[int, int, str], None]) -> None:
    """Time the rivals for each problem; those that leave the device's program last, and by themselves.

    Idle threads of a library spin on, and would take a core from native steps that are timed meanwhile: a product of
    25 us was found to take 765 between candidates in NumPy.
    """
    rivals = [[offer for offer in given if not offer.kernel.runs_reference] or list(given) for given in problems]
    leaving = [found for given in rivals if (found := [offer for offer in given if tuner.leaves(offer)])]
    staying = [found for given in rivals if (found := [offer for offer in given if not tuner.leaves(offer)])]
    timed = False
    for done, offers in enumerate(staying + leaving):
        tell(done, len(staying) + len(leaving), offers[0].posed.region.name)
        timed = tuner.time(offers) or timed
    if leaving and timed:
        let_threads_sleep()


def by_problem(offers: Iterable[Offer]) -> dict[str, list[Offer]]:
    """The distinct offers for each problem."""
    problems: dict[str, dict[str, Offer]] = {}
    for offer in offers:
        problems.setdefault(offer.posed.key, {})[offer.id] = offer
    return {key: list(rivals.values()) for key, rivals in problems.items()}


def in_other_regions(offers: Iterable[Offer]) -> dict[str, list[Offer]]:
    """Of problems that the reference alone solves, while kernels compute their layers in other regions: those."""
    by_kernels: dict[Layer, list[Offer]] = {}
    layers: dict[str, list[Layer]] = {}  # of what the reference computes
    for offer in offers:
        if offer.kernel.runs_reference:
            layers.setdefault(offer.posed.key, []).extend(offer.posed.region.layers)
        for layer in () if offer.kernel.runs_reference else offer.posed.region.layers:
            by_kernels.setdefault(layer, []).append(offer)
    solved = {offer.posed.key for given in by_kernels.values() for offer in given}
    return {
        key: [offer for layer in dict.fromkeys(own) for offer in by_kernels[layer]]
        for key, own in layers.items()
        if key not in solved and all(layer in by_kernels for layer in own)
    }


def rivals_by_problem(offers: Sequence[Offer], tuner: Tuner) -> dict[str, list[Offer]]:
    """What offers are priced beside: those for their problem, or in other regions where it was left to them."""

    def timed(offer: Offer) -> bool:
        known = tuner.known(offer)
        return known is not None and known.seconds is not None

    found, elsewhere = by_problem(offers), in_other_regions(offers)
    return {key: elsewhere.get(key, given) if not any(map(timed, given)) else given for key, given in found.items()}


def price(offer: Offer, rivals: Iterable[Offer], tuner: Tuner) -> int:
    """Nanoseconds of an offer beside the other sound ones for its problem.

    The reference makes no estimate: where its time was not taken, it must not seem shorter than kernels for parts of
    the problem, or for more than it, whose times were.
    """
    if not offer.kernel.runs_reference:
        return tuner.nanoseconds(offer)
    others = [tuner.nanoseconds(rival) for rival in rivals if not rival.kernel.runs_reference]
    if others:
        return _REFERENCE_NANOSECONDS + _REFERENCE_FACTOR * max(others)
    known = tuner.known(offer)
    timed = known is not None and known.seconds is not None
    return tuner.nanoseconds(offer) if timed else _REFERENCE_NANOSECONDS * len(offer.posed.problem.layers)


def contested_problems(selector: Selector, offers: Sequence[Offer]) -> set[str]:
    """Keys of the problems whose regions have a rival somewhere: where there is none, there is nothing to choose."""
    counts: dict[Layer, int] = dict.fromkeys(selector.views, 1)
    for offer in offers:
        for layer in offer.posed.region.layers:
            counts[layer] = counts.get(layer, 0) + 1
    return {o.posed.key for o in offers if any(counts[layer] > 1 for layer in o.posed.region.layers)}


def negligible_problems(offers: Sequence[Offer]) -> set[str]:
    """Keys of the problems whose kernels all estimate them at next to nothing of the network."""
    shares: dict[Layer, float] = {}  # the least estimate of each layer's part of a region
    estimates: dict[str, list[float | None]] = {}
    regions: dict[str, set[str]] = {}
    for offer in (offer for offer in offers if not offer.kernel.runs_reference):
        estimates.setdefault(offer.posed.key, []).append(offer.estimate)
        regions.setdefault(offer.posed.key, set()).add(offer.posed.region.name)
        if offer.estimate is not None:
            share = offer.estimate / len(offer.posed.region.layers)
            for layer in offer.posed.region.layers:
                shares[layer] = min(share, shares.get(layer, share))
    limit = _NEGLIGIBLE * sum(shares.values())
    found = set()
    for key, given in estimates.items():
        known = [estimate for estimate in given if estimate is not None]
        if len(known) == len(given) and min(known) * len(regions[key]) < limit:
            found.add(key)
    return found


def within_reach(offers: Sequence[Offer], refuse: Refuse) -> list[Offer]:
    """The offers that their kernel's own estimates do not rule out beside its other tactics in the same formats."""
    groups: dict[tuple[object, ...], list[float]] = {}
    keys = [(o.posed.key, o.entry.id, o.tactic.inputs, o.tactic.outputs, o.tactic.precision) for o in offers]
    for key, offer in zip(keys, offers, strict=True):
        if offer.estimate is not None:
            groups.setdefault(key, []).append(offer.estimate)
    kept = []
    for key, offer in zip(keys, offers, strict=True):
        least = min(groups.get(key, [0.0]))
        if offer.estimate is None or offer.estimate <= _OUT_OF_REACH * least:
            kept.append(offer)
        else:
            refuse(offer, f"its kernel estimates another tactic at {least * 1e6:.1f} us, this one at "
                          f"{offer.estimate * 1e6:.1f}")  # fmt: skip
    return kept


def heirs(tails: Sequence[Offer], plain: Sequence[Offer], tuner: Tuner, refuse: Refuse) -> list[Offer]:
    """Of the regions that begin with a layer that was tuned alone, the offers whose tactics did best there."""
    tuned = {(_first_layer(o.posed.problem), o.id): o for o in plain}
    ancestors = [(offer, tuned.get((_first_layer(offer.posed.problem), offer.id))) for offer in tails]
    return _best_of(ancestors, tuner, refuse, "without what follows it")


def sibling_heirs(siblings: Sequence[Offer], tuned: Sequence[Offer], tuner: Tuner, refuse: Refuse) -> list[Offer]:
    """Of regions of siblings, the offers whose tactics did best for the sibling with the most weights."""
    parts = {(offer.posed.region.layers, offer.id): offer for offer in tuned}
    ancestors = []
    for offer in siblings:
        largest = max(offer.posed.region.parts, key=_weight_elements)
        ancestors.append((offer, parts.get((largest, offer.id))))
    return _best_of(ancestors, tuner, refuse, "for the largest of these layers alone")


def _weight_elements(layers: Sequence[Layer]) -> int:
    return sum(t.constant.size for layer in layers for t in layer.inputs if t is not None and t.constant is not None)


def _best_of(ancestors: Sequence[tuple[Offer, Offer | None]], tuner: Tuner, refuse: Refuse, where: str) -> list[Offer]:
    """The offers without an ancestor, and of each kernel and pair of formats those whose ancestors did best.

    Of offers that the timing cache knows it is they, so that a build with it tries what the one before it tried: that
    one has decided by times that it has corrected since.
    """
    groups: dict[tuple[object, ...], list[tuple[Offer, Offer | None]]] = {}
    for offer, ancestor in ancestors:
        key = (offer.posed.key, offer.entry.id, offer.tactic.inputs, offer.tactic.outputs)
        groups.setdefault((*key, offer.posed.region.name), []).append((offer, ancestor))
    kept: list[Offer] = []
    for group in groups.values():
        ranked = [
            (not tuner.recalls(o), tuner.nanoseconds(a), a.order, o)
            for o, a in group
            if a is not None and tuner.passed(a)
        ]
        best = {id(offer) for *_, offer in sorted(ranked, key=lambda row: row[:3])[:_HEIRS]}
        for offer, ancestor in group:
            if ancestor is None or id(offer) in best:
                kept.append(offer)
            else:
                refuse(offer, f"{where} {len(best)} tactics of this kernel were better")
    return kept


def _first_layer(problem: Problem) -> object:
    """The first layer of a problem as a value: equal for a layer alone and for a region that begins with it."""
    layer = problem.layer
    operands = tuple(
        None if i < 0 else (problem.types[i], problem.inputs[i], layer.inputs.index(i)) for i in layer.inputs
    )
    return layer.kind, layer.attrs, operands, tuple(problem.types[i] for i in layer.outputs)
