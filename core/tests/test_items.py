"""Large batches are judged by their first and last items, where items do not depend on each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt.builder import sampling
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.sampling import reference_outputs
from tenonrt.builder.trial import Packs, Sample, try_tactic
from tenonrt.contracts import Array, Code, Executable, ExecutionError, Format, Kernel, Problem, Support, Tactic, Weights
from tenonrt.plugins.registry import Registry, using

REGISTRY = Registry()
HALF = Format(dtype="float16")


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_LARGE_BYTES", 1000)


def problem_of(define: Callable[[tenonrt.Network], Any]) -> Problem:
    net = tenonrt.Network("items", REGISTRY)
    net.mark_output(define(net), "y")
    return pose(make_region(net.graph, net.graph.layers), "cpu", 1).problem


def convolution(net: tenonrt.Network) -> Any:
    weights = np.random.default_rng(0).standard_normal((6, 4, 3, 3)).astype(np.float32)
    y = net.add_convolution(net.add_input("x", (9, 4, 6, 6)), weights)
    return net.add_elementwise(y, net.add_input("z", y.type.shape), operation="sum")


def test_the_answer_is_that_of_the_whole_batch() -> None:
    problem = problem_of(convolution)
    sample = Sample.draw(problem, REGISTRY.layer_type, 2, 0)
    assert sample.items == (0, 8)
    device = REGISTRY.device("cpu")
    whole = [
        sample.stored(i, problem.types[i], None, device) if i in problem.activations else a
        for i, a in enumerate(sample.inputs)
    ]
    (expected,) = reference_outputs(problem, REGISTRY.layer_type, whole)
    np.testing.assert_allclose(sample.expected[0], expected[[0, 8]])
    rounded = sample.as_stored(Tactic(inputs=(HALF, HALF)), REGISTRY.layer_type)
    assert rounded.expected[0].shape == sample.expected[0].shape
    assert not np.array_equal(rounded.expected[0], sample.expected[0])


@pytest.mark.parametrize(
    "define",
    [
        lambda net: net.add("Softmax", [net.add_input("x", (40, 30))], {"axis": 0})[0],
        lambda net: net.add("Reduce", [net.add_input("x", (40, 30))], {"operation": "sum", "axes": (0,)})[0],
        lambda net: net.add("Reshape", [net.add_input("x", (40, 30)), np.array([20, 60])], {})[0],
    ],
)
def test_what_mixes_its_items_is_judged_whole(define: Callable[[tenonrt.Network], Any]) -> None:
    problem = problem_of(define)
    sample = Sample.draw(problem, REGISTRY.layer_type, 2, 0)
    assert sample.items is None
    assert sample.expected[0].shape == problem.types[problem.outputs[0]].shape


@pytest.mark.parametrize("heads", [1, 3])
def test_constants_may_say_how_large_the_batch_is(heads: int) -> None:
    """As reshapes around attention do, also where heads are merged with the batch; kernels get the whole problem's."""

    def define(net: tenonrt.Network) -> Any:
        x = net.add("Reshape", [net.add_input("x", (40, 30)), np.array([40 * heads, 30 // heads])], {})[0]
        x = net.add("Softmax", [x], {"axis": -1})[0]
        return net.add("Reshape", [x, np.array([40, 5, 6])], {})[0]

    problem = problem_of(define)
    sample = Sample.draw(problem, REGISTRY.layer_type, 2, 0)
    assert sample.items == (0, 39)
    shapes = [sample.inputs[i].tolist() for i in problem.constants]
    assert shapes == [[40 * heads, 30 // heads], [40, 5, 6]]
    whole = [np.resize(a, (40, 30)) if i in problem.activations else a for i, a in enumerate(sample.inputs)]
    (expected,) = reference_outputs(problem, REGISTRY.layer_type, whole)
    np.testing.assert_allclose(sample.expected[0], expected[[0, 39]])
    typical = Sample.typical(problem, REGISTRY.layer_type)
    assert typical.inputs[problem.activations[0]].shape == (sampling.DRAWN_ITEMS, 30)


def test_what_all_items_share_is_one_item() -> None:
    """As the mask of attention is, that is added to the scores of every sequence."""

    def define(net: tenonrt.Network) -> Any:
        x, mask = net.add_input("x", (40, 3, 5, 5)), net.add_input("mask", (1, 1, 5, 5))
        return net.add("Softmax", [net.add_elementwise(x, mask, operation="sum")], {"axis": -1})[0]

    problem = problem_of(define)
    sample = Sample.draw(problem, REGISTRY.layer_type, 2, 0)
    assert sample.items == (0, 39)
    device = REGISTRY.device("cpu")
    whole = [sample.stored(i, problem.types[i], None, device) for i in range(len(problem.inputs))]
    assert [array.shape for array in whole] == [(40, 3, 5, 5), (1, 1, 5, 5)]
    (expected,) = reference_outputs(problem, REGISTRY.layer_type, whole)
    np.testing.assert_allclose(sample.expected[0], expected[[0, 39]])


class Doubling(Kernel):
    """2 x, but for the last item where it is told to forget that one."""

    def __init__(self, forgetful: bool = False) -> None:
        self.forgetful = forgetful
        self.packs = 0

    def supports(self, problem: Problem) -> Support:
        return Support(True)

    def packing(self, problem: Problem, tactic: Tactic) -> str:
        return "one"

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        self.packs += 1
        return []

    def bind(self, code: Code, packed: Sequence[Array]) -> Executable:
        return _Doubled(self.forgetful)


class _Doubled:
    def __init__(self, forgetful: bool) -> None:
        self.forgetful = forgetful

    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any | None, stream: Any | None) -> None:
        outputs[0][...] = inputs[0] + inputs[0]
        if self.forgetful:
            outputs[0][-1] = 0


def test_a_kernel_that_forgets_the_last_item_is_refused() -> None:
    problem = problem_of(lambda net: net.add_elementwise(*[net.add_input("x", (50, 30))] * 2, operation="sum"))
    samples, packs = [Sample.draw(problem, REGISTRY.layer_type, 2, 0)], Packs()
    with using(REGISTRY):
        kernel = Doubling()
        for key in ("a", "b"):
            tactic, device = Tactic(key), REGISTRY.device("cpu")
            assert try_tactic(kernel, problem, tactic, samples, REGISTRY.layer_type, device, packs)[0].ok
        assert kernel.packs == 1  # both tactics pack alike
        verdict, _ = try_tactic(Doubling(True), problem, Tactic(), samples, REGISTRY.layer_type, REGISTRY.device("cpu"))
    assert not verdict.ok


def test_enqueue_leaves_results_in_the_contexts_own_arrays() -> None:
    net = tenonrt.Network("relu")
    net.mark_output(net.add_activation(net.add_input("x", (2, 3)), function="relu"), "y")
    context = tenonrt.compile(net, optimization_level=0).create_context()
    x = np.array([[1, -1, 2], [-3, 4, -5]], np.float32)
    np.testing.assert_array_equal(context.enqueue({"x": x})["y"], np.maximum(x, 0))
    held = context.buffers()
    held["x"][...] = -x
    assert context.enqueue()["y"] is held["y"]
    np.testing.assert_array_equal(held["y"], np.maximum(-x, 0))
    with pytest.raises(ExecutionError, match="no input 'z'"):
        context.enqueue({"z": x})
    with pytest.raises(ExecutionError, match="it must be float32"):
        context.enqueue({"x": x.astype(np.float64)})
    with pytest.raises(ExecutionError, match="no streams"):
        context.enqueue({"x": x}, stream=object())


def test_slices_that_no_kernel_writes_are_not_reformatted_into() -> None:
    """A cover once wanted slices stored row by row in half precision, in which nothing writes slices."""
    from tenonrt.builder.choices import SliceOf
    from tenonrt.builder.selection import Selector
    from tenonrt.types import LINEAR

    net = tenonrt.Network("concatenation", REGISTRY)
    parts = [net.add_activation(net.add_input(name, (2, 3)), function="relu") for name in "ab"]
    net.mark_output(net.add_concatenation(*parts, axis=0), "y")
    selector = Selector(net.graph, (LINEAR, HALF))
    part = next(p for p in selector.slices[parts[0]] if p.format == HALF)
    assert selector.reformat_price(selector.number(parts[0]), part) is not None
    selector.unwritable.add(HALF)
    assert selector.reformat_price(selector.number(parts[0]), part) is None
    assert selector.reformat_price(selector.number(parts[0]), SliceOf(part.layer, part.index)) is not None


@pytest.mark.parametrize(("device", "taken"), [("cpu", True), ("cuda", False)])
def test_slices_are_written_and_read_by_the_devices_own_kernels(device: str, taken: bool) -> None:
    """A host kernel once made slices in single precision writable for tensors that are halves on a GPU, and parts of
    halves row by row were views there, which nothing stores in single precision."""
    from tenonrt.builder.config import BuilderConfig
    from tenonrt.builder.offers import Offers
    from tenonrt.builder.pricing import find_limits
    from tenonrt.builder.selection import Selector
    from tenonrt.plugins.hooks import Hooks
    from tenonrt.types import LINEAR

    net = tenonrt.Network("concatenation", REGISTRY)
    parts = [net.add_activation(net.add_input(name, (2, 3)), function="relu") for name in "ab"]
    joined = net.add_concatenation(*parts, axis=0)
    for number, part in enumerate(net.add("Split", [joined], {"axis": 0, "parts": 2})):
        net.mark_output(part, f"y{number}")
    selector = Selector(net.graph, (LINEAR, HALF))
    with using(REGISTRY):
        find_limits(selector, Offers(net.graph, REGISTRY, BuilderConfig(device=device), Hooks(REGISTRY)))
    assert (LINEAR not in selector.unwritable) == (LINEAR not in selector.unreadable) == taken
    assert HALF in selector.unwritable & selector.unreadable
    views = [column.id for column in selector.view_columns(net.graph.layers[-1])]
    assert len(views) == taken


def test_a_mask_that_all_items_share_is_drawn_whole() -> None:
    def masked(net: tenonrt.Network) -> Any:
        mask, x = net.add_input("m", (1, 30), "bool"), net.add_input("x", (40, 30))
        return net.add("Softmax", [net.add("Select", [mask, x, np.float32(0)], {})[0]], {"axis": 1})[0]

    problem = problem_of(masked)
    sample = Sample.draw(problem, REGISTRY.layer_type, 2, 0)
    assert sample.items == (0, 39)
    device = REGISTRY.device("cpu")
    whole = [
        sample.stored(i, problem.types[i], None, device) if i in problem.activations else a
        for i, a in enumerate(sample.inputs)
    ]
    assert [array.shape for array in whole if array.ndim == 2] == [(1, 30), (40, 30)]
    (expected,) = reference_outputs(problem, REGISTRY.layer_type, whole)
    np.testing.assert_allclose(sample.expected[0], expected[[0, 39]])


def test_a_result_that_all_items_share_depends_on_all() -> None:
    def total(net: tenonrt.Network) -> Any:
        attrs = {"operation": "sum", "axes": (0,), "keep_dims": True}
        return net.add("Reduce", [net.add_input("x", (40, 30))], attrs)[0]

    assert Sample.draw(problem_of(total), REGISTRY.layer_type, 2, 0).items is None


@pytest.mark.parametrize("given", [(4, 64), (tenonrt.symbol("n", lower=1), 64), (tenonrt.symbol("n", 1, 9), 64)])
def test_inputs_that_are_left_out_keep_their_values(given: tuple[Any, ...]) -> None:
    """Later steps of a run have their results in other memory, those that compute in place too."""
    net = tenonrt.Network()
    x = net.add_input("x", given)
    for function in ("tanh", "relu", "sigmoid", "tanh"):
        x = net.add_softmax(net.add_activation(x, function=function), axis=1)
    net.mark_output(x, "y")
    context = tenonrt.compile(net, optimization_level=0).create_context()
    values = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    wanted = context.execute({"x": values})["y"]
    np.testing.assert_array_equal(context.enqueue({"x": values})["y"], wanted)
    np.testing.assert_array_equal(context.enqueue()["y"], wanted)
    np.testing.assert_array_equal(context.buffers({"x": (4, 64)})["x"], values)
    np.testing.assert_array_equal(context.execute({"x": values})["y"], wanted)


def test_outputs_may_be_the_next_inputs() -> None:
    """As the states of a recurrent network are: to copy one to where inputs are must not overwrite another."""
    net = tenonrt.Network()
    a, b = net.add_input("a", (64,)), net.add_input("b", (64,))
    net.mark_output(net.add_activation(b, function="tanh"), "next a")
    net.mark_output(net.add_activation(net.add_activation(a, function="sigmoid"), function="tanh"), "next b")
    context = tenonrt.compile(net, optimization_level=0).create_context()
    values = {"a": np.linspace(-1, 1, 64, dtype=np.float32), "b": np.linspace(0, 3, 64, dtype=np.float32)}
    wanted = values
    held = context.enqueue(values)
    for _ in range(3):
        found = context.execute(wanted)
        wanted = {"a": found["next a"], "b": found["next b"]}
        for name in ("a", "b"):
            np.testing.assert_array_equal(held[f"next {name}"], wanted[name])
        held = context.enqueue({"a": held["next a"], "b": held["next b"]})
