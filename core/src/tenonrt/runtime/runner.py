"""Runs a program at whatever shapes come, keeping an instance for each of the latest shapes."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tenonrt.contracts import Device, Kernel
from tenonrt.errors import ExecutionError
from tenonrt.graph.attributes import restore_attrs
from tenonrt.layout import aligned
from tenonrt.plan.plan import MAX_THREADS, Plan
from tenonrt.plan.program import KernelStep, Program
from tenonrt.plugins.registry import Registry
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
        self._problems: dict[int, Problem] = {}

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
        self._instances: OrderedDict[tuple[tuple[str, int], ...], Instance] = OrderedDict()
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

    def instance(self, shapes: Sequence[Sequence[int]], outer: Mapping[str, int] | None = None) -> Instance:
        values = dict(outer or {})
        for index, shape in zip(self.program.inputs, shapes, strict=True):
            tensor = self.program.tensors[index]
            bind_shape(f"input {tensor.name!r}", tensor.type, shape, values)
        key = tuple(sorted(values.items()))
        if key in self._instances:
            self._instances.move_to_end(key)
        else:
            self._instances[key] = Instance(self.program, self.resources, values)
            if len(self._instances) > _MAX_INSTANCES:
                self._instances.popitem(last=False)
        return self._instances[key]
