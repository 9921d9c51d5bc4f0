"""The kernel that is always there: any single layer, computed by its own reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tenonrt.contracts import (
    LINEAR,
    Array,
    Code,
    Executable,
    ExecutionError,
    Kernel,
    LayerType,
    Problem,
    Support,
    Tactic,
    TenonError,
    is_float,
)


class ReferenceKernel(Kernel):
    """Takes every layer but those that own subgraphs, which the core runs, and reformats, which change no value."""

    runs_reference = True

    def supports(self, problem: Problem) -> Support:
        why = _refusal(problem)
        return Support(False, why) if why else Support(True, runtime_symbols="all")

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        outputs = tuple(range(len(problem.outputs)))
        activations = tuple(range(len(problem.activations)))
        return (Tactic(precision=_precision(problem), reads_strided=activations, writes_strided=outputs),)

    def bind(self, code: Code, packed: Sequence[Array]) -> Executable:
        problem = code.problem
        known = {name for i in range(len(problem.inputs)) for name in problem.types[i].symbol_names()}
        sized_by_data = any(problem.types[t].symbol_names() - known for t in problem.outputs)
        executable = AllocatingReference if sized_by_data else ReferenceExecutable
        return executable(problem, packed, _layer_type(problem.layer.kind))


class ReferenceExecutable:
    """Runs `LayerType.reference` and copies its results. Draws from its context's generator (`Draws`)."""

    def __init__(self, problem: Problem, packed: Sequence[Array], layer_type: LayerType) -> None:
        layer = problem.layer
        self._attrs = layer.attrs
        self._reference = layer_type.reference
        self._run = _Run()
        self._fixed: list[Array | None] = [None] * len(layer.inputs)
        self._moving: list[tuple[int, int]] = []  # (input of the layer, position in launch's inputs)
        for index, tensor in enumerate(layer.inputs):
            if tensor in problem.constants:
                self._fixed[index] = packed[problem.constants.index(tensor)]
            elif tensor >= 0:
                self._moving.append((index, problem.activations.index(tensor)))
        self._wanted = [layer.outputs.index(t) for t in problem.outputs]

    def draw_from(self, generator: Callable[[], np.random.Generator]) -> None:
        self._run.source = generator

    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any | None, stream: Any | None) -> None:
        for result, target in zip(self._results(inputs), outputs, strict=True):
            if result.shape != target.shape:
                found, expected = list(result.shape), list(target.shape)
                raise ExecutionError(f"the reference computed shape {found}, its buffer has {expected}")
            np.copyto(target, result, casting="unsafe")

    def _results(self, inputs: Sequence[Any]) -> list[Array]:
        arrays = list(self._fixed)
        for index, position in self._moving:
            arrays[index] = inputs[position]
        results = self._reference(self._attrs, arrays, self._run)
        return [np.asarray(results[i]) for i in self._wanted]


class AllocatingReference(ReferenceExecutable):
    """`AllocatesOutputs`: an output has a dimension that no input's shape determines."""

    def launch_allocating(
        self, inputs: Sequence[Any], allocate: Callable[[int, Sequence[int]], Any], stream: Any | None
    ) -> None:
        for index, result in enumerate(self._results(inputs)):
            np.copyto(allocate(index, result.shape), result, casting="unsafe")


class _Run:
    """The `Run` of a layer without subgraphs."""

    def __init__(self) -> None:
        own: list[np.random.Generator] = []

        def alone() -> np.random.Generator:
            """Of an executable that no context runs."""
            if not own:
                own.append(np.random.default_rng())
            return own[0]

        self.source: Callable[[], np.random.Generator] = alone

    @property
    def generator(self) -> np.random.Generator:
        return self.source()

    def graph(self, index: int, arrays: Sequence[Array]) -> list[Array]:
        raise ExecutionError("a layer without subgraphs asked to run one")


def _refusal(problem: Problem) -> str:
    if len(problem.layers) != 1:
        return f"a reference computes one layer; this region has {len(problem.layers)}"
    kind, attrs = problem.layer.kind, problem.layer.attrs
    if kind == "Reformat" and (attrs.source, attrs.target) != (LINEAR, LINEAR):
        return "a reference works on logical values and cannot change how they are stored"
    try:
        layer_type = _layer_type(kind)
    except TenonError as error:
        return str(error)
    if type(layer_type).infer_control is not LayerType.infer_control:
        return f"{kind} owns subgraphs, which the core runs"
    return ""


def _layer_type(kind: str) -> LayerType:
    import tenonrt  # the registry is wanted only by those who run a reference

    found: LayerType = tenonrt.layer_type(kind)
    return found


# Significand bits of each floating-point type: what a result that passed through it can be trusted to.
_BITS = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}


def _precision(problem: Problem) -> str:
    """The least precise floating-point type among the operands; float32 for a problem without any."""
    used = [t for t in (*problem.layer.inputs, *problem.layer.outputs) if t >= 0]
    floats = [problem.types[t].dtype for t in used if is_float(problem.types[t].dtype)]
    return min(floats, key=lambda name: _BITS.get(name, 0), default="float32")
