"""The reference kernel, with layer types of this file: absent and repeated inputs, constants, data-dependent shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt.contracts import (
    LINEAR,
    NHWC,
    AllocatesOutputs,
    Attributes,
    Draws,
    Executable,
    ExecutionError,
    LayerType,
    Problem,
    ProblemInput,
    ProblemLayer,
    Tactic,
    TenonError,
    TensorInfo,
    TensorType,
    Weights,
    symbol,
    unknown,
)
from tenonrt_kernel_numpy.reference import ReferenceKernel


class AxpyAttributes(Attributes, frozen=True):
    factor: float = 2.0


class AxpyLayer(LayerType):
    """factor * x + y + z, and twice that; y is optional."""

    Attrs = AxpyAttributes
    inputs = ("x", "y?", "z")

    def infer(self, attrs: Any, inputs: Any) -> list[TensorInfo]:
        return [inputs[0], inputs[0]]

    def reference(self, attrs: Any, arrays: Any, run: Any) -> list[np.ndarray]:
        x, y, z = arrays
        total = attrs.factor * x.astype(np.float64) + (0 if y is None else y) + z
        return [total, total * 2]


class PositiveLayer(LayerType):
    def infer(self, attrs: Any, inputs: Any) -> list[TensorInfo]:
        return [inputs[0].like([unknown()])]

    def reference(self, attrs: Any, arrays: Any, run: Any) -> list[np.ndarray]:
        return [arrays[0][arrays[0] > 0]]


class NoiseLayer(LayerType):
    pure = False

    def infer(self, attrs: Any, inputs: Any) -> list[TensorInfo]:
        return [inputs[0]]

    def reference(self, attrs: Any, arrays: Any, run: Any) -> list[np.ndarray]:
        return [arrays[0] + run.generator.standard_normal(arrays[0].shape)]


class BranchLayer(NoiseLayer):
    def infer_control(self, attrs: Any, inputs: Any, graphs: Any) -> list[TensorInfo]:
        return [inputs[0]]


class CallLayer(NoiseLayer):
    def reference(self, attrs: Any, arrays: Any, run: Any) -> list[np.ndarray]:
        return run.graph(0, arrays)


LAYERS = {"Axpy": AxpyLayer, "Positive": PositiveLayer, "Noise": NoiseLayer, "Branch": BranchLayer, "Call": CallLayer}


@pytest.fixture(autouse=True)
def layer_types(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(kind: str) -> LayerType:
        if kind not in LAYERS:
            raise TenonError(f"no installed distribution offers the layer kind {kind!r}")
        return LAYERS[kind]()

    monkeypatch.setattr(tenonrt, "layer_type", find, raising=False)


def axpy(roles: str, reads: tuple[int, ...], outputs: tuple[int, ...], shape: tuple[Any, ...] = (3,)) -> Problem:
    """Roles by letter: a(ctivation), c(onstant), h(ost)."""
    names = {"a": "activation", "c": "constant", "h": "host"}
    count = len(roles)
    types = (TensorType(shape),) * (count + 2)
    layer = ProblemLayer("Axpy", AxpyAttributes(3.0), reads, (count, count + 1))
    inputs = tuple(ProblemInput(names[r]) for r in roles)
    return Problem((layer,), inputs, types, tuple(count + o for o in outputs), "cpu")


def single(kind: str, source: TensorType, result: TensorType) -> Problem:
    layer = ProblemLayer(kind, Attributes(), (0,), (1,))
    return Problem((layer,), (ProblemInput("activation"),), (source, result), (1,), "cpu")


def bind(problem: Problem, *constants: np.ndarray) -> Executable:
    kernel = ReferenceKernel()
    assert kernel.supports(problem).ok
    [tactic] = kernel.tactics(problem)
    code = kernel.compile(problem, tactic)
    return kernel.bind(code, kernel.pack(code, Weights(constants)))


X, Y, Z = (np.array(v, np.float32) for v in ([1, 2, 3], [10, 20, 30], [100, 200, 300]))


@pytest.mark.parametrize(
    ("roles", "reads", "inputs", "constants", "expected"),
    [
        ("aaa", (0, 1, 2), [X, Y, Z], [], 3 * X + Y + Z),
        ("aa", (0, -1, 1), [X, Z], [], 3 * X + Z),
        ("ca", (1, -1, 0), [X], [Z], 3 * X + Z),
        ("cac", (0, 1, 2), [Y], [X, Z], 3 * X + Y + Z),
        ("ah", (1, 0, 1), [Y, X], [], 3 * X + Y + X),
        ("c", (0, 0, 0), [], [X], 5 * X),
    ],
)
def test_arrays_reach_the_reference_in_the_layers_order(
    roles: str, reads: tuple[int, ...], inputs: Any, constants: Any, expected: np.ndarray
) -> None:
    second, first = np.empty((2, 3), np.float32)
    bind(axpy(roles, reads, (1, 0)), *constants).launch(inputs, [second, first], None, None)
    assert np.array_equal(first, expected)
    assert np.array_equal(second, 2 * expected)


def test_only_the_wanted_outputs_are_written_into_strided_buffers() -> None:
    problem = axpy("aa", (0, -1, 1), (1,))
    whole = np.full((3, 2), -1, np.float32)
    bind(problem).launch([X, Z], [whole[:, 1]], None, None)
    assert np.array_equal(whole[:, 1], 2 * (3 * X + Z))
    assert (whole[:, 0] == -1).all()
    [tactic] = ReferenceKernel().tactics(problem)
    assert tactic == Tactic(precision="float32", reads_strided=(0, 1), writes_strided=(0,))


def test_scalars_and_other_sizes_at_run_time() -> None:
    assert ReferenceKernel().supports(axpy("aa", (0, -1, 1), (0,), (symbol("s0"),))).runtime_symbols == "all"
    executable = bind(axpy("aa", (0, -1, 1), (0,), (symbol("s0"),)))
    for size in (0, 1, 5):
        result = np.empty(size, np.float32)
        executable.launch([np.ones(size, np.float32), np.ones(size, np.float32)], [result], None, None)
        assert np.array_equal(result, np.full(size, 4))
    result = np.empty((), np.float32)
    bind(axpy("aa", (0, -1, 1), (0,), ())).launch([np.float32(1), np.float32(1)], [result], None, None)
    assert result == 4


def test_a_wrong_buffer_is_refused() -> None:
    with pytest.raises(ExecutionError, match=r"shape \[3\], its buffer has \[1, 3\]"):
        bind(axpy("aa", (0, -1, 1), (0,))).launch([X, Z], [np.empty((1, 3), np.float32)], None, None)


def test_an_output_sized_by_data_is_allocated() -> None:
    executable = bind(single("Positive", TensorType((symbol("s0"),)), TensorType((symbol("s1"),))))
    assert isinstance(executable, AllocatesOutputs)
    made: dict[int, np.ndarray] = {}

    def allocate(index: int, shape: Any) -> np.ndarray:
        return made.setdefault(index, np.zeros(shape, np.float32))

    executable.launch_allocating([np.array([1, -2, 3], np.float32)], allocate, None)
    assert np.array_equal(made[0], [1, 3])
    assert not isinstance(bind(axpy("aa", (0, -1, 1), (0,))), AllocatesOutputs)


def test_every_executable_draws_numbers_of_its_own() -> None:
    problem = single("Noise", TensorType((100,)), TensorType((100,)))
    draws = np.empty((3, 100), np.float32)
    first, second = bind(problem), bind(problem)
    for executable, result in zip((first, first, second), draws, strict=True):
        executable.launch([np.zeros(100, np.float32)], [result], None, None)
    assert len(np.unique(draws)) > 290
    assert abs(draws.mean()) < 0.5


def reformat(source: Any, target: Any) -> Problem:
    class ReformatAttributes(Attributes, frozen=True):
        source: Any
        target: Any

    four = TensorType((1, 2, 3, 4))
    layer = ProblemLayer("Reformat", ReformatAttributes(source, target), (0,), (1,))
    return Problem((layer,), (ProblemInput("activation"),), (four, four), (1,), "cpu")


def test_a_context_hands_over_its_generator() -> None:
    """Its seed fixes what layers draw, and it is asked for only when one draws."""
    executable = bind(single("Noise", TensorType((3,)), TensorType((3,))))
    assert isinstance(executable, Draws)
    asked: list[int] = []

    def generator() -> np.random.Generator:
        asked.append(1)
        return np.random.default_rng(5)

    executable.draw_from(generator)
    assert not asked
    output = np.empty(3, np.float32)
    executable.launch([X], [output], None, None)
    np.testing.assert_allclose(output, X + np.random.default_rng(5).standard_normal(3), rtol=1e-6)
    assert asked


def two_layers() -> Problem:
    problem = single("Noise", TensorType((3,)), TensorType((3,)))
    return Problem(problem.layers * 2, problem.inputs, problem.types, problem.outputs, "cpu")


@pytest.mark.parametrize(
    ("problem", "why"),
    [
        (two_layers, "one layer; this region has 2"),
        (lambda: single("Branch", TensorType((3,)), TensorType((3,))), "subgraphs"),
        (lambda: single("acme.Missing", TensorType((3,)), TensorType((3,))), "no installed distribution"),
        (lambda: reformat(LINEAR, NHWC), "logical values"),
    ],
)
def test_refusals_say_why(problem: Callable[[], Problem], why: str) -> None:
    support = ReferenceKernel().supports(problem())
    assert not support.ok
    assert why in support.why


def test_a_layer_that_calls_a_subgraph_it_does_not_own() -> None:
    executable = bind(single("Call", TensorType((1,)), TensorType((1,))))
    with pytest.raises(ExecutionError, match="without subgraphs"):
        executable.launch([np.zeros(1, np.float32)], [np.zeros(1, np.float32)], None, None)


@pytest.mark.parametrize(
    ("source", "result", "precision"),
    [
        ("float32", "float64", "float32"),
        ("float64", "float16", "float16"),
        ("bfloat16", "float32", "bfloat16"),
        ("int32", "int32", "float32"),
        ("float64", "int8", "float64"),
    ],
)
def test_precision_is_that_of_the_narrowest_operand(source: str, result: str, precision: str) -> None:
    [tactic] = ReferenceKernel().tactics(single("Noise", TensorType((3,), source), TensorType((3,), result)))
    assert tactic.precision == precision
