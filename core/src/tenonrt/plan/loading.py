"""Reading a plan: what it needs is checked first, then its bytes, then every address it will use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tenonrt.errors import GraphError, PlanCorruptError, PlanDeviceError, PlanPluginError, PluginError
from tenonrt.graph.attributes import make_attrs, restore_attrs
from tenonrt.layout import ALIGNMENT
from tenonrt.plan.consistency import check_code, check_program
from tenonrt.plan.container import PlanFile
from tenonrt.plan.plan import MAX_THREADS, PRODUCT, BuildRecord, Plan, StoredSection, WeightEntry, decoded
from tenonrt.plan.program import (
    Binding,
    BuildReport,
    Choice,
    ControlStep,
    PlanHeader,
    Program,
    Step,
    TunedProgram,
    kernel_steps,
    sizes_text,
)
from tenonrt.plugins.registry import DEVICES, KERNELS, LAYERS, Registry
from tenonrt.problem import Code
from tenonrt.types import LINEAR, Array, TensorType, numpy_dtype


def load_plan(path: Path, registry: Registry, verify: bool = False) -> Plan:
    """Read a plan, checking hashes of header, program and code (and weights with ``verify``), needs and addresses."""
    file = PlanFile(path)
    header = file.header.plan
    _check_needs(path, header, registry)
    section = _decode(file, "program", StoredSection)
    codes = _decode(file, "code", list[Code])
    try:
        alone = _self_contained([section.program, *(tuned.program for tuned in section.tuned)], codes)
        codes = [_restore_code(path, n, code, None if n in alone else registry) for n, code in enumerate(codes)]
        weights = _map_weights(path, file.section("weights", verify), section.weights)
        program = _checked_program(path, section.program, codes, weights, registry)
        _check_header(path, header, program)
        tuned = tuple(
            TunedProgram(
                t.sizes,
                _checked_program(path, t.program, codes, weights, registry),
                decoded(t.report, BuildReport, path, "program"),
            )
            for t in section.tuned
        )
        _check_tuned(path, header, tuned)
    except (GraphError, RecursionError) as error:
        raise PlanCorruptError(
            f"{path}: section 'program' or 'code' cannot be used: {error}; build it again"
        ) from error
    except PluginError as error:
        raise PlanPluginError(f"{path} cannot be used with the installed plugins: {error}") from error
    return Plan(header, program, codes, weights, BuildRecord(section.choice, section.report, path), tuned)


def recorded_choice(path: Path) -> Choice:
    """The selection that a plan records; neither its device nor its plugins need be installed."""
    section: StoredSection = _decode(PlanFile(path), "program", StoredSection)
    return BuildRecord(section.choice, section.report, path).choice


def _decode(file: PlanFile, name: str, type: Any) -> Any:
    return decoded(file.section(name), type, file.path, name)


def _check_needs(path: Path, header: PlanHeader, registry: Registry) -> None:
    if header.product != PRODUCT:
        raise PlanCorruptError(f"{path} is a plan of {header.product!r}, not of {PRODUCT}")
    if header.device not in registry.names(DEVICES):
        known = ", ".join(registry.names(DEVICES)) or "none"
        raise PlanDeviceError(
            f"{path} is a plan for the device {header.device!r}; installed are: {known}. Build it again for one of "
            f"these, or install the device's plugin."
        )
    missing = [need for need in header.requires if not _usable(need.distribution, registry)]
    if missing:
        named = ", ".join(f"{need.distribution} ({need.why})" for need in missing)
        raise PlanPluginError(
            f"{path} needs distributions that are not installed or not usable: {named}. Install them with: "
            f"pip install {' '.join(need.distribution for need in missing)}; see also: tenonrt plugins"
        )
    if not 1 <= header.threads <= MAX_THREADS:
        raise PlanCorruptError(f"{path}: the header asks for {header.threads} threads; build the plan again")
    try:
        actual = registry.device(header.device).fingerprint()
    except PluginError as error:
        raise PlanDeviceError(f"{path} is a plan for the device {header.device!r}: {error}") from error
    if actual.get("kind") != header.fingerprint.get("kind"):
        raise PlanDeviceError(f"{path} was built for {header.fingerprint}, this machine is {actual}; build it again")


def _checked_program(
    path: Path, program: Program, codes: Sequence[Code], weights: Sequence[Array], registry: Registry
) -> Program:
    restored = _restore_program(program, registry)
    check_program(path, restored, codes, weights)
    _check_kernels(path, restored, codes, registry)
    return restored


def _self_contained(programs: Sequence[Program], codes: Sequence[Code]) -> set[int]:
    """Codes that run without their kernel: nobody asks for their attributes, so no layer type need be installed."""
    specialised = {step.code for program in programs for step in kernel_steps(program) if step.specialise}
    return {number for number, code in enumerate(codes) if code.native is not None} - specialised


def _usable(distribution: str, registry: Registry) -> bool:
    """Whether something of a distribution can be used; the others are not judged, which reads their metadata."""
    entries = (e for group in (DEVICES, KERNELS, LAYERS) for e in registry.entries(group))
    return any(e.distribution == distribution and registry.record(e).state in ("found", "loaded") for e in entries)


def _restore_code(path: Path, number: int, code: Code, registry: Registry | None) -> Code:
    check_code(path, number, code)
    return code if registry is None else msgspec.structs.replace(code, problem=restore_attrs(code.problem, registry))


def _check_header(path: Path, header: PlanHeader, program: Program) -> None:
    """The bindings of the header are the inputs and outputs of the program."""
    names = [b.name for b in header.bindings if not b.is_input]
    types = [b.type for b in header.bindings if b.is_input] + [b.type for b in header.bindings if not b.is_input]
    indices = [*program.inputs, *(i for _, i in program.outputs)]
    found = [program.tensors[i].type.stored_as(LINEAR) for i in indices]
    if names != [name for name, _ in program.outputs] or found != [t.stored_as(LINEAR) for t in types]:
        raise PlanCorruptError(f"{path}: the bindings in the header are not those of the program; build it again")


def _check_tuned(path: Path, header: PlanHeader, tuned: Sequence[TunedProgram]) -> None:
    """A program for single sizes has the bindings of the header at these sizes."""
    for found in tuned:
        program, bindings = found.program, header.bindings
        indices = [*program.inputs, *(i for _, i in program.outputs)]
        names = [name for name, _ in program.outputs]
        same = len(indices) == len(bindings) and names == [b.name for b in bindings if not b.is_input]
        if not same or not all(
            _fits(b, found.sizes, program.tensors[i].type) for b, i in zip(bindings, indices, strict=True)
        ):
            raise PlanCorruptError(
                f"{path}: the program for {sizes_text(found.sizes)} has not the bindings of the header; build it again"
            )


def _fits(binding: Binding, sizes: Mapping[str, int], type: TensorType) -> bool:
    """Whether a type is that of a binding at these sizes; what data decide about outputs has names of its own."""
    wanted = binding.type.substitute(sizes)
    if binding.is_input or wanted.static:
        return type.stored_as(LINEAR) == wanted and wanted.static
    return type.dtype == wanted.dtype and type.rank == wanted.rank


def _check_kernels(path: Path, program: Program, codes: Sequence[Code], registry: Registry) -> None:
    """The kernels of steps that are no self-contained code must be there."""
    wanted = [step for step in kernel_steps(program) if step.specialise or codes[step.code].native is None]
    known = {entry.id for entry in registry.usable(KERNELS)} if wanted else set()
    for step in wanted:
        if step.kernel not in known:
            raise PlanPluginError(
                f"{path}: step {step.name!r} needs the kernel {step.kernel!r}, which is not installed or not usable; "
                f"install {step.kernel.partition(':')[0]}"
            )


def _restore_program(program: Program, registry: Registry) -> Program:
    """Attributes of control layers as their layer types' structs, in every sub-program."""
    return msgspec.structs.replace(program, steps=tuple(_restore_step(step, registry) for step in program.steps))


