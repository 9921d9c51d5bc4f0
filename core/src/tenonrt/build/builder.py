"""The builder: passes, offers, prices, cover, lowering, plan."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import msgspec

from tenonrt.build.cache import TimingCache
from tenonrt.build.config import BuilderConfig
from tenonrt.build.cover import Column, Cover
from tenonrt.build.lowering import (
    Constants,
    ControlChoice,
    KernelChoice,
    Lowering,
    ReformatChoice,
    ViewChoice,
)
from tenonrt.build.offers import Offer, Offers
from tenonrt.build.regions import PosedProblem, Region, pose
from tenonrt.build.selection import VIEW, Selector
from tenonrt.build.trials import TrialProcess
from tenonrt.build.tuner import Tuner
from tenonrt.errors import BuildError, CancelledError
from tenonrt.graph.graph import Graph, Layer, Tensor
from tenonrt.graph.attributes import make_attrs
from tenonrt.graph.network import Network
from tenonrt.graph.passes import LadderStep, PassLog, run_passes
from tenonrt.graph.shaping import specialise_inputs
from tenonrt.graph.verification import verify
from tenonrt.plan.plan import Plan, make_plan
from tenonrt.plan.program import BuildReport, CandidateReport, Choice, Program, RegionReport, StepReport
from tenonrt.plugins.registry import Registry
from tenonrt.problem import Code
from tenonrt.runtime.engine import Engine
from tenonrt.types import LINEAR, Format


class Builder:
    """Turns networks into engines. One builder may build several; the timing cache is shared."""

    def __init__(self, config: BuilderConfig | None = None) -> None:
        self.config = config or BuilderConfig()

    def build(self, network: Network) -> Engine:
        """The engine of a network, which must not be changed any more. The network's graph is rewritten in place."""
        registry = Registry(self.config.plugins) if self.config.plugins is not None else network.registry
        return Engine(_Build(self.config, registry, network).run(), registry)


