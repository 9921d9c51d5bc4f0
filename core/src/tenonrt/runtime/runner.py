"""Runs a program at whatever shapes come, keeping an instance for each of the latest shapes."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tenonrt.contracts import Device, Kernel
from tenonrt.errors import BuildError, ExecutionError
from tenonrt.graph.attributes import restore_attrs
from tenonrt.layout import aligned
from tenonrt.plan.plan import MAX_THREADS, Plan
from tenonrt.plan.program import KernelStep, Program, sizes_text
from tenonrt.plugins.registry import Registry, using
from tenonrt.problem import Code, Problem
from tenonrt.runtime.codes import CodeCache
from tenonrt.runtime.instance import Instance, Profiler
from tenonrt.runtime.shapes import bind_shape
from tenonrt.types import Array

_MAX_INSTANCES = 8
THREADS = "TENONRT_NUM_THREADS"


def threads_in_force(planned: int) -> int:
    """The threads of a plan, unless TENONRT_NUM_THREADS says otherwise for this process."""
    text = os.environ.get(THREADS, "").strip()
    if not text:
        return planned
    if not text.isdecimal() or not 1 <= int(text) <= MAX_THREADS:
        raise ExecutionError(f"{THREADS} is {text!r}; it must be a number of threads from 1 to {MAX_THREADS}")
    return int(text)


class Resources:
    """What all instances of one context share: device, codes and weights."""

    def __init__(
        self, plan: Plan, registry: Registry, device: Device, seed: int | None, compiled: CodeCache | None = None
    ) -> None:
        """``compiled``: codes for single shapes, which contexts of one engine share."""
        self.registry = registry
        self.device = device
        self.codes = plan.codes
        self.weights = plan.weights
        self.threads = threads_in_force(plan.header.threads)
        self._seed = seed
        self._kernels: dict[str, Kernel] = {}
        self._specialised = CodeCache() if compiled is None else compiled
        self._aligned: dict[int, Array] = {}
        self._placed = plan.placed
        self._problems: dict[int, Problem] = {}
        # Set by the first call that relies on what an earlier one left in the inputs' memory, or feeds outputs back.
        self.inputs_apart = False

    @cached_property
    def generator(self) -> np.random.Generator:
        """Made when first drawn from: importing NumPy's costs more than loading many a plan."""
        return np.random.default_rng(self._seed)

    def problem(self, code: int) -> Problem:
        """The problem of a code with its layers' attributes, which loading leaves as plain values for native code."""
        if code not in self._problems:
            self._problems[code] = restore_attrs(self.codes[code].problem, self.registry)
        return self._problems[code]

    def kernel(self, kernel_id: str) -> Kernel:
        if kernel_id not in self._kernels:
            self._kernels[kernel_id] = self.registry.kernel(kernel_id)
        return self._kernels[kernel_id]

    def aligned_weight(self, index: int) -> Array:
        """A weight at a multiple of 64 bytes, copied once when it is not there already."""
        if index not in self._aligned:
            self._aligned[index] = aligned(self.weights[index])
        return self._aligned[index]

    def placed(self, index: int) -> Any:
        """A weight where the device's kernels read it, one for all contexts."""
        if index not in self._placed:  # two threads may both place it; the first one's is kept
            self._placed.setdefault(index, self.device.place(self.weights[index]))
        return self._placed[index]

    def specialised(self, step: KernelStep, wanted: Code) -> Code:
        """``wanted`` compiled."""
        kernel = self.kernel(step.kernel)
        return self._specialised.find(step.kernel, wanted, lambda: kernel.compile(wanted.problem, wanted.tactic))

    def runner(self, program: Program) -> ProgramRunner:
        return ProgramRunner(program, self)


class ProgramRunner:
    """Instances of one program by the values of its input symbols."""

    def __init__(self, program: Program, resources: Resources) -> None:
        self.program = program
        self.resources = resources
        self._instances: OrderedDict[tuple[bool, tuple[tuple[str, int], ...]], Instance] = OrderedDict()
        self._latest: tuple[list[tuple[int, ...]], Instance] | None = None  # binding symbols costs more than small runs

    def run(
        self,
        inputs: Sequence[Array],
        outer: Mapping[str, int] | None = None,
        stream: Any | None = None,
        profiler: Profiler | None = None,
    ) -> list[Array]:
        """Outputs in order. outer: values of symbols that the surrounding program knows."""
        shapes = [a.shape for a in inputs]
        if outer:  # the same shapes may come with other values
            return self.instance(shapes, outer).run(inputs, stream, profiler)
        if self._latest is None or shapes != self._latest[0]:
            self._latest = (shapes, self.instance(shapes))
        return self._latest[1].run(inputs, stream, profiler)

    def enqueue(self, inputs: Sequence[Any | None], stream: Any | None, consumed: Any | None) -> list[Any]:
        """Outputs in order, as `Instance.enqueue` leaves them. An input that is not given keeps what it had."""
        last = self._latest[0] if self._latest is not None else None
        if last is None and any(array is None for array in inputs):
            last = self._only_shapes()
        shapes = [tuple(a.shape) if a is not None else (last or [])[i] for i, a in enumerate(inputs)]
        self.resources.inputs_apart = True
        if self._latest is None or shapes != self._latest[0] or not self._latest[1].inputs_apart:
            self._latest = (shapes, self.instance(shapes))
        given = {index: a for index, a in zip(self.program.inputs, inputs, strict=True) if a is not None}
        return self._latest[1].enqueue(given, stream, consumed)

    def buffers(self, shapes: Sequence[Sequence[int]] | None = None) -> tuple[list[Any], list[Any]]:
        """The arrays that inputs of these shapes are copied into, and those that outputs are left in."""
        wanted = [tuple(shape) for shape in shapes] if shapes is not None else self._only_shapes()
        self.resources.inputs_apart = True
        self._latest = (wanted, self.instance(wanted))
        held = self._latest[1]
        outputs = [held.array(index) for _, index in self.program.outputs]
        return [held.array(index) for index in self.program.inputs], outputs

    def _only_shapes(self) -> list[tuple[int, ...]]:
        types = [self.program.tensors[index].type for index in self.program.inputs]
        if not all(type.static for type in types):
            raise ExecutionError("sizes of the inputs are not fixed in this plan: give every input, or its shape")
        return [type.concrete({}) for type in types]

    def instance(self, shapes: Sequence[Sequence[int]], outer: Mapping[str, int] | None = None) -> Instance:
        values = dict(outer or {})
        for index, shape in zip(self.program.inputs, shapes, strict=True):
            tensor = self.program.tensors[index]
            bind_shape(f"input {tensor.name!r}", tensor.type, shape, values)
        apart = self.resources.inputs_apart
        key = apart, tuple(sorted(values.items()))
        if key in self._instances:
            self._instances.move_to_end(key)
        else:
            self._instances[key] = self._made(values, apart)
            if len(self._instances) > _MAX_INSTANCES:
                self._instances.popitem(last=False)
        return self._instances[key]

    def _made(self, values: Mapping[str, int], apart: bool) -> Instance:
        try:
            with using(self.resources.registry):  # kernels are bound and perhaps compiled
                return Instance(self.program, self.resources, values, apart)
        except (MemoryError, BuildError) as error:
            sizes = f" for {sizes_text(values)}" if values else ""
            raise ExecutionError(f"there is no room{sizes}: {error}; give smaller inputs, or free memory") from error
