"""One selection: offers gathered, a cover found, the cover lowered, for a graph and the graphs that its layers own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tenonrt.builder.choices import Chosen, ControlChoice, KernelChoice, ViewChoice
from tenonrt.builder.config import BuilderConfig
from tenonrt.builder.constants import Constants
from tenonrt.builder.cover import Column, Cover
from tenonrt.builder.explaining import explain
from tenonrt.builder.finalists import decide_in_place
from tenonrt.builder.lowering import Lowering, Packs
from tenonrt.builder.offers import OVER_WORKSPACE, Offer, Offers
from tenonrt.builder.precision import is_reduced, obeyed, preferred
from tenonrt.builder.pricing import find_limits, price_reformats
from tenonrt.builder.progress import Clock, Teller
from tenonrt.builder.reformats import choose_reformat
from tenonrt.builder.reporting import BuildLog
from tenonrt.builder.selection import KNOWN, VIEW, Selector, is_known, merged_concatenations, storage_formats
from tenonrt.builder.staying import faster_cover
from tenonrt.builder.strategies import (
    Found,
    greedy_columns,
    preferred_cover,
    ranked_cover,
    recorded_columns,
    timed_columns,
)
from tenonrt.builder.tuner import Tuner
from tenonrt.builder.tuning import tune
from tenonrt.graph.graph import Graph, Layer
from tenonrt.plan.program import Program
from tenonrt.plugins.hooks import Hooks
from tenonrt.plugins.registry import Registry
from tenonrt.problem import Code

# From this level on close candidates are timed in place.
IN_PLACE = 3


@dataclass(frozen=True)
class Tools:
    """What every selection of a build works with."""

    config: BuilderConfig
    registry: Registry
    hooks: Hooks
    tuner: Tuner
    clock: Clock
    teller: Teller


@dataclass(frozen=True)
class Terms:
    """What a selection may use: only exact tactics, or all but the dropped ones (ids of offers)."""

    exact: bool = False
    dropped: frozenset[str] = frozenset()


@dataclass
class Selected:
    """A program, and what was said and chosen on the way to it."""

    program: Program = field(init=False)
    log: BuildLog = field(default_factory=BuildLog)
    choices: dict[str, tuple[str, str]] = field(default_factory=dict)
    offers: list[Offer] = field(default_factory=list)
    constants: Constants = field(default_factory=Constants)


def select_program(graph: Graph, tools: Tools, terms: Terms) -> Selected:
    """The program of a graph on these terms."""
    selection = _Selection(tools, terms)
    selection.result.program = selection.program(graph)
    return selection.result


class _Selection:
    def __init__(self, tools: Tools, terms: Terms) -> None:
        self.tools = tools
        self.terms = terms
        self.result = Selected()
        self.packs: Packs = {}

    def program(self, graph: Graph) -> Program:
        """Graphs that layers own come first."""
        inner = {layer: tuple(self.program(g) for g in layer.graphs) for layer in graph.layers if layer.graphs}
        tools, result = self.tools, self.result
        # Pins say what the application runs; the engine that only judges it is free of them.
        offers = Offers(graph, tools.registry, tools.config, tools.hooks, pins=not self.terms.exact)
        with tools.clock.phase("offers"):
            offered = self._collect(graph, offers)
            selector = Selector(graph, storage_formats(offered), tools.config.disable)
            found = selector.by_anchor(offered)
        columns, cover = self._cover(selector, found, offers, inner)
        with tools.clock.phase("lower"):
            result.log.covers.append(cover)
            result.log.merged += merged_concatenations(selector, cover)
            choice = selector.record(cover)
            result.log.add_regions(found, offers.refusals, tools.tuner, choice)
            result.choices.update(choice.regions)
            for source, _ in (selector.sources[column.id] for column in cover.columns):
                if isinstance(source, Offer):
                    result.log.add_step(source, tools.tuner)
                    result.offers.append(source)
            program = self._lower(selector, offers, cover, inner, result.constants)
        if not self.terms.exact:
            with tools.clock.phase("explain"):
                result.log.choices += explain(selector, columns, cover)
        return program

    def _collect(self, graph: Graph, offers: Offers) -> list[Offer]:
        """Every offer that hooks, an earlier selection and these terms allow."""
        offered: list[Offer] = []
        for done, layer in enumerate(graph.layers):
            self.tools.teller.tell("offers", done, len(graph.layers), layer.name)
            if not layer.graphs and not is_known(layer):
                offered += offers.at(layer)
        allowed = []
        for offer in offers.admitted(offered):
            if offer.id in self.terms.dropped:
                offers.refuse(offer, "it was dropped: with it the engine is too far from one of exact tactics only")
            elif not self.terms.exact or not is_reduced(offer):
                allowed.append(offer)
        if not self.terms.exact:
            self._note_workspace(offers)
            self._note_precision(allowed)
        constraints = self.tools.config.layer_precisions
        return obeyed(graph, constraints, allowed, offers.refuse) if constraints and not self.terms.exact else allowed

    def _note_workspace(self, offers: Offers) -> None:
        """Say so where the limit of workspace leaves tactics out: a larger one may make the network faster."""
        excluded = {(r.posed.key, r.kernel, r.tactic) for r in offers.refusals if r.why.startswith(OVER_WORKSPACE)}
        if excluded:
            limit = self.tools.config.workspace
            self.tools.tuner.notes.append(f"the limit of {limit} bytes of workspace excludes {len(excluded)} tactics")

    def _note_precision(self, allowed: Sequence[Offer]) -> None:
        """Say so where a permission changes nothing, since no kernel can use it."""
        asked = self.tools.config.precision
        if asked in ("tf32", "float16", "bfloat16") and all(offer.tactic.precision != asked for offer in allowed):
            self.tools.tuner.notes.append(
                f"{asked} is permitted, but no installed kernel computes this network's layers in it on this "
                f"{self.tools.config.device}: everything is as precise as without the permission"
            )

    def _cover(
        self, selector: Selector, found: Found, offers: Offers, inner: Mapping[Layer, tuple[Program, ...]]
    ) -> tuple[Sequence[Column], Cover]:
        """The cover, and the columns it was chosen from."""
        config, tuner, clock = self.tools.config, self.tools.tuner, self.tools.clock
        if config.replay is not None:
            with clock.phase("select"):
                recorded = recorded_columns(selector, found, config.replay)
                return recorded, selector.solve(recorded)
        if config.optimization_level == 0:
            with clock.phase("select"):
                cover = ranked_cover(selector, found, tuner, self.tools.registry.plugins, offers.refusals)
                return cover.columns, cover
        offered = [offer for group in found.values() for offer in group]
        sound = tune(selector, offered, tuner, clock, self.tools.teller, offers.refuse)
        if config.layer_precisions and not self.terms.exact:
            sound = preferred(selector.graph, config.layer_precisions, sound, offers.refuse)
        with clock.phase("reformats"):
            find_limits(selector, offers)
        columns = timed_columns(selector, found, sound, tuner, offers.refusals)
        with clock.phase("reformats"):
            price_reformats(selector, columns, offers, tuner)
        with clock.phase("select"):
            cover = self._solved(selector, columns)
        if config.optimization_level < IN_PLACE or self.terms.exact:
            return columns, cover

        def lower(changed: Cover) -> tuple[Program, Constants]:
            constants = Constants()
            return self._lower(selector, offers, changed, inner, constants, final=False), constants

        with clock.phase("finals"):
            if "whole_programs" not in config.disable:
                cover = faster_cover(selector, columns, cover, tuner, lower)
            # A device that times candidates itself does so between other kernels; events between steps keep them apart.
            if "finals" not in config.disable and not tuner.device.races:
                cover = decide_in_place(selector, columns, cover, tuner, lower)
        return columns, cover

    def _solved(self, selector: Selector, columns: Sequence[Column]) -> Cover:
        """The least cover, or a recorded one where the difference is noise; greedy where that is asked for."""
        config = self.tools.config
        if "exact_cover" in config.disable:
            return selector.solve(greedy_columns(selector, columns))
        cover = selector.solve(columns)
        if config.prefer is None or self.terms.exact:
            return cover
        preferred, note = preferred_cover(selector, columns, cover, config.prefer)
        self.tools.tuner.notes.append(note)
        return preferred

    def _lower(
        self,
        selector: Selector,
        offers: Offers,
        cover: Cover,
        inner: Mapping[Layer, tuple[Program, ...]],
        constants: Constants,
        *,
        final: bool = True,
    ) -> Program:
        tools, choices = self.tools, list[Chosen]()
        for column in cover.columns:
            source, writes = selector.sources[column.id]
            if isinstance(source, Offer):
                choices.append(self._kernel_choice(selector, source, writes, final))
            elif column.id.startswith(f"{VIEW}@"):
                view = selector.views[source]
                choices.append(ViewChoice(source, view.whole, view.parts, writes))
            elif not column.id.startswith(f"{KNOWN}@"):
                choices.append(ControlChoice(source, inner[source]))
        reformats = [
            choose_reformat(tools.registry, tools.config, tools.tuner, offers, selector.tensor(number), source, target)
            for number, source, target in selector.sourced_reformats(cover)
        ]
        lowering = Lowering(selector.graph, constants, selector.layers, self.packs, tools.config.disable)
        return lowering.lower(choices, reformats)

    def _kernel_choice(self, selector: Selector, offer: Offer, writes: tuple[object, ...], final: bool) -> KernelChoice:
        general = offer.general
        # Where sizes must be fixed the code only says what to compile once they are known.
        code = self.tools.tuner.code(offer, keep=final) if general else Code(offer.posed.problem, offer.tactic)
        reads = tuple(selector.accepts(offer))
        return KernelChoice(offer.posed, offer.entry.id, offer.kernel, offer.tactic, not general, code, reads, writes)