class _Build:
    """One build."""

    def __init__(self, config: BuilderConfig, registry: Registry, network: Network) -> None:
        self.config = config
        self.registry = registry
        self.graph = network.graph
        self.device = registry.device(config.device)
        self.timings: dict[str, float] = {}
        self.covers: list[Cover] = []
        self.choices: dict[str, tuple[str, str]] = {}
        self.regions: dict[str, RegionReport] = {}
        self.steps: list[StepReport] = []
        self.constants = Constants()

    def run(self) -> Plan:
        if not self.graph.outputs:
            raise BuildError(f"the network {self.graph.name!r} has no outputs; mark at least one")
        with self._phase("optimize"):
            specialise_inputs(self.graph, self.config.max_batch, self.config.shapes)
            verify(self.graph)
            log = run_passes(self.graph, self.registry, lambda phase, n: self._tell("optimize", n, n, phase))
        cache = TimingCache(self.config.timing_cache, self.device.fingerprint())
        try:
            with TrialProcess(self.config.trial_seconds) as trials:
                self.tuner = Tuner(self.config, self.registry, self.device, cache, trials)
                program = self._graph_program(self.graph)
        finally:
            cache.close()
        notes = (*self.tuner.notes, *(f"patch refused: {p.author} at {p.layer}: {p.reason}" for p in log.refused), f"timing cache: {cache.hits} hits, {cache.misses} misses")
        report = self._report(log, program, notes)
        return make_plan(
            self.graph, program, self.constants.codes, self.constants.weights, report, Choice(self.choices),
            self.config.device, self.device.fingerprint(), self.registry, self.config.threads,
        )  # fmt: skip

    # one graph -------------------------------------------------------------------------------------------------------

    def _graph_program(self, graph: Graph) -> Program:
        inner = {layer: [self._graph_program(g) for g in layer.graphs] for layer in graph.layers if layer.graphs}
        offers = Offers(graph, self.registry, self.config)
        selector = Selector(graph, self.config)
        with self._phase("select"):
            found = self._collect(selector, offers)
        cover = self._cover(selector, found)
        with self._phase("lower"):
            self.covers.append(cover)
            self.choices.update(selector.record(cover).regions)
            self._report_regions(found, offers)
            return self._lower(graph, selector, offers, cover, inner)

    def _collect(self, selector: Selector, offers: Offers) -> dict[int, list[Offer]]:
        """Offers by the first layer of their region; regions anchored elsewhere are found there too."""
        found: dict[int, list[Offer]] = {}
        for done, layer in enumerate(selector.layers):
            self._tell("offers", done, len(selector.layers), layer.name)
            if not layer.graphs:
                for offer in offers.at(layer):
                    first = min(member.position for member in offer.posed.region.layers)
                    found.setdefault(first, []).append(offer)
        return found

    def _cover(self, selector: Selector, found: dict[int, list[Offer]]) -> Cover:
        if self.config.replay is not None:
            with self._phase("select"):
                return self._replayed(selector, found, self.config.replay)
        if self.config.optimization_level == 0:
            with self._phase("select"):
                return self._ranked(selector, found)
        with self._phase("tune"):
            columns = self._timed(selector, found)
        with self._phase("select"):
            return selector.best([*columns, *self._special_columns(selector)])

    def _special_columns(self, selector: Selector) -> Iterator[Column]:
        for layer in selector.layers:
            if layer.graphs:
                yield selector.control_column(layer)
            if layer in selector.views:
                yield from selector.view_columns(layer)

    # level 0: rank ---------------------------------------------------------------------------------------------------

    def _ranked(self, selector: Selector, found: dict[int, list[Offer]]) -> Cover:
        """The first offer at each layer by rank; only the offers that would be taken have their first run."""
        ranked: dict[int, list[Column]] = {}
        for position, layer in enumerate(selector.layers):
            if layer.graphs:
                ranked[position] = [selector.control_column(layer)]
            elif layer in selector.views and not self._sliced(selector, layer):
                ranked[position] = list(selector.view_columns(layer))
            else:
                ranked[position] = list(self._acceptable(selector, found.get(position, ())))
        return selector.first(ranked)

    def _sliced(self, selector: Selector, layer: Layer) -> bool:
        return selector.views[layer].parts is not None

    def _acceptable(self, selector: Selector, offers: Sequence[Offer]) -> Iterator[Column]:
        for offer in sorted(offers, key=self._rank):
            single_exit = len(offer.posed.region.layers) == 1 or len(offer.posed.region.outputs) == 1
            plain = all(f == LINEAR for f in (*offer.tactic.inputs, *offer.tactic.outputs))
            if single_exit and plain and not self.tuner.check(offer):
                yield next(selector.columns_of(offer, 1))

    def _rank(self, offer: Offer) -> tuple[object, ...]:
        return (
            self.registry.plugins.rank(offer.entry),
            -len(offer.posed.region.layers),
            offer.kernel.runs_reference,
            offer.estimate if offer.estimate is not None else float("inf"),
            offer.entry.distribution,
            offer.entry.name,
            offer.order,
        )

    # level 1 and up: time --------------------------------------------------------------------------------------------

    def _timed(self, selector: Selector, found: dict[int, list[Offer]]) -> list[Column]:
        """Columns with measured costs. A layer with a single offer has nothing to choose and is not timed."""
        offers = [offer for group in found.values() for offer in group]
        contested = self._contested(selector, offers)
        problems: dict[str, dict[str, Offer]] = {}
        for offer in offers:
            problems.setdefault(offer.posed.key, {})[offer.id] = offer
        for done, rivals in enumerate(problems.values()):
            first = next(iter(rivals.values()))
            self._tell("tune", done, len(problems), first.posed.region.name)
            sound = [offer for offer in rivals.values() if not self.tuner.check(offer)]
            if first.posed.key in contested:
                self.tuner.time(sound)
        columns: list[Column] = []
        for offer in offers:
            if not self.tuner.check(offer):
                columns += selector.columns_of(offer, self._nanoseconds(offer))
        return columns

    def _contested(self, selector: Selector, offers: Sequence[Offer]) -> set[str]:
        counts: dict[Layer, int] = {layer: 1 for layer in selector.views}
        for offer in offers:
            for layer in offer.posed.region.layers:
                counts[layer] = counts.get(layer, 0) + 1
        return {o.posed.key for o in offers if any(counts[layer] > 1 for layer in o.posed.region.layers)}

    def _nanoseconds(self, offer: Offer) -> int:
        known = self.tuner.known(offer)
        seconds = known.seconds if known is not None else None
        if seconds is None:
            seconds = offer.estimate if offer.estimate is not None else 1e-6
        return max(1, round(seconds * 1e9))

    def _replayed(self, selector: Selector, found: dict[int, list[Offer]], replay: Choice) -> Cover:
        columns: list[Column] = []
        matched = set()
        for offer in (offer for group in found.values() for offer in group):
            name = offer.posed.region.name
            if replay.regions.get(name) == (offer.entry.id, offer.tactic.key):
                matched.add(name)
                columns += selector.columns_of(offer, 1)
        for column in self._special_columns(selector):
            word, _, rest = column.id.partition("@")
            name = rest.split(">")[0]
            if replay.regions.get(name) == (word, ""):
                matched.add(name)
                columns.append(column)
        covered = {i for column in columns for i in column.layers}
        lost = [layer.name for i, layer in enumerate(selector.layers) if i not in covered]
        if lost:
            raise BuildError(f"the recorded choice does not fit: nothing recorded and installed computes {lost[:5]}")
        return selector.best(columns)

    # lowering --------------------------------------------------------------------------------------------------------

    def _lower(
        self, graph: Graph, selector: Selector, offers: Offers, cover: Cover, inner: dict[Layer, list[Program]]
    ) -> Program:
        choices: list[KernelChoice | ViewChoice | ControlChoice] = []
        for column in cover.columns:
            source, writes = selector.offers[column.id]
            if isinstance(source, Offer):
                choices.append(self._kernel_choice(selector, source, writes))
                self._report_step(source)
            elif column.id.startswith(f"{VIEW}@"):
                view = selector.views[source]
                choices.append(ViewChoice(source, view.whole, view.parts, writes))
            else:
                choices.append(ControlChoice(source, tuple(inner[source])))
        reformats = [self._reformat_choice(selector, offers, cover, n, s) for n, s in cover.reformats]
        return Lowering(graph, self.constants, selector.layers).lower(choices, reformats)

    def _kernel_choice(self, selector: Selector, offer: Offer, writes: tuple[object, ...]) -> KernelChoice:
        problem = offer.posed.problem
        runtime = offer.support.runtime_symbols
        general = runtime == "all" or {s.name for s in problem.symbols} <= set(runtime)
        # Where sizes must be known the code says only what to compile once they are.
        code = self.tuner.code(offer, problem) if general else Code(problem, offer.tactic)
        reads = tuple(selector.accepts(offer))
        return KernelChoice(offer.posed, offer.entry.id, offer.kernel, offer.tactic, not general, code, reads, writes)

    def _reformat_choice(
        self, selector: Selector, offers: Offers, cover: Cover, number: int, target: object
    ) -> ReformatChoice:
        tensor = selector.tensor(number)
        written = [s for column in cover.columns for n, s in column.writes if n == number]
        source: object = written[0] if written else LINEAR
        posed = pose_reformat(self.registry, self.config, tensor, source, target)
        refused = []
        for offer in sorted(offers.alone(posed.problem, posed), key=self._rank):
            why = self.tuner.check(offer)
            if why:
                refused.append(f"{offer.id}: {why}")
            else:
                code = self.tuner.code(offer, posed.problem)
                return ReformatChoice(
                    tensor, source, target, posed.problem, offer.entry.id, offer.kernel, offer.tactic, code, posed.symbols
                )
        refused += [f"{r.kernel}: {r.why}" for r in offers.refusals if r.posed.key == posed.key]
        reasons = "; ".join(refused) or "none is installed for the Reformat layer"
        raise BuildError(f"no kernel stores {tensor.name!r} ({source}) as {target}: {reasons}")

    # telling ---------------------------------------------------------------------------------------------------------

    def _tell(self, phase: str, done: int, total: int, detail: str) -> None:
        if self.config.progress is not None and self.config.progress(phase, done, total, detail) is False:
            raise CancelledError(f"the build was cancelled while it was at {phase} ({detail})")

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start

    def _report_regions(self, found: dict[int, list[Offer]], offers: Offers) -> None:
        rows: dict[str, tuple[PosedProblem, dict[tuple[str, str], CandidateReport]]] = {}
        for offer in (offer for group in found.values() for offer in group):
            known = self.tuner.known(offer)
            row = CandidateReport(
                offer.entry.id, offer.tactic.key, known.seconds if known else None, known.error if known else None,
                known.why if known else "",
            )  # fmt: skip
            rows.setdefault(offer.posed.region.name, (offer.posed, {}))[1][row.kernel, row.tactic] = row
        for refusal in offers.refusals:
            row = CandidateReport(refusal.kernel, refusal.tactic, why=refusal.why)
            rows.setdefault(refusal.posed.region.name, (refusal.posed, {}))[1][row.kernel, row.tactic] = row
        for name, (posed, candidates) in rows.items():
            layers = tuple(layer.name for layer in posed.region.layers)
            self.regions[name] = RegionReport(layers, posed.key, tuple(candidates.values()))

    def _report_step(self, offer: Offer) -> None:
        region, known = offer.posed.region, self.tuner.known(offer)
        sources = tuple(dict.fromkeys(s for layer in region.layers for s in layer.sources))
        patches = tuple(dict.fromkeys(p for layer in region.layers for p in layer.patches))
        seconds = known.seconds if known is not None else None
        self.steps.append(StepReport(region.name, sources, patches, offer.entry.id, offer.tactic.key, seconds))

    def _report(self, log: PassLog, program: Program, notes: tuple[str, ...]) -> BuildReport:
        ladder = [*log.ladder, LadderStep("regions chosen", sum(len(c.columns) for c in self.covers))]
        ladder.append(LadderStep("final steps", count_steps(program)))
        return BuildReport(
            tuple(ladder), tuple(log.patches), log.quarantined, tuple(self.steps), tuple(self.regions.values()),
            sum(c.cost for c in self.covers) * 1e-9, all(c.optimal for c in self.covers), notes, self.timings,
        )  # fmt: skip


def count_steps(program: Program) -> int:
    """Steps of a program and of its sub-programs."""
    return sum(1 + sum(count_steps(g) for g in getattr(step, "graphs", ())) for step in program.steps)


def pose_reformat(
    registry: Registry, config: BuilderConfig, tensor: Tensor, source: object, target: object
) -> PosedProblem:
    """The problem of storing a tensor in another format (a slice is linear)."""
    layer_type = registry.layer_type("Reformat")
    attrs = make_attrs(layer_type, "Reformat", tensor.name, {
        "source": msgspec.to_builtins(source if isinstance(source, Format) else LINEAR),
        "target": msgspec.to_builtins(target if isinstance(target, Format) else LINEAR),
    })  # fmt: skip
    layer = Layer("Reformat", f"{tensor.name} reformat", layer_type, attrs, (tensor,))
    output = Tensor(tensor.name, replace(tensor.info, value=None))
    output.producer = layer
    layer.outputs = (output,)
    return pose(Region((layer,), (tensor,), (output,)), config.device, config.threads)
