"""Which program of an engine with profiles runs: the one tuned for the sizes that come, else the general one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from tenonrt.errors import ExecutionError
from tenonrt.plan.plan import Plan
from tenonrt.plan.program import sizes_text
from tenonrt.runtime.instance import Instance, Profiler
from tenonrt.runtime.runner import ProgramRunner, Resources
from tenonrt.runtime.shapes import bind_shape
from tenonrt.types import Array

# Kernels chosen for one size are seldom the wrong ones for half or twice as much.
_FAR = 2.0


class UntunedShapeWarning(UserWarning):
    """An engine runs at sizes far from those it was tuned for: the results are right, and may take long."""


class Dispatcher:
    """Runs an engine's programs. One shape in a row costs a comparison."""

    def __init__(self, plan: Plan, resources: Resources) -> None:
        self._plan = plan
        self._general = ProgramRunner(plan.program, resources)
        self._tuned = {_key(tuned.sizes): ProgramRunner(tuned.program, resources) for tuned in plan.tuned}
        self._latest: tuple[list[tuple[int, ...]], ProgramRunner] | None = None
        self._warned = False

    def run(
        self,
        inputs: Sequence[Array],
        outer: Mapping[str, int] | None = None,
        stream: Any | None = None,
        profiler: Profiler | None = None,
    ) -> list[Array]:
        """Outputs in order."""
        shapes = [a.shape for a in inputs]
        if self._latest is None or shapes != self._latest[0]:
            self._latest = (shapes, self._choose(shapes))
        return self._latest[1].run(inputs, outer, stream, profiler)

    def enqueue(self, inputs: Sequence[Any | None], stream: Any | None, consumed: Any | None) -> list[Any]:
        """As `ProgramRunner.enqueue`, of the program for the inputs' shapes."""
        last = self._latest[0] if self._latest is not None else None
        if last is None and any(array is None for array in inputs):
            raise ExecutionError("sizes of the inputs are not fixed in this plan: give every input, or its shape")
        shapes = [tuple(a.shape) if a is not None else (last or [])[i] for i, a in enumerate(inputs)]
        if self._latest is None or shapes != self._latest[0]:
            self._latest = (shapes, self._choose(shapes))
        return self._latest[1].enqueue(inputs, stream, consumed)

    def buffers(self, shapes: Sequence[Sequence[int]] | None = None) -> tuple[list[Any], list[Any]]:
        """As `ProgramRunner.buffers`."""
        if shapes is None:
            raise ExecutionError("sizes of the inputs are not fixed in this plan: give the shape of every input")
        wanted = [tuple(shape) for shape in shapes]
        self._latest = (wanted, self._choose(wanted))
        return self._latest[1].buffers(wanted)

    def instance(self, shapes: Sequence[Sequence[int]]) -> Instance:
        """The program for these shapes, bound and ready."""
        return self._choose(shapes).instance(shapes)

    def _choose(self, shapes: Sequence[Sequence[int]]) -> ProgramRunner:
        sizes: dict[str, int] = {}
        program = self._plan.program
        for index, shape in zip(program.inputs, shapes, strict=True):
            tensor = program.tensors[index]
            bind_shape(f"input {tensor.name!r}", tensor.type, shape, sizes)
        tuned = self._tuned.get(_key(sizes))
        if tuned is not None:
            return tuned
        profiles = self._plan.header.profiles
        if not any(profile.holds(sizes) for profile in profiles):
            allowed = "; or ".join(map(str, profiles))
            raise ExecutionError(f"no profile of this engine holds {sizes_text(sizes)}; it was built for {allowed}")
        self._warn_if_far(sizes)
        return self._general

    def _warn_if_far(self, sizes: Mapping[str, int]) -> None:
        tuned = [t for profile in self._plan.header.profiles if profile.holds(sizes) for t in profile.tuned]
        if self._warned or min(_distance(sizes, t) for t in tuned) <= _FAR:
            return
        self._warned = True
        warnings.warn(
            f"{self._plan.header.network} runs at {sizes_text(sizes)}, far from what it was tuned for "
            f"({'; '.join(map(sizes_text, tuned))}): the results are right, but may take long. Build with a profile "
            f"that has this shape among those to tune for.",
            UntunedShapeWarning,
            stacklevel=7,
        )


def _key(sizes: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(sizes.items()))


def _distance(sizes: Mapping[str, int], tuned: Mapping[str, int]) -> float:
    """How many times as large the size that differs most is, or as small."""
    pairs = [(max(1, sizes[name]), max(1, size)) for name, size in tuned.items()]
    return max((max(a, b) / min(a, b) for a, b in pairs), default=1.0)
