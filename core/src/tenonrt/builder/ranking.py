"""Every candidate for one layer, tried and timed as a build would, told of as it becomes known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tenonrt.builder.cache import TimingCache
from tenonrt.builder.config import BuilderConfig
from tenonrt.builder.offers import Offer, Offers
from tenonrt.builder.timing import constant_bytes
from tenonrt.builder.trials import TrialPool
from tenonrt.builder.tuner import Tuner
from tenonrt.builder.tuning import by_problem, time_problems
from tenonrt.errors import BuildError
from tenonrt.graph.graph import Graph, Layer
from tenonrt.graph.network import Network
from tenonrt.graph.passes import run_passes
from tenonrt.graph.shaping import specialise_inputs
from tenonrt.plan.program import CandidateReport, RegionReport
from tenonrt.plugins.hooks import Hooks
from tenonrt.plugins.registry import using

Tell = Callable[[Sequence[RegionReport]], None]


def rank_layer(
    network: Network, config: BuilderConfig, name: str, tell: Tell = lambda ranking: None
) -> list[RegionReport]:
    """The regions that contain a layer, with every candidate's time or refusal, fastest first.

    ``name``: of a layer after the passes, or of a node of the model that it came from. tell: called whenever more is
    known. The network's graph is rewritten in place.
    """
    registry, graph = network.registry, network.graph
    device = registry.device(config.device)
    with using(registry):
        specialise_inputs(graph, config.max_batch, config.shapes)
        run_passes(graph, registry, None, config.disable)
        layers = find_layers(graph, name)
        offers = Offers(graph, registry, config, Hooks(registry))
        wanted = [o for o in _offers(graph, offers) if not layers.isdisjoint(o.posed.region.layers)]
        refused = [r for r in offers.refusals if not layers.isdisjoint(r.posed.region.layers)]
        cache = TimingCache(config.timing_cache, device.fingerprint())
        try:
            with TrialPool(config.trial_seconds) as trials:
                tuner = Tuner(config, registry, device, cache, trials, constant_bytes(graph))

                def ranking() -> list[RegionReport]:
                    known = [(o.posed, _candidate(o, tuner)) for o in wanted]
                    known += [(r.posed, CandidateReport(r.kernel, r.tactic, why=r.why)) for r in refused]
                    regions: dict[str, list[CandidateReport]] = {}
                    for posed, candidate in known:
                        regions.setdefault(posed.region.name, []).append(candidate)
                    names = {posed.region.name: posed for posed, _ in known}
                    return [
                        RegionReport(
                            tuple(layer.name for layer in names[region].region.layers), names[region].key,
                            tuple(sorted(found, key=_order)), None, region,
                        )
                        for region, found in regions.items()
                    ]  # fmt: skip

                tuner.check_all(wanted, lambda done, total, region: tell(ranking()))
                sound = by_problem(offer for offer in wanted if not tuner.check(offer))
                time_problems(sound.values(), tuner, lambda done, total, region: tell(ranking()))
                return ranking()
        finally:
            cache.close()


def find_layers(graph: Graph, name: str) -> set[Layer]:
    """The layers called so, or made of the model's node called so; `BuildError` names those that are nearly."""
    found = {layer for layer in graph.layers if layer.name == name}
    found = found or {layer for layer in graph.layers if name in layer.sources}
    if not found:
        from difflib import get_close_matches

        names = dict.fromkeys(n for layer in graph.layers for n in (layer.name, *layer.sources))
        near = [n for n in names if name and name.lower() in n.lower()][:3] or get_close_matches(name, names)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"the first is {next(iter(names), '')!r}"
        raise BuildError(f"no layer is called {name!r} after the passes, nor a node of the model in it; {hint}")
    return found


def _offers(graph: Graph, offers: Offers) -> list[Offer]:
    return offers.admitted(o for layer in graph.layers if not layer.graphs for o in offers.at(layer))


def _candidate(offer: Offer, tuner: Tuner) -> CandidateReport:
    known = tuner.known(offer)
    if known is None:
        return CandidateReport(offer.entry.id, offer.tactic.key)
    return CandidateReport(offer.entry.id, offer.tactic.key, known.seconds, known.error, known.why)


def _order(candidate: CandidateReport) -> tuple[bool, float, str, str]:
    seconds = candidate.seconds if candidate.seconds is not None else float("inf")
    return bool(candidate.why), seconds, candidate.kernel, candidate.tactic