def _restore_step(step: Step, registry: Registry) -> Step:
    if not isinstance(step, ControlStep):
        return step
    if not isinstance(step.attrs, dict):
        raise GraphError(f"step {step.name!r} has {step.attrs!r} for attributes")
    attrs = make_attrs(registry.layer_type(step.kind), step.kind, step.name, step.attrs)
    graphs = tuple(_restore_program(graph, registry) for graph in step.graphs)
    return msgspec.structs.replace(step, attrs=attrs, graphs=graphs)


def _map_weights(path: Path, data: memoryview, entries: Sequence[WeightEntry]) -> list[Array]:
    """Read-only arrays over the mapped section."""
    arrays: list[Array] = []
    for number, entry in enumerate(entries):
        try:
            arrays.append(_map_weight(data, entry))
        except ValueError as error:
            raise PlanCorruptError(f"{path}: weight {number} does not fit section 'weights': {error}") from error
    return arrays


def _map_weight(data: memoryview, entry: WeightEntry) -> Array:
    if entry.strings is not None:
        return np.array(entry.strings, object).reshape(entry.shape)
    dtype, count = numpy_dtype(entry.dtype), prod(entry.shape)
    beyond = min(entry.offset, *entry.shape, 0) < 0 or entry.offset + count * dtype.itemsize > len(data)
    if beyond or entry.offset % ALIGNMENT or dtype.hasobject:
        raise ValueError(f"{entry.dtype}{list(entry.shape)} at byte {entry.offset} of {len(data)}")
    if count == 0:
        return np.empty(entry.shape, dtype)
    return np.frombuffer(data, dtype, count, entry.offset).reshape(entry.shape)
