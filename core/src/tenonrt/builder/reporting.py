"""What a build tells about itself: regions with their candidates, steps with their origin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tenonrt.builder.cover import Cover
from tenonrt.builder.offers import Offer, Refusal
from tenonrt.builder.regions import PosedProblem, Region
from tenonrt.builder.strategies import Found
from tenonrt.builder.tuner import Tuner
from tenonrt.graph.passes import PassLog
from tenonrt.graph.records import LadderStep
from tenonrt.plan.program import (
    BuildReport,
    CandidateReport,
    Choice,
    ChoiceReport,
    ControlStep,
    Program,
    RegionReport,
    StepReport,
)


@dataclass
class BuildLog:
    """Gathers the report over a network's graph and its subgraphs."""

    covers: list[Cover] = field(default_factory=list)
    regions: dict[str, RegionReport] = field(default_factory=dict)
    steps: list[StepReport] = field(default_factory=list)
    choices: list[ChoiceReport] = field(default_factory=list)
    merged: int = 0  # concatenations that need not run

    def add_regions(self, found: Found, refusals: Sequence[Refusal], tuner: Tuner, choice: Choice) -> None:
        """Every candidate of every region, with its time or the reason it was refused, and which was chosen."""
        rows: dict[str, tuple[PosedProblem, dict[tuple[str, str], CandidateReport]]] = {}
        for posed, row in (*_offered(found, tuner), *_refused(refusals)):
            rows.setdefault(posed.region.name, (posed, {}))[1][row.kernel, row.tactic] = row
        for name, (posed, candidates) in rows.items():
            layers = tuple(layer.name for layer in posed.region.layers)
            winner = list(candidates).index(choice.regions[name]) if choice.regions.get(name) in candidates else None
            self.regions[name] = RegionReport(layers, posed.key, tuple(candidates.values()), winner, name)

    def add_step(self, offer: Offer, tuner: Tuner) -> None:
        region, known = offer.posed.region, tuner.known(offer)
        seconds = known.seconds if known is not None else None
        sources, patches = provenance(region)
        self.steps.append(StepReport(region.name, sources, patches, offer.entry.id, offer.tactic.key, seconds))

    def report(self, log: PassLog, program: Program, notes: Sequence[str], seconds: Mapping[str, float]) -> BuildReport:
        """The whole story; ``seconds`` by phase."""
        regions = sum(len(c.columns) for c in self.covers)
        ladder = [*log.ladder, LadderStep("regions chosen", regions)]
        ladder.append(LadderStep("concats removed", regions - self.merged))
        ladder.append(LadderStep("final steps", count_steps(program)))
        refused = [f"patch refused: {p.author} at {p.layer}: {p.reason}" for p in log.refused]
        return BuildReport(
            tuple(ladder),
            tuple(log.patches),
            log.quarantined,
            tuple(self.steps),
            tuple(self.regions.values()),
            sum(c.cost for c in self.covers) * 1e-9,
            all(c.optimal for c in self.covers),
            (*refused, *notes),
            dict(seconds),
            tuple(self.choices),
        )


def provenance(region: Region) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The model's nodes behind a region, and the passes that touched them."""
    sources = tuple(dict.fromkeys(s for layer in region.layers for s in layer.sources))
    patches = tuple(dict.fromkeys(p for layer in region.layers for p in layer.patches))
    return sources, patches


def count_steps(program: Program) -> int:
    """Steps of a program and of its sub-programs."""
    inner = sum(count_steps(g) for step in program.steps if isinstance(step, ControlStep) for g in step.graphs)
    return len(program.steps) + inner


def _offered(found: Found, tuner: Tuner) -> Iterator[tuple[PosedProblem, CandidateReport]]:
    for offer in (offer for group in found.values() for offer in group):
        known = tuner.known(offer)
        if known is None:
            yield offer.posed, CandidateReport(offer.entry.id, offer.tactic.key)
        else:
            row = CandidateReport(offer.entry.id, offer.tactic.key, known.seconds, known.error, known.why)
            yield offer.posed, row


def _refused(refusals: Sequence[Refusal]) -> Iterator[tuple[PosedProblem, CandidateReport]]:
    for refusal in refusals:
        yield refusal.posed, CandidateReport(refusal.kernel, refusal.tactic, why=refusal.why)
