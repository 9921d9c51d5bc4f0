"""Reading a plan: what it needs is checked first, then its bytes, then every address it will use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tenonrt.dims import bounds
from tenonrt.errors import PlanCorruptError, PlanDeviceError, PlanPluginError, PluginError
from tenonrt.graph.attributes import make_attrs, restore_attrs
from tenonrt.plan.container import PlanFile
from tenonrt.plan.plan import PRODUCT, Plan, ProgramSection, WeightEntry
from tenonrt.plan.program import UNPLACED, ControlStep, PlanHeader, Program, Step
from tenonrt.plugins.registry import DEVICES, KERNELS, LAYERS, Registry
from tenonrt.problem import Code
from tenonrt.types import Array, numpy_dtype


def load_plan(path: Path, registry: Registry, verify: bool = False) -> Plan:
    """Read a plan, checking hashes of header, program and code (and weights with ``verify``), needs and addresses."""
    file = PlanFile(path)
    header = file.header.plan
    _check_needs(path, header, registry)
    section = _decode(file, "program", ProgramSection)
    codes = _decode(file, "code", list[Code])
    program = _restore_program(section.program, registry)
    codes = [msgspec.structs.replace(code, problem=restore_attrs(code.problem, registry)) for code in codes]
    weights = _map_weights(path, file.section("weights", verify), section.weights)
    check_program(path, program, len(codes), weights)
    return Plan(header, program, codes, weights, section.choice, section.report)


def _decode(file: PlanFile, name: str, type: Any) -> Any:
    try:
        return msgspec.msgpack.decode(file.section(name), type=type)
    except (msgspec.DecodeError, RecursionError) as error:
        raise PlanCorruptError(f"{file.path}: section {name!r} cannot be understood: {error}") from error


def _check_needs(path: Path, header: PlanHeader, registry: Registry) -> None:
    if header.product != PRODUCT:
        raise PlanCorruptError(f"{path} is a plan of {header.product!r}, not of {PRODUCT}")
    if header.device not in registry.names(DEVICES):
        known = ", ".join(registry.names(DEVICES)) or "none"
        raise PlanDeviceError(
            f"{path} is a plan for the device {header.device!r}; installed are: {known}. Build it again for one of "
            f"these, or install the device's plugin."
        )
    installed = {entry.distribution for group in (DEVICES, KERNELS, LAYERS) for entry in registry.entries(group)}
    missing = [need for need in header.requires if need.distribution not in installed]
    if missing:
        named = ", ".join(f"{need.distribution} ({need.why})" for need in missing)
        raise PlanPluginError(
            f"{path} needs distributions that are not installed: {named}. Install them with: "
            f"pip install {' '.join(need.distribution for need in missing)}"
        )
    try:
        actual = registry.device(header.device).fingerprint()
    except PluginError as error:
        raise PlanDeviceError(f"{path} is a plan for the device {header.device!r}: {error}") from error
    if actual.get("kind") != header.fingerprint.get("kind"):
        raise PlanDeviceError(f"{path} was built for {header.fingerprint}, this machine is {actual}; build it again")


def _restore_program(program: Program, registry: Registry) -> Program:
    """Attributes of control layers as their layer types' structs, in every sub-program."""
    return msgspec.structs.replace(program, steps=tuple(_restore_step(step, registry) for step in program.steps))


def _restore_step(step: Step, registry: Registry) -> Step:
    if not isinstance(step, ControlStep):
        return step
    attrs = make_attrs(registry.layer_type(step.kind), step.kind, step.name, step.attrs)
    graphs = tuple(_restore_program(graph, registry) for graph in step.graphs)
    return msgspec.structs.replace(step, attrs=attrs, graphs=graphs)


def _map_weights(path: Path, data: memoryview, entries: Sequence[WeightEntry]) -> list[Array]:
    """Read-only arrays over the mapped section."""
    arrays: list[Array] = []
    for number, entry in enumerate(entries):
        if entry.strings is not None:
            arrays.append(np.array(entry.strings, object).reshape(entry.shape))
            continue
        try:
            dtype = numpy_dtype(entry.dtype)
            count = int(np.prod(entry.shape, dtype=np.int64))
            if entry.offset < 0 or min(entry.shape, default=0) < 0 or count * dtype.itemsize > len(data) - entry.offset:
                raise ValueError(f"{entry.shape} of {entry.dtype} at byte {entry.offset} of {len(data)}")
            arrays.append(np.frombuffer(data, dtype, count, entry.offset).reshape(entry.shape))
        except ValueError as error:
            raise PlanCorruptError(f"{path}: weight {number} does not fit its section: {error}") from error
    return arrays


def check_program(path: Path, program: Program, codes: int, weights: Sequence[Array]) -> None:
    """Every number a program holds must point at something, and every interval must lie in the arena."""

    def refuse(what: str) -> PlanCorruptError:
        return PlanCorruptError(f"{path}: the program is not consistent: {what}")

    _check_tensors(program, len(weights), refuse)
    count = len(program.tensors)
    for step in program.steps:
        for index in (*step.inputs, *step.outputs):
            if not (0 <= index < count or (index == UNPLACED and isinstance(step, ControlStep))):
                raise refuse(f"step {step.name!r} uses tensor {index} of {count}")
        if isinstance(step, ControlStep):
            for graph in step.graphs:
                check_program(path, graph, codes, weights)
        elif not 0 <= step.code < codes or not all(0 <= w < len(weights) for w in step.packed):
            raise refuse(f"step {step.name!r} uses code {step.code} of {codes} or weights {step.packed}")
    if not all(0 <= i < count for i in (*program.inputs, *(i for _, i in program.outputs))):
        raise refuse("an input or output is no tensor")


def _check_tensors(program: Program, weights: int, refuse: Callable[[str], PlanCorruptError]) -> None:
    count = len(program.tensors)
    for number, tensor in enumerate(program.tensors):
        if not UNPLACED <= tensor.base < count or tensor.base == number:
            raise refuse(f"tensor {number} is a view of tensor {tensor.base} of {count}")
        if not UNPLACED <= tensor.weight < weights:
            raise refuse(f"tensor {number} is weight {tensor.weight} of {weights}")
        if tensor.offset != UNPLACED and program.arena is not None:
            nbytes = bounds(tensor.type.nbytes)[1]
            if tensor.offset < 0 or nbytes is None or tensor.offset + nbytes > program.arena:
                raise refuse(f"tensor {number} lies outside the arena of {program.arena} bytes")
    # Chains of views must end at a tensor with bytes of its own.
    for number in range(count):
        index, seen = number, 0
        while program.tensors[index].base != UNPLACED:
            index, seen = program.tensors[index].base, seen + 1
            if seen > len(program.tensors):
                raise refuse(f"tensor {number} is a view of itself")
