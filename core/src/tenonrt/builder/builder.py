"""The builder: passes first, then selections until one is accurate enough, then the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tenonrt.builder.acceptance import disagreement, tolerance
from tenonrt.builder.alone import on_fewest_threads
from tenonrt.builder.cache import TimingCache
from tenonrt.builder.config import BuilderConfig
from tenonrt.builder.known import know_constants
from tenonrt.builder.offers import Offer
from tenonrt.builder.optimizations import check_names
from tenonrt.builder.precision import is_reduced
from tenonrt.builder.progress import Clock, Teller
from tenonrt.builder.selecting import IN_PLACE, Terms, Tools, select_program
from tenonrt.builder.timing import constant_bytes
from tenonrt.builder.trials import TrialPool
from tenonrt.builder.tuner import Tuner
from tenonrt.errors import BuildError
from tenonrt.graph.copying import copy_graph
from tenonrt.graph.graph import Graph
from tenonrt.graph.network import Network
from tenonrt.graph.passes import PassLog, run_passes
from tenonrt.graph.profiling import around, of_symbols, solve_profiles, tuned_sizes
from tenonrt.graph.shaping import specialise_inputs, substitute_symbols
from tenonrt.graph.verification import verify
from tenonrt.plan.joining import Joining
from tenonrt.plan.plan import Plan, make_plan
from tenonrt.plan.program import Choice, Profile, sizes_text
from tenonrt.plugins.hooks import Hooks
from tenonrt.plugins.registry import PASSES, Registry, using
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
            return Engine(_EngineBuild(config, registry, hooks, network.graph).run(), registry)


class _EngineBuild:
    """The general program of a network, and one for each of the sizes that its profiles tune for."""

    def __init__(self, config: BuilderConfig, registry: Registry, hooks: Hooks, graph: Graph) -> None:
        self.config = config
        self.registry = registry
        self.hooks = hooks
        self.graph = graph

    def run(self) -> Plan:
        profiles = self._shape()
        sizes = tuned_sizes(profiles)
        copies = [self._at(size) for size in sizes]
        fingerprint = self.registry.device(self.config.device).fingerprint()
        cache = TimingCache(self.config.timing_cache, fingerprint)
        try:
            with TrialPool(self.config.trial_seconds) as trials:
                plan = self._build(self.graph, self.config, cache, trials)
                if not profiles:
                    return plan
                joining = Joining(plan, profiles)
                for number, (size, graph) in enumerate(zip(sizes, copies, strict=True)):
                    joining.add(size, self._build(graph, self._replaying(number), cache, trials))
                return joining.plan()
        finally:
            cache.close()

    def _shape(self) -> tuple[Profile, ...]:
        """Give the inputs their sizes and ranges."""
        if not self.graph.outputs:
            raise BuildError(f"the network {self.graph.name!r} has no outputs; mark at least one")
        specialise_inputs(self.graph, self.config.max_batch, self.config.shapes)
        profiles = solve_profiles(self.graph, self.config.profiles)
        if profiles:
            substitute_symbols(self.graph, around(profiles))
        return of_symbols(profiles, self.graph)

    def _at(self, sizes: Mapping[str, int]) -> Graph:
        copied = copy_graph(self.graph)
        copied.name = f"{self.graph.name} at {sizes_text(sizes)}"
        substitute_symbols(copied, sizes)
        return copied

    def _build(self, graph: Graph, config: BuilderConfig, cache: TimingCache, trials: TrialPool) -> Plan:
        return _Build(config, self.registry, self.hooks, graph).run(cache, trials)

    def _replaying(self, number: int) -> BuilderConfig:
        """The configuration with the part of a recorded choice that is about the sizes of this number."""
        if self.config.replay is None:
            return self.config
        recorded = self.config.replay.tuned
        if number >= len(recorded):
            raise BuildError(
                f"the recorded choice knows {len(recorded)} shapes to tune for, the profiles have more; "
                "build without it"
            )
        return replace(self.config, replay=recorded[number])


class _Build:
    """One program of one network."""

    def __init__(self, config: BuilderConfig, registry: Registry, hooks: Hooks, graph: Graph) -> None:
        self.config = config
        self.registry = registry
        self.hooks = hooks
        self.graph = graph
        self.device = registry.device(config.device)
        self.fingerprint = self.device.fingerprint()
        self.clock = Clock()
        self.teller = Teller(config.progress)

    def run(self, cache: TimingCache, trials: TrialPool) -> Plan:
        passes = self._optimize()
        tuner = Tuner(self.config, self.registry, self.device, cache, trials, constant_bytes(self.graph))
        tools = Tools(self.config, self.registry, self.hooks, tuner, self.clock, self.teller)
        plan = self._accurate_plan(tools, passes)
        if self._times_programs():
            with self.clock.phase("finals"):
                plan = on_fewest_threads(plan, self.graph, tuner)
        self.hooks.built(self.graph.name, plan.report, cache.misses)
        return plan

    def _times_programs(self) -> bool:
        """Whether whole programs may be run to choose between them."""
        timed = self.config.optimization_level >= IN_PLACE and self.config.replay is None and not self.device.races
        return timed and "whole_programs" not in self.config.disable

    def _optimize(self) -> PassLog:
        check_names(self.config.disable, (entry.name for entry in self.registry.usable(PASSES)))
        with self.clock.phase("optimize"):
            verify(self.graph)
            log = run_passes(
                self.graph,
                self.registry,
                lambda phase, n: self.teller.tell("optimize", n, n, phase),
                self.config.disable,
            )
            know_constants(self.graph)
            return log

    def _accurate_plan(self, tools: Tools, passes: PassLog) -> Plan:
        """Select until the engine agrees with one of exact tactics only, dropping the worst tactic each time.

        A recorded choice is taken as it is: the build that recorded it compared it, and it names no exact tactics.
        """
        allowed, dropped, notes = tolerance(self.config), set[str](), list[str]()
        if self.device.races:  # there layers without reduced kernels run on the host, for minutes at a large batch
            allowed = None
            notes.append("tactics were judged one by one; the engine is not compared with one of exact tactics only")
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
            selected.log.report(passes, selected.program, notes, self.clock.seconds),
            Choice(selected.choices, threads=self.config.posed_threads), self.config.device, self.fingerprint,
            self.registry, self.config.threads,
        )  # fmt: skip
        return plan, [offer for offer in selected.offers if is_reduced(offer)]
