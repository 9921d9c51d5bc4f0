"""TopK against its reference: any axis, ties, NaN and infinities, on what can run here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from llvm_judging import REGISTRY, TARGETS, compiles, judge, problem_of
from tenonrt.builder.trial import Sample, bind_sample
from tenonrt.contracts import Problem
from tenonrt.plugins.registry import using
from tenonrt_kernel_llvm.softmax_topk import SoftmaxTopKKernel
from tenonrt_kernel_llvm.target import NEON
from tenonrt_kernel_llvm.topk import TopKKernel


def posed(shape: tuple[Any, ...], count: int, used: str = "both", **attrs: Any) -> Problem:
    def define(network: tenonrt.Network) -> Any:
        values, places = network.add("TopK", [network.add_input("x", shape), np.array([count])], attrs)
        if used == "both":
            network.mark_output(values, "values")
        return values if used == "values" else places

    return problem_of(define)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@settings(max_examples=8, deadline=None)
@given(
    shape=st.lists(st.integers(1, 40), min_size=1, max_size=3), axis=st.integers(-3, 2), part=st.floats(0, 1),
    largest=st.booleans(), used=st.sampled_from(("both", "values", "places")),
)  # fmt: skip
def test_the_best_along_any_axis(
    target: Any, shape: list[int], axis: int, part: float, largest: bool, used: str
) -> None:
    axis = axis % len(shape)
    count = max(1, round(part * shape[axis]))
    judge(TopKKernel(), posed(tuple(shape), count, used, axis=axis, largest=largest), target)


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("tactic", [0, 1], ids=["select", "sort"])
def test_ties_zeros_and_what_is_no_number(largest: bool, tactic: int) -> None:
    nan = np.float32(np.nan)
    row = np.array([1, nan, -0.0, 0.0, np.inf, -np.inf, 1, -nan, 0.0, -3e-45], np.float32)
    problem, device, kernel = posed((1, len(row)), len(row), largest=largest), REGISTRY.device("cpu"), TopKKernel()
    with using(REGISTRY):
        sample = Sample.draw(problem, REGISTRY.layer_type, 1, 0)
        sample.inputs[0][...] = row
        bound = bind_sample(kernel, kernel.compile(problem, kernel.tactics(problem)[tactic]), sample, device)
        device.bind([bound.launch], 1).run(None)
        layer = REGISTRY.layer_type("TopK")
        values, places = layer.reference(problem.layer.attrs, [row[None], np.array([len(row)])], None)
        found = [np.asarray(array).reshape(-1) for array in bound.launch.outputs]
    np.testing.assert_array_equal(found[[a.dtype.kind for a in found].index("i")], places[0])
    np.testing.assert_array_equal(found[[a.dtype.kind for a in found].index("f")], values[0])


def test_the_batch_is_known_at_run_time() -> None:
    problem = posed((tenonrt.symbol("N", 1, 8), 30), 5)
    assert TopKKernel().supports(problem).runtime_symbols == "all"
    judge(TopKKernel(), problem, TARGETS[0], (1, 3))


def shares(shape: tuple[Any, ...], count: int, used: str = "both", log: bool = False, **attrs: Any) -> Problem:
    def define(network: tenonrt.Network) -> Any:
        softmax = network.add_softmax(network.add_input("x", shape), axis=-1, log=log)
        values, places = network.add("TopK", [softmax, np.array([count])], attrs)
        if used == "both":
            network.mark_output(values, "values")
        return values if used == "values" else places

    return problem_of(define)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@settings(max_examples=8, deadline=None)
@given(
    shape=st.lists(st.integers(1, 70), min_size=1, max_size=3), part=st.floats(0, 1), largest=st.booleans(),
    log=st.booleans(), used=st.sampled_from(("both", "values", "places")),
)  # fmt: skip
def test_the_best_of_a_softmax(target: Any, shape: list[int], part: float, largest: bool, log: bool, used: str) -> None:
    count = max(1, round(part * shape[-1]))
    judge(SoftmaxTopKKernel(), shares(tuple(shape), count, used, log, largest=largest), target)


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("row", [(1, np.nan, 3, 2), (0, np.inf, 1, 2), (1, -np.inf, 1, 0.5)], ids=str)
def test_a_softmax_that_is_no_number(row: tuple[float, ...], largest: bool) -> None:
    """The first of elements that are alike, as if the layers ran one by one: a softmax with a NaN is one of NaNs."""
    x, problem = np.array([row], np.float32), shares((1, 4), 3, largest=largest)
    kernel, device = SoftmaxTopKKernel(), REGISTRY.device("cpu")
    with using(REGISTRY), np.errstate(all="ignore"):
        sample = Sample.draw(problem, REGISTRY.layer_type, 1, 0)
        sample.inputs[0][...] = x
        bound = bind_sample(kernel, kernel.compile(problem, kernel.tactics(problem)[0]), sample, device)
        device.bind([bound.launch], 1).run(None)
        softmax = np.exp(x - x.max()) / np.exp(x - x.max()).sum()
        layer = REGISTRY.layer_type("TopK")
        values, places = layer.reference(problem.layers[1].attrs, [softmax, np.array([3])], None)
    found = {a.dtype.kind: a for a in bound.launch.outputs}
    np.testing.assert_array_equal(found["i"], places)
    np.testing.assert_allclose(found["f"], values, rtol=1e-6)


def test_other_softmaxes_and_searches_are_refused() -> None:
    def define(network: tenonrt.Network) -> Any:
        softmax = network.add_softmax(network.add_input("x", (3, 4)), axis=0)
        return network.add("TopK", [softmax, np.array([2])], {"axis": 1})[0]

    support = SoftmaxTopKKernel().supports(problem_of(define))
    assert not support.ok
    assert "another axis" in support.why


def test_another_target_compiles() -> None:
    compiles(SoftmaxTopKKernel(), shares((2, 30), 5), NEON)
    compiles(TopKKernel(), posed((2, 30), 5, largest=False), NEON)
