"""The plan in memory, its making from a build, and its way to and from a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from tenonrt.errors import PlanCorruptError, PlanError
from tenonrt.layout import ALIGNMENT
from tenonrt.plan.container import FORMAT_VERSION, write_plan
from tenonrt.plan.program import (
    Binding,
    BuildReport,
    Choice,
    ControlStep,
    PlanHeader,
    Program,
    Requirement,
    TunedProgram,
)
from tenonrt.plugins.registry import DEVICES, KERNELS, LAYERS, Registry
from tenonrt.problem import Code
from tenonrt.types import Array

if TYPE_CHECKING:
    from tenonrt.graph.graph import Graph

PRODUCT = "TenonRT"
T = TypeVar("T")

# No machine has as many cores; a larger number would only exhaust it.
MAX_THREADS = 4096


class WeightEntry(msgspec.Struct, frozen=True):
    """An array of the weights section. Strings and other objects have no place there; ``strings`` holds them."""

    offset: int
    shape: tuple[int, ...]
    dtype: str
    strings: tuple[str, ...] | None = None


class ProgramSection(msgspec.Struct, frozen=True):
    """What the "program" section holds."""

    program: Program
    weights: tuple[WeightEntry, ...]
    choice: Choice
    report: BuildReport
    tuned: tuple[TunedProgram, ...] = ()


class StoredProgram(msgspec.Struct, frozen=True):
    """A `TunedProgram` as it is loaded."""

    sizes: dict[str, int]
    program: Program
    report: msgspec.Raw


class StoredSection(msgspec.Struct, frozen=True):
    """A `ProgramSection` as it is loaded: nine tenths of it tell how it was built, which no run asks for."""

    program: Program
    weights: tuple[WeightEntry, ...]
    choice: msgspec.Raw
    report: msgspec.Raw
    tuned: tuple[StoredProgram, ...] = ()


class BuildRecord:
    """What was chosen in a build, and its report; those of a file are decoded when they are asked for."""

    def __init__(
        self, choice: Choice | msgspec.Raw, report: BuildReport | msgspec.Raw, path: Path | None = None
    ) -> None:
        self._choice, self._report, self._path = choice, report, path

    @cached_property
    def choice(self) -> Choice:
        """`PlanCorruptError` where a file has something else in its place."""
        found = self._choice
        return decoded(found, Choice, self._path, "program") if isinstance(found, msgspec.Raw) else found

    @cached_property
    def report(self) -> BuildReport:
        """`PlanCorruptError` where a file has something else in its place."""
        found = self._report
        return decoded(found, BuildReport, self._path, "program") if isinstance(found, msgspec.Raw) else found


def decoded(data: memoryview | msgspec.Raw, type: type[T], path: Path | None, section: str) -> T:
    """A section of a file, or a part of one, as values; `PlanCorruptError` where they are not of the type."""
    try:  # msgspec's errors and Python's own for bytes that are no text are both a ValueError
        return msgspec.msgpack.decode(data, type=type)
    except (ValueError, RecursionError) as error:
        raise PlanCorruptError(f"{path}: section {section!r} cannot be understood: {error}") from error


class Plan(msgspec.Struct, frozen=True):
    """Everything an engine needs. tuned: programs for single sets of sizes; ``program`` takes all others."""

    header: PlanHeader
    program: Program
    codes: Sequence[Code]
    weights: Sequence[Array]
    record: BuildRecord
    tuned: tuple[TunedProgram, ...] = ()
    # Weights where the device's kernels read them, by their index: shared by all contexts of an engine.
    placed: dict[int, Any] = msgspec.field(default_factory=dict)

    @property
    def choice(self) -> Choice:
        return self.record.choice

    @property
    def report(self) -> BuildReport:
        return self.record.report

    @property
    def programs(self) -> tuple[Program, ...]:
        """The general program, then the tuned ones."""
        return (self.program, *(tuned.program for tuned in self.tuned))

    def program_at(self, sizes: Mapping[str, int]) -> Program:
        """The program that runs at these sizes."""
        return next((tuned.program for tuned in self.tuned if tuned.sizes == sizes), self.program)

    def save(self, path: Path) -> None:
        """Write the plan; the file appears whole or not at all."""
        entries, parts = _lay_out(self.weights)
        section = ProgramSection(self.program, entries, self.choice, self.report, self.tuned)
        try:
            program, codes = msgspec.msgpack.encode(section), msgspec.msgpack.encode(list(self.codes))
            write_plan(path, self.header, [("program", [program]), ("code", [codes]), ("weights", parts)])
        except UnicodeEncodeError as error:
            raise PlanError(f"{path} cannot be written: a name in the network is no Unicode text: {error}") from error


def _lay_out(weights: Sequence[Array]) -> tuple[tuple[WeightEntry, ...], list[memoryview]]:
    entries, parts, offset = [], [], 0
    for array in weights:
        if array.dtype.hasobject:
            entries.append(WeightEntry(0, array.shape, "string", tuple(str(v) for v in array.reshape(-1))))
            continue
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        entries.append(WeightEntry(offset, array.shape, array.dtype.name))
        parts.append(data)
        offset += -(-data.nbytes // ALIGNMENT) * ALIGNMENT
    return tuple(entries), parts


def make_plan(
    graph: Graph,
    program: Program,
    codes: Sequence[Code],
    weights: Sequence[Array],
    report: BuildReport,
    choice: Choice,
    device: str,
    fingerprint: Mapping[str, str],
    registry: Registry,
    threads: int,
) -> Plan:
    """A plan from the parts of a build, with the distributions that running it needs."""
    bindings = [Binding(t.name, t.type, True) for t in graph.inputs]
    bindings += [Binding(name, t.type, False) for name, t in graph.outputs.items()]
    requires = tuple(_requirements(program, codes, device, registry))
    header = PlanHeader(
        PRODUCT, FORMAT_VERSION, f"tenonrt-core {core_version()}", graph.name, device, dict(fingerprint), requires,
        tuple(bindings), threads,
    )  # fmt: skip
    return Plan(header, program, codes, weights, BuildRecord(choice, report))


def core_version() -> str:
    """The installed version of the core."""
    from importlib_metadata import PackageNotFoundError, version

    try:
        return version("tenonrt-core")
    except PackageNotFoundError:
        return "unknown"


def _requirements(program: Program, codes: Sequence[Code], device: str, registry: Registry) -> Iterator[Requirement]:
    wanted: dict[tuple[str, str], str] = {(DEVICES, device): f"runs the device {device!r}"}
    _needs(program, codes, wanted)
    seen = set()
    for (group, name), why in wanted.items():
        found = next((e for e in registry.entries(group) if name in (e.name, e.id)), None)
        if found is not None and found.distribution not in seen:
            seen.add(found.distribution)
            yield Requirement(found.distribution, found.version, why)


def _needs(program: Program, codes: Sequence[Code], wanted: dict[tuple[str, str], str]) -> None:
    given = {name for index in program.inputs for name in program.tensors[index].type.symbol_names()}
    for step in program.steps:
        if isinstance(step, ControlStep):
            wanted.setdefault((LAYERS, step.kind), f"the layer kind {step.kind!r} of step {step.name!r}")
            for graph in step.graphs:
                _needs(graph, codes, wanted)
            continue
        alone = codes[step.code].native is not None and not step.specialise
        if not alone:
            wanted.setdefault((KERNELS, step.kernel), f"the kernel of step {step.name!r}")
        # Where the data decide the sizes of outputs, the layer types tell them during a run.
        if not alone or any(program.tensors[i].type.symbol_names() - given for i in step.outputs):
            for layer in codes[step.code].problem.layers:
                wanted.setdefault((LAYERS, layer.kind), f"the layer kind {layer.kind!r} of step {step.name!r}")
