"""The builder: passes first, then selections until one is accurate enough, then the plan."""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt.builder.acceptance import disagreement, tolerance
from tenonrt.builder.cache import TimingCache
from tenonrt.builder.config import BuilderConfig
from tenonrt.builder.known import know_constants
from tenonrt.builder.offers import Offer
from tenonrt.builder.progress import Clock, Teller
from tenonrt.builder.selecting import Terms, Tools, select_program
from tenonrt.builder.timing import constant_bytes
from tenonrt.builder.trials import TrialPool
from tenonrt.builder.tuner import Tuner
from tenonrt.errors import BuildError
from tenonrt.graph.graph import Graph
from tenonrt.graph.network import Network
from tenonrt.graph.passes import PassLog, run_passes
from tenonrt.graph.shaping import specialise_inputs
from tenonrt.graph.verification import verify
from tenonrt.plan.plan import Plan, make_plan
from tenonrt.plan.program import Choice
from tenonrt.plugins.hooks import Hooks
from tenonrt.plugins.registry import Registry, using
from tenonrt.runtime.engine import Engine


class Builder:
    """Turns networks into engines. One builder may build several; the timing cache is shared."""

    def __init__(self, config: BuilderConfig | None = None) -> None:
        self.config = config or BuilderConfig()

    def build(self, network: Network) -> Engine:
        """The engine of a network, which must not be changed any more: its graph is rewritten in place."""
        registry = Registry(self.config.plugins) if self.config.plugins is not None else network.registry
        hooks = Hooks(registry)
        config = hooks.configure(self.config)
        if config.plugins is not None and config.plugins != self.config.plugins:
            registry = Registry(config.plugins)
            hooks = Hooks(registry)
        with using(registry):  # kernels that run references ask for layer types by name
            return Engine(_Build(config, registry, hooks, network.graph).run(), registry)


class _Build:
    """One build of one network."""

    def __init__(self, config: BuilderConfig, registry: Registry, hooks: Hooks, graph: Graph) -> None:
        self.config = config
        self.registry = registry
        self.hooks = hooks
        self.graph = graph
        self.device = registry.device(config.device)
        self.fingerprint = self.device.fingerprint()
        self.clock = Clock()
        self.teller = Teller(config.progress)

    def run(self) -> Plan:
        passes = self._optimize()
        cache = TimingCache(self.config.timing_cache, self.fingerprint)
        try:
            with TrialPool(self.config.trial_seconds) as trials:
                tuner = Tuner(self.config, self.registry, self.device, cache, trials, constant_bytes(self.graph))
                tools = Tools(self.config, self.registry, self.hooks, tuner, self.clock, self.teller)
                plan = self._accurate_plan(tools, passes)
        finally:
            cache.close()
        self.hooks.built(self.graph.name, plan.report, cache.misses)
        return plan

    def _optimize(self) -> PassLog:
        if not self.graph.outputs:
            raise BuildError(f"the network {self.graph.name!r} has no outputs; mark at least one")
        with self.clock.phase("optimize"):
            specialise_inputs(self.graph, self.config.max_batch, self.config.shapes)
            verify(self.graph)
            log = run_passes(self.graph, self.registry, lambda phase, n: self.teller.tell("optimize", n, n, phase))
            know_constants(self.graph)
            return log

    def _accurate_plan(self, tools: Tools, passes: PassLog) -> Plan:
        """Select until the engine agrees with one of exact tactics only, dropping the worst tactic each time.

        A recorded choice is taken as it is: the build that recorded it compared it, and it names no exact tactics.
        """
        allowed, dropped, notes = tolerance(self.config), set[str](), list[str]()
        plan, inexact = self._plan(tools, passes, notes, Terms())
        if allowed is None or not inexact or self.config.replay is not None:
            return plan
        exact, _ = self._plan(tools, passes, notes, Terms(exact=True))
        while inexact:
            error = disagreement(Engine(plan, self.registry), Engine(exact, self.registry))
            if error <= allowed:
                break
            worst = max(inexact, key=lambda offer: (tools.tuner.error(offer), offer.id)).id
            notes.append(f"{worst} is dropped: with it the engine is {error:.2g} of max |y| from exact tactics only")
            dropped.add(worst)
            plan, inexact = self._plan(tools, passes, notes, Terms(dropped=frozenset(dropped)))
        return plan

    def _plan(self, tools: Tools, passes: PassLog, notes: Sequence[str], terms: Terms) -> tuple[Plan, list[Offer]]:
        """The plan of one selection, and the inexact offers it chose."""
        selected = select_program(self.graph, tools, terms)
        notes = (*tools.tuner.notes, *notes, tools.tuner.summary())
        plan = make_plan(
            self.graph, selected.program, selected.constants.codes, selected.constants.weights,
            selected.log.report(passes, selected.program, notes, self.clock.seconds), Choice(selected.choices),
            self.config.device, self.fingerprint, self.registry, self.config.threads,
        )  # fmt: skip
        return plan, [offer for offer in selected.offers if not offer.tactic.exact]
