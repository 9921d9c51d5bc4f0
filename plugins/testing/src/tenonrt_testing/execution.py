"""Running a bound tactic in this process, with fresh, shared, strided or aliased buffers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from tenonrt.builder.sampling import judge, problem_tolerance
from tenonrt.builder.trial import Bound, Guarded, Sample, bind_sample, sliceable
from tenonrt.contracts import (
    AllocatesOutputs,
    Array,
    Code,
    Device,
    Executable,
    Kernel,
    NativeCall,
    Problem,
    Support,
    Tactic,
    Weights,
)
from tenonrt.plugins.registry import Registry


class CompiledKernel(Kernel):
    """A kernel that compiled before: gives the code that it made then."""

    def __init__(self, kernel: Kernel, code: Code) -> None:
        self._kernel = kernel
        self._code = code

    def supports(self, problem: Problem) -> Support:
        return self._kernel.supports(problem)

    def compile(self, problem: Problem, tactic: Tactic) -> Code:
        return self._code

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        return self._kernel.pack(code, weights)

    def bind(self, code: Code, packed: Sequence[Array]) -> Executable | NativeCall:
        return self._kernel.bind(code, packed)


class PackedKernel(Kernel):
    """A kernel whose weights were packed before: binds what a plan would hold."""

    def __init__(self, kernel: Kernel, packed: Sequence[Array]) -> None:
        self._kernel = kernel
        self._packed = [_mapped(array) for array in packed]

    def supports(self, problem: Any) -> Any:
        return self._kernel.supports(problem)

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        return self._packed

    def bind(self, code: Code, packed: Sequence[Array]) -> Executable | NativeCall:
        return self._kernel.bind(code, packed)


def _mapped(array: Array) -> Array:
    """A 64-byte aligned, read-only copy: what a plan's memory map looks like."""
    guard = Guarded(array.nbytes)
    copy: Array = guard.array(array.shape, array.dtype)
    copy[...] = array
    copy.flags.writeable = False
    return copy


def fill(bound: Bound, byte: int = 0xFF) -> None:
    """Fill the outputs with a pattern (by default one that reads as NaN)."""
    for array in bound.launch.outputs:
        if array.flags.c_contiguous:
            array.reshape(-1).view(np.uint8)[...] = byte
        elif array.size:
            array[...] = np.full(array.itemsize, byte, np.uint8).view(array.dtype)[0]


def run(bound: Bound, device: Device, threads: int = 1) -> list[Array]:
    """Launch once and read the outputs."""
    executable = bound.launch.executable
    if isinstance(executable, AllocatesOutputs):
        return _run_allocating(executable, bound)
    device.bind([bound.launch], threads).run(None)
    return bound.read()


def _run_allocating(executable: AllocatesOutputs, bound: Bound) -> list[Array]:
    made: dict[int, Array] = {}

    def allocate(index: int, shape: Sequence[int]) -> Array:
        made[index] = np.zeros(tuple(shape), bound.outputs[index][0].numpy)
        return made[index]

    executable.launch_allocating(bound.launch.inputs, allocate, None)
    return [made[i] for i in range(len(bound.outputs))]


def allocates(bound: Bound) -> bool:
    """Whether the executable makes its own outputs."""
    return isinstance(bound.launch.executable, AllocatesOutputs)


def wrong(outputs: Sequence[Array], sample: Sample, code: Code, bound: Bound, registry: Registry) -> str:
    """How outputs differ from the reference; empty when they are within tolerance."""
    tolerance = problem_tolerance(sample.problem, registry.layer_type, code.tactic.precision, code.tactic.exact)
    for index, (output, expected, (_, _, scale)) in enumerate(
        zip(outputs, sample.expected, bound.outputs, strict=True)
    ):
        verdict = judge(output, expected, tolerance, 0.0 if scale is None else float(np.max(scale)))
        if not verdict.ok:
            return f"output {index}: {verdict.why}"
    return ""


def with_operands(bound: Bound, inputs: Sequence[Array], outputs: Sequence[Array]) -> Bound:
    """The same executable on other arrays."""
    launch = msgspec.structs.replace(bound.launch, inputs=tuple(inputs), outputs=tuple(outputs))
    triples = [(type, array, scale) for (type, _, scale), array in zip(bound.outputs, outputs, strict=True)]
    return replace(bound, launch=launch, outputs=triples)


def sliced(array: Array, axis: int) -> tuple[Array, Array]:
    """A copy of an array as a slice of a larger one along an axis; (the slice, the whole)."""
    shape = [n + 3 if i == axis else n for i, n in enumerate(array.shape)]
    nbytes = int(np.prod(shape)) * array.itemsize
    whole = Guarded(nbytes).array(shape, array.dtype)
    part = whole[tuple(slice(1, 1 + n) if i == axis else slice(None) for i, n in enumerate(array.shape))]
    part[...] = array
    return part, whole


def strided(
    kernel: Kernel, code: Code, sample: Sample, axis: int, device: Device
) -> tuple[Bound, list[tuple[Array, Array]]]:
    """A bound tactic whose strided operands are slices along an axis; and its output slices with their wholes."""
    bound = bind_sample(kernel, code, sample, device)
    inputs, outputs = list(bound.launch.inputs), list(bound.launch.outputs)
    tactic, problem = code.tactic, code.problem
    for index in tactic.reads_strided:
        if axis in sliceable(tactic.input_format(index), problem.types[problem.activations[index]].rank):
            inputs[index], _ = sliced(inputs[index], axis)
    wholes = []
    for index in tactic.writes_strided:
        if axis in sliceable(tactic.output_format(index), problem.types[problem.outputs[index]].rank):
            outputs[index], whole = sliced(outputs[index], axis)
            wholes.append((outputs[index], whole))
    return with_operands(bound, inputs, outputs), wholes


def surroundings(part: Array, whole: Array) -> bytes:
    """The bytes of the whole outside of the slice."""
    if not part.size:
        return whole.tobytes()
    copy = whole.copy()
    offset = part.ctypes.data - whole.ctypes.data
    raw = copy.reshape(-1).view(np.uint8)[offset:]
    element = np.dtype((np.void, part.itemsize))  # NumPy gives no buffer of the extended element types
    np.ndarray(part.shape, element, raw.data, 0, part.strides)[...] = np.zeros((), element)
    return copy.tobytes()
