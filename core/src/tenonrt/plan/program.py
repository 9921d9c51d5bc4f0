"""The program of an engine as data: tensors with addresses, steps with codes. This is what a plan stores and runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from tenonrt.contracts import Part
from tenonrt.graph.records import LadderStep, PatchRecord
from tenonrt.types import Place, TensorType

UNPLACED = -1


class ProgramTensor(msgspec.Struct, frozen=True):
    """One stored tensor. A graph tensor that is needed in two formats is two of these.

    base: this is a view of that tensor: the same bytes (part None) or a slice of it, over the axes of its physical
    array. weight: the index of a constant.
    offset: bytes from the start of the arena; UNPLACED while the size depends on the shapes of a run.
    """

    name: str
    type: TensorType
    place: Place = "device"
    base: int = UNPLACED
    part: Part | None = None
    weight: int = UNPLACED
    offset: int = UNPLACED


class KernelStep(msgspec.Struct, frozen=True, tag="kernel"):
    """One launch. ``code`` indexes `Plan.codes`; specialise: compile it for the sizes of each run."""

    name: str
    sources: tuple[str, ...]
    patches: tuple[str, ...]
    kernel: str
    code: int
    packed: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    symbols: tuple[str, ...] = ()
    specialise: bool = False
    after: tuple[int, ...] = ()


class ControlStep(msgspec.Struct, frozen=True, tag="control"):
    """A layer that owns sub-programs; its layer type decides which to run. The last inputs are the captured ones."""

    name: str
    sources: tuple[str, ...]
    patches: tuple[str, ...]
    kind: str
    attrs: Any
    inputs: tuple[int, ...]  # UNPLACED: absent
    outputs: tuple[int, ...]
    captured: int
    graphs: tuple[Program, ...]
    after: tuple[int, ...] = ()


Step = KernelStep | ControlStep


class Program(msgspec.Struct, frozen=True):
    """Steps in order over tensors. arena: bytes, None while it depends on the shapes of a run (then planned there)."""

    inputs: tuple[int, ...]
    outputs: tuple[tuple[str, int], ...]
    tensors: tuple[ProgramTensor, ...]
    steps: tuple[Step, ...]
    arena: int | None = None
    lower_bound: int | None = None  # the largest sum of simultaneously live tensors


def kernel_steps(program: Program) -> Iterator[KernelStep]:
    """Those of a program and of its sub-programs."""
    for step in program.steps:
        if isinstance(step, KernelStep):
            yield step
        else:
            for graph in step.graphs:
                yield from kernel_steps(graph)


class Choice(msgspec.Struct, frozen=True):
    """A recorded selection, to be replayed: per region (its layers' names) the kernel and the tactic's key.

    tuned: those of the programs for single shapes, in order of their shapes in the profiles. threads: that the kernels
    were asked for, which may have made them offer other tactics than for more or fewer; 0: not recorded.
    """

    regions: dict[str, tuple[str, str]]
    tuned: tuple[Choice, ...] = ()
    threads: int = 0


class CandidateReport(msgspec.Struct, frozen=True):
    """What became of one tactic for one problem: its time, or why it was refused."""

    kernel: str
    tactic: str
    seconds: float | None = None
    error: float | None = None
    why: str = ""


class RegionReport(msgspec.Struct, frozen=True):
    """The candidates of one region."""

    layers: tuple[str, ...]
    problem: str
    candidates: tuple[CandidateReport, ...]
    winner: int | None = None  # which of the candidates the engine runs; None: other regions compute these layers
    name: str = ""  # as its step is called

    def won(self, candidate: CandidateReport) -> bool:
        """Whether the engine runs this candidate."""
        return self.winner is not None and self.candidates[self.winner] == candidate


class StepReport(msgspec.Struct, frozen=True):
    """Where a step comes from and who won it."""

    name: str
    sources: tuple[str, ...]
    patches: tuple[str, ...]
    kernel: str
    tactic: str
    seconds: float | None


class AlternativeReport(msgspec.Struct, frozen=True):
    """What could have been chosen instead, in seconds; kernels and reformats are what the network would take more."""

    region: str
    solver: str  # kernel#tactic, or "view"
    seconds: float  # of the alternative itself
    kernels: float  # with the layers that it leaves to others, and without what it makes needless
    reformats: float

    @property
    def difference(self) -> float:
        return self.kernels + self.reformats


class ChoiceReport(msgspec.Struct, frozen=True):
    """One region of the cover, and the nearest alternatives. seconds: as it was priced."""

    region: str
    solver: str
    seconds: float
    alternatives: tuple[AlternativeReport, ...] = ()
    more: int = 0  # alternatives that are not kept


class BuildReport(msgspec.Struct, frozen=True):
    """The whole story of a build, kept in the plan as data."""

    ladder: tuple[LadderStep, ...]
    patches: tuple[PatchRecord, ...]
    quarantined: dict[str, str]
    steps: tuple[StepReport, ...]
    regions: tuple[RegionReport, ...]
    cost: float  # seconds, what the selection promised (0 where nothing was timed)
    optimal: bool
    notes: tuple[str, ...] = ()
    timings: dict[str, float] = {}  # seconds of each phase of the build
    choices: tuple[ChoiceReport, ...] = ()


class TunedProgram(msgspec.Struct, frozen=True):
    """The program for one set of sizes (by symbol); its steps share codes and weights with the general program."""

    sizes: dict[str, int]
    program: Program
    report: BuildReport


class Profile(msgspec.Struct, frozen=True):
    """Sizes that an engine takes together, least and greatest by symbol, and those among them it was tuned for."""

    ranges: dict[str, tuple[int, int]]
    tuned: tuple[dict[str, int], ...]

    def holds(self, sizes: Mapping[str, int]) -> bool:
        return all(least <= sizes[name] <= most for name, (least, most) in self.ranges.items())

    def __str__(self) -> str:
        """``N 1 to 8, S 1 to 512``."""
        return ", ".join(f"{name} {least} to {most}" for name, (least, most) in self.ranges.items())


def sizes_text(sizes: Mapping[str, int]) -> str:
    """``N=1, S=128``."""
    return ", ".join(f"{name}={size}" for name, size in sizes.items())


class Requirement(msgspec.Struct, frozen=True):
    """A distribution that running the plan needs."""

    distribution: str
    version: str
    why: str


class Binding(msgspec.Struct, frozen=True):
    """An input or output of an engine."""

    name: str
    type: TensorType
    is_input: bool


class PlanHeader(msgspec.Struct, frozen=True):
    """What can be read of a plan without loading it."""

    product: str
    format_version: int
    producer: str
    network: str
    device: str
    fingerprint: dict[str, str]
    requires: tuple[Requirement, ...]
    bindings: tuple[Binding, ...]
    threads: int
    profiles: tuple[Profile, ...] = ()
