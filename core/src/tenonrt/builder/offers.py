"""Which kernels offer to compute which regions: routing by entry-point name, then each kernel's own word."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from tenonrt.builder.config import BuilderConfig
from tenonrt.builder.regions import PosedProblem, make_region, pose
from tenonrt.builder.siblings import joined, sibling_groups
from tenonrt.contracts import Candidate, Kernel
from tenonrt.dims import bounds
from tenonrt.errors import PluginError
from tenonrt.graph.graph import Graph, Layer
from tenonrt.plugins.discovery import Entry
from tenonrt.plugins.hooks import Ban, Hooks
from tenonrt.plugins.registry import KERNELS, PluginWarning, Registry
from tenonrt.problem import Problem, Support, Tactic
from tenonrt.types import LINEAR, MAX_BYTES, Format

OVER_WORKSPACE = "its workspace takes more than the"


@dataclass(frozen=True, eq=False)
class Offer:
    """One tactic of one kernel for one region."""

    posed: PosedProblem
    entry: Entry
    kernel: Kernel
    support: Support
    tactic: Tactic
    order: int  # the kernel's own ranking of its tactics
    estimate: float | None

    @property
    def id(self) -> str:
        return f"{self.entry.id}#{self.tactic.key}"

    @property
    def general(self) -> bool:
        """Whether one code serves every size of the problem, so that what the trial compiled is what runs."""
        runtime = self.support.runtime_symbols
        return runtime == "all" or {s.name for s in self.posed.problem.symbols} <= set(runtime)


@dataclass
class Refusal:
    """Why a kernel does not compute a region."""

    posed: PosedProblem
    kernel: str
    tactic: str
    why: str


def malformed(problem: Problem, tactics: Sequence[Tactic]) -> str:
    """What is wrong with a kernel's tactics as values; empty when they fit the problem and each other."""
    keys = [tactic.key for tactic in tactics]
    if len(set(keys)) < len(keys):
        return f"two of its tactics for {' + '.join(problem.kinds)} have one key: {keys}"
    reads, writes = len(problem.activations), len(problem.outputs)
    for tactic in tactics:
        if len(tactic.inputs) not in (0, reads) or len(tactic.outputs) not in (0, writes):
            return (
                f"its tactic {tactic.key!r} has formats for {len(tactic.inputs)} activations and {len(tactic.outputs)} "
                f"outputs; {' + '.join(problem.kinds)} has {reads} and {writes}"
            )
        odd = next((f for f in (*tactic.inputs, *tactic.outputs) if not _is_format(f)), None)
        if odd is not None:
            return f"its tactic {tactic.key!r} has {odd!r} where a Format of axis numbers belongs, NHWC for instance"
        activations = {*tactic.reads_strided, *(i for _, i in tactic.inplace)}
        outputs = {*tactic.writes_strided, *(o for o, _ in tactic.inplace)}
        if not activations <= set(range(reads)) or not outputs <= set(range(writes)):
            return f"its tactic {tactic.key!r} declares strides or in-place pairs of operands that are not there"
    return ""


def _is_format(value: object) -> bool:
    """Whether a value can be read as a format at all; structures do not check what they are made of."""
    if not isinstance(value, Format):
        return False
    axes = (*value.order, *(number for block in value.blocks for number in block))
    return all(isinstance(axis, int) for axis in axes)


def routed(entry: Entry, device: str) -> tuple[str, str] | None:
    """(what it computes, implementation) of a kernel entry when it is for this device, else None."""
    where, _, rest = entry.name.partition("/")
    what, _, implementation = rest.rpartition(".")
    return (what, implementation) if where in (device, "*") and what else None


