"""The builder: passes, offers, prices, cover, lowering, plan."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tenonrt.build.acceptance import disagreement, tolerance
from tenonrt.build.cache import TimingCache
from tenonrt.build.config import BuilderConfig
from tenonrt.build.cover import Cover
from tenonrt.build.lowering import Choice as LoweredChoice
from tenonrt.build.lowering import Constants, ControlChoice, KernelChoice, Lowering, ReformatChoice, ViewChoice
from tenonrt.build.offers import Offer, Offers
from tenonrt.build.reformats import choose_reformat
from tenonrt.build.reporting import BuildLog
from tenonrt.build.selection import VIEW, Selector
from tenonrt.build.strategies import Found, ranked_cover, recorded_columns, timed_columns
from tenonrt.build.trials import TrialProcess
from tenonrt.build.tuner import Tuner
from tenonrt.errors import BuildError, CancelledError
from tenonrt.graph.graph import Graph, Layer
from tenonrt.graph.network import Network
from tenonrt.graph.passes import PassLog, run_passes
from tenonrt.graph.shaping import specialise_inputs
from tenonrt.graph.verification import verify
from tenonrt.plan.plan import Plan, make_plan
from tenonrt.plan.program import Choice, Program
from tenonrt.plugins.registry import Registry, using
from tenonrt.problem import Code
from tenonrt.runtime.engine import Engine


class Builder:
    """Turns networks into engines. One builder may build several; the timing cache is shared."""

    def __init__(self, config: BuilderConfig | None = None) -> None:
        self.config = config or BuilderConfig()

    def build(self, network: Network) -> Engine:
        """The engine of a network, which must not be changed any more: its graph is rewritten in place."""
        registry = Registry(self.config.plugins) if self.config.plugins is not None else network.registry
        with using(registry):  # kernels that run references ask for layer types by name
            return Engine(_Build(self.config, registry, network.graph).run(), registry)


class _Build:
    """One build."""

    def __init__(self, config: BuilderConfig, registry: Registry, graph: Graph) -> None:
        self.config = config
        self.registry = registry
        self.graph = graph
        self.device = registry.device(config.device)
        self.log = BuildLog()
        self.choices: dict[str, tuple[str, str]] = {}
        self.chosen: list[Offer] = []
        self.dropped: set[str] = set()
        self.exact = False
        self.constants = Constants()

    def run(self) -> Plan:
        if not self.graph.outputs:
            raise BuildError(f"the network {self.graph.name!r} has no outputs; mark at least one")
        with self._phase("optimize"):
            specialise_inputs(self.graph, self.config.max_batch, self.config.shapes)
            verify(self.graph)
            passes = run_passes(self.graph, self.registry, lambda phase, n: self._tell("optimize", n, n, phase))
        self.fingerprint = self.device.fingerprint()
        cache = TimingCache(self.config.timing_cache, self.fingerprint)
        try:
            with TrialProcess(self.config.trial_seconds) as trials:
                self.tuner = Tuner(self.config, self.registry, self.device, cache, trials)
                return self._acceptable_plan(passes, cache)
        finally:
            cache.close()

    def _acceptable_plan(self, passes: PassLog, cache: TimingCache) -> Plan:
        """Select until the engine agrees with one of exact tactics only, dropping the worst tactic each time."""
        allowed, notes = tolerance(self.config), list[str]()
        plan = self._plan(passes, cache, notes)
        inexact = self._inexact()
        if allowed is None or not inexact:
            return plan
        exact = self._plan(passes, cache, notes, exact=True)
        while inexact:
            error = disagreement(Engine(plan, self.registry), Engine(exact, self.registry))
            if error <= allowed:
                return plan
            worst = max(inexact, key=lambda offer_id: (inexact[offer_id], offer_id))
            notes.append(f"{worst} is dropped: with it the engine is {error:.2g} of max |y| from exact tactics only")
            self.dropped.add(worst)
            plan = self._plan(passes, cache, notes)
            inexact = self._inexact()
        return plan

    def _inexact(self) -> dict[str, float]:
        """The chosen tactics of reduced accuracy with their errors at their first run."""
        return {o.id: self.tuner.error(o) for o in self.chosen if not o.tactic.exact}

    def _plan(self, passes: PassLog, cache: TimingCache, notes: Sequence[str], exact: bool = False) -> Plan:
        """One selection; exact: among exact tactics only."""
        self.exact = exact
        self.log = BuildLog(dict(self.log.timings))
        self.choices, self.chosen, self.constants = {}, [], Constants()
        program = self._program(self.graph)
        notes = (*self.tuner.notes, *notes, f"timing cache: {cache.hits} hits, {cache.misses} misses")
        report = self.log.report(passes, program, notes)
        return make_plan(
            self.graph, program, self.constants.codes, self.constants.weights, report, Choice(self.choices),
            self.config.device, self.fingerprint, self.registry, self.config.threads,
        )  # fmt: skip

    def _program(self, graph: Graph) -> Program:
        """The program of a graph; graphs that its layers own come first."""
        inner = {layer: tuple(self._program(g) for g in layer.graphs) for layer in graph.layers if layer.graphs}
        offers = Offers(graph, self.registry, self.config)
        selector = Selector(graph)
        with self._phase("offers"):
            found = self._collect(selector, offers)
        cover = self._cover(selector, found)
        with self._phase("lower"):
            self.log.covers.append(cover)
            self.log.add_regions(found, offers.refusals, self.tuner)
            self.choices.update(selector.record(cover).regions)
            return self._lower(selector, offers, cover, inner)

    def _collect(self, selector: Selector, offers: Offers) -> Found:
        found: dict[int, list[Offer]] = {}
        for done, layer in enumerate(selector.layers):
            self._tell("offers", done, len(selector.layers), layer.name)
            if not layer.graphs:
                for offer in offers.at(layer):
                    if offer.id not in self.dropped and (offer.tactic.exact or not self.exact):
                        found.setdefault(min(selector.positions(offer)), []).append(offer)
        return found

    def _cover(self, selector: Selector, found: Found) -> Cover:
        if self.config.replay is None and self.config.optimization_level == 0:
            with self._phase("select"):
                return ranked_cover(selector, found, self.tuner, self.registry.plugins)
        with self._phase("tune"):
            if self.config.replay is not None:
                columns = recorded_columns(selector, found, self.config.replay)
            else:
                columns = timed_columns(selector, found, self.tuner, lambda d, n, name: self._tell("tune", d, n, name))
        with self._phase("select"):
            return selector.solve(columns)

    def _lower(
        self, selector: Selector, offers: Offers, cover: Cover, inner: dict[Layer, tuple[Program, ...]]
    ) -> Program:
        choices: list[LoweredChoice] = []
        for column in cover.columns:
            source, writes = selector.sources[column.id]
            if isinstance(source, Offer):
                choices.append(self._kernel_choice(selector, source, writes))
                self.log.add_step(source, self.tuner)
                self.chosen.append(source)
            elif column.id.startswith(f"{VIEW}@"):
                view = selector.views[source]
                choices.append(ViewChoice(source, view.whole, view.parts, writes))
            else:
                choices.append(ControlChoice(source, inner[source]))
        reformats: list[ReformatChoice] = [
            choose_reformat(self.registry, self.config, self.tuner, offers, selector.tensor(number), source, target)
            for number, source, target in selector.sourced_reformats(cover)
        ]
        return Lowering(selector.graph, self.constants, selector.layers).lower(choices, reformats)

    def _kernel_choice(self, selector: Selector, offer: Offer, writes: tuple[object, ...]) -> KernelChoice:
        problem, runtime = offer.posed.problem, offer.support.runtime_symbols
        general = runtime == "all" or {s.name for s in problem.symbols} <= set(runtime)
        # Where sizes must be fixed the code only says what to compile once they are known.
        code = self.tuner.code(offer, problem) if general else Code(problem, offer.tactic)
        reads = tuple(selector.accepts(offer))
        return KernelChoice(offer.posed, offer.entry.id, offer.kernel, offer.tactic, not general, code, reads, writes)

    def _tell(self, phase: str, done: int, total: int, detail: str) -> None:
        if self.config.progress is not None and self.config.progress(phase, done, total, detail) is False:
            raise CancelledError(f"the build was cancelled while it was at {phase} ({detail})")

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.log.timings[name] = self.log.timings.get(name, 0.0) + time.perf_counter() - start