@dataclass
class Offers:
    """All offers for a graph, found layer by layer; equal (kernel, problem) pairs are asked once."""

    graph: Graph
    registry: Registry
    config: BuilderConfig
    hooks: Hooks
    pins: bool = True  # False: for an engine that others are only compared with
    refusals: list[Refusal] = field(default_factory=list)
    _routes: dict[str, list[Entry]] = field(default_factory=dict)
    _posed: dict[frozenset[Layer], PosedProblem | str] = field(default_factory=dict)
    _answers: dict[tuple[str, str], tuple[Support, Sequence[tuple[Tactic, float | None]]]] = field(default_factory=dict)
    _quarantined: set[str] = field(default_factory=set)
    _regions: dict[tuple[str, Layer], list[Sequence[Layer]]] = field(default_factory=dict)
    _siblings: dict[Layer, list[tuple[Layer, ...]]] | None = None
    _no_faster: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.config.precision == "best":
            self._no_faster = self.registry.device(self.config.device).no_faster

    def at(self, layer: Layer) -> Iterator[Offer]:
        """Offers whose regions are anchored at a layer; those of siblings at the first of them."""
        for entry in self._route(layer):
            if entry.id not in self._quarantined:
                yield from self._from_kernel(entry, layer)

    def alone(self, posed: PosedProblem) -> Iterator[Offer]:
        """Offers for a single layer that the core poses itself (a reformat)."""
        route = self._route(posed.region.layers[0])
        yield from self.admitted(o for e in route for o in self._for_problem(e, self.registry.instance(e), posed))

    def admitted(self, offers: Iterable[Offer]) -> list[Offer]:
        """The offers that no hook plugin forbids, in order; the others become refusals."""
        offers = list(offers)
        if not self.hooks:
            return offers
        problems: dict[str, list[Offer]] = {}
        for offer in offers:
            problems.setdefault(offer.posed.key, []).append(offer)
        bans = {key: self._bans(rivals) for key, rivals in problems.items()}
        admitted = []
        for offer in offers:
            ban = bans[offer.posed.key].get(offer.id)
            if ban is None or (ban.by_pin and not self.pins):
                admitted.append(offer)
            else:
                self.refuse(offer, ban.why)
        return admitted

    def refuse(self, offer: Offer, why: str) -> None:
        self.refusals.append(Refusal(offer.posed, offer.entry.id, offer.tactic.key, why))

    def _bans(self, rivals: Sequence[Offer]) -> Mapping[str, Ban]:
        """What hook plugins say about the offers for one problem, which several regions may pose."""
        posed = rivals[0].posed
        regions = tuple(dict.fromkeys(offer.posed.region.name for offer in rivals))
        shown = {o.id: Candidate(o.entry.id, o.entry.version, o.tactic, o.estimate) for o in rivals}
        return self.hooks.choose(posed.problem, posed.key, regions, tuple(shown.values()))

    def _route(self, layer: Layer) -> list[Entry]:
        if layer.kind not in self._routes:
            wanted = {layer.kind, f"@{layer.layer_type.pattern}", "*"}
            self._routes[layer.kind] = [
                entry
                for entry in self.registry.usable(KERNELS)
                if (route := routed(entry, self.config.device)) is not None and route[0] in wanted
            ]
        return self._routes[layer.kind]

    def _from_kernel(self, entry: Entry, layer: Layer) -> Iterator[Offer]:
        for layers in self._proposed(entry, layer):
            posed = self._pose(layers)
            if isinstance(posed, PosedProblem):
                yield from self._for_problem(entry, self.registry.instance(entry), posed)
            else:
                self._quarantine(entry, f"it claims a region at {layer.name!r} that cannot be: {posed}")
        if entry.id not in self._quarantined and "aggregation" not in self.config.disable:
            yield from self._of_siblings(entry, layer)

    def _of_siblings(self, entry: Entry, layer: Layer) -> Iterator[Offer]:
        """Offers for the sets of siblings that begin with a layer."""
        if self._siblings is None:
            self._siblings = sibling_groups(self.graph)
        if layer not in self._siblings or not (kernel := self.registry.instance(entry)).aggregates:
            return
        for siblings in self._siblings[layer]:
            union = joined(siblings, lambda sibling: self._proposed(entry, sibling), self._possible)
            posed = None if union is None else self._pose(union)
            if isinstance(posed, PosedProblem):
                yield from self._for_problem(entry, kernel, posed)

    def _possible(self, layers: Sequence[Layer]) -> bool:
        return isinstance(self._pose(layers), PosedProblem)

    def _proposed(self, entry: Entry, layer: Layer) -> list[Sequence[Layer]]:
        """The regions that a kernel proposes at a layer and the configuration allows; none after it has raised."""
        key = (entry.id, layer)
        if key not in self._regions:
            self._regions[key] = self._ask_regions(entry, layer)
        return self._regions[key]

    def _ask_regions(self, entry: Entry, layer: Layer) -> list[Sequence[Layer]]:
        try:
            regions = list(self.registry.instance(entry).regions(self.graph, layer))
        except PluginError:
            if self.registry.strict:
                raise
            return []  # the registry has said so, loudly
        except Exception as error:  # noqa: BLE001 - whatever a kernel raises, the build goes on without it
            self._quarantine(entry, f"regions() raised {error!r} at layer {layer.name!r}")
            return []
        if "fusion" in self.config.disable:
            # A kernel that proposes larger regions alone may still compute the layer by itself.
            return [region for region in regions if len(set(region)) == 1] or [[layer]] if regions else []
        return regions

    def _pose(self, layers: Sequence[Layer]) -> PosedProblem | str:
        members = frozenset(layers)
        if members not in self._posed:
            try:
                region = make_region(self.graph, members)
            except ValueError as error:
                self._posed[members] = str(error)
            else:
                self._posed[members] = pose(region, self.config.device, self.config.posed_threads)
        return self._posed[members]

    def _for_problem(self, entry: Entry, kernel: Kernel, posed: PosedProblem) -> Iterator[Offer]:
        key = (entry.id, posed.key)
        if key not in self._answers:
            self._answers[key] = self._ask(entry, kernel, posed)
        support, tactics = self._answers[key]
        if not support.ok:
            self.refusals.append(Refusal(posed, entry.id, "", support.why))
        elif not tactics:
            self.refusals.append(Refusal(posed, entry.id, "", "it has no tactic in what the configuration allows"))
        for order, (tactic, estimate) in enumerate(tactics):
            why = self._unfit(posed, tactic)
            if why:
                self.refusals.append(Refusal(posed, entry.id, tactic.key, why))
            else:
                yield Offer(posed, entry, kernel, support, tactic, order, estimate)

    def _ask(
        self, entry: Entry, kernel: Kernel, posed: PosedProblem
    ) -> tuple[Support, Sequence[tuple[Tactic, float | None]]]:
        try:
            support = kernel.supports(posed.problem)
            tactics = list(kernel.tactics_within(posed.problem, partial(self._permits, posed))) if support.ok else []
            priced = [(tactic, kernel.estimate(posed.problem, tactic)) for tactic in tactics]
        except Exception as error:  # noqa: BLE001 - whatever a kernel raises, the build goes on without it
            why = f"it raised {error!r} when asked about {' + '.join(posed.problem.kinds)}"
        else:
            why = malformed(posed.problem, tactics)
        if why:
            self._quarantine(entry, why)
            return Support(False, why), []
        return support, priced

    def _unfit(self, posed: PosedProblem, tactic: Tactic) -> str:
        """Why the configuration excludes a tactic; empty when it does not."""
        workspace = bounds(tactic.workspace)[1]
        if workspace is not None and workspace > MAX_BYTES:
            return f"it needs {workspace} bytes of workspace, more than any machine has"
        limit = self.config.workspace
        if limit is not None and (workspace is None or workspace > limit):
            return f"{OVER_WORKSPACE} {limit} that the configuration allows: {workspace} bytes"
        formats = (*tactic.inputs, *tactic.outputs)
        if "formats" in self.config.disable and any(format != LINEAR for format in formats):
            return "it needs another format than the tensors' own, which the configuration disables"
        if not tactic.exact and not self.config.allow_inexact:
            return "its accuracy is reduced, which the configuration forbids"
        if not self._permits(posed, tactic.precision):
            return f"it computes in {tactic.precision}, which the configuration does not allow"
        return ""

    def _permits(self, posed: PosedProblem, precision: str) -> bool:
        """Whether the configuration allows a precision, or the problem's own tensors have it."""
        config = self.config
        if precision in {"float64", "float32", config.precision, *(type.dtype for type in posed.problem.types)}:
            return True
        if any(constraint.precision == precision for constraint in config.layer_precisions):
            return True
        return config.precision == "best" and precision not in self._no_faster

    def _quarantine(self, entry: Entry, why: str) -> None:
        self._quarantined.add(entry.id)
        record = self.registry.record(entry)
        record.state, record.why = "failed", why
        warnings.warn(f"kernel {entry.id} {entry.version} is quarantined: {why}", PluginWarning, stacklevel=2)
