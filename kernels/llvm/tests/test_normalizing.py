"""Softmax, normalizations, local responses and places of extremes against the float64 reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from llvm_judging import REGISTRY, TARGETS, compiles, judge, problem_of
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.trial import Sample, bind_sample
from tenonrt.contracts import Problem, symbol
from tenonrt_kernel_llvm.arg_reduce import ArgReduceKernel
from tenonrt_kernel_llvm.lrn import LrnKernel
from tenonrt_kernel_llvm.normalization import NormalizationKernel
from tenonrt_kernel_llvm.softmax import SoftmaxKernel
from tenonrt_kernel_llvm.target import AVX2, AVX512, BASELINE, NEON, Target

FEW = settings(max_examples=8, deadline=None, derandomize=True)
EACH_TARGET = pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
SIZES = st.sampled_from((1, 2, 5, 16, 19, 33, 64, 100))
SHAPES = st.lists(SIZES, min_size=1, max_size=3).map(tuple)


def random(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def layer(kind: str, shape: tuple[Any, ...], *constants: Any, **attrs: Any) -> Problem:
    return problem_of(lambda network: network.add(kind, [network.add_input("x", shape), *constants], attrs)[0])


@EACH_TARGET
@FEW
@given(shape=SHAPES, data=st.data())
def test_softmax_of_any_axis(target: Target, shape: tuple[int, ...], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    judge(SoftmaxKernel(), layer("Softmax", shape, axis=axis, log=data.draw(st.booleans())), target)


@pytest.mark.parametrize("log", [False, True])
def test_softmax_with_a_tail_and_any_batch(log: bool) -> None:
    def define(network: tenonrt.Network) -> Any:
        y = network.add_softmax(network.add_input("x", (symbol("N", 1, 8), 3, 20)), log=log)
        return network.add_elementwise(y, np.float32(3.0), operation="prod")

    judge(SoftmaxKernel(), problem_of(define), TARGETS[0], sizes=(3, 1))


@EACH_TARGET
@FEW
@given(shape=SHAPES, data=st.data())
def test_rows_are_normalized(target: Target, shape: tuple[int, ...], data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    assume(np.prod(shape[axis:]) != 2)  # of two almost equal elements float32 does not know the mean well enough
    parameters = [random(*shape[axis:]), random(shape[-1])]
    judge(NormalizationKernel(), layer("LayerNormalization", shape, *parameters, axis=axis), target)
    judge(NormalizationKernel(), layer("RmsNormalization", shape, parameters[0], axis=axis), target)
    judge(NormalizationKernel(), layer("LpNormalization", shape, axis=axis, p=data.draw(st.integers(1, 2))), target)


@EACH_TARGET
@FEW
@given(channels=st.sampled_from((2, 6, 16)), row=st.integers(1, 40), batch=st.integers(1, 3))
def test_channels_are_normalized(target: Target, channels: int, row: int, batch: int) -> None:
    shape, parameters = (batch, channels, 3, row), [random(channels), random(channels)]
    judge(NormalizationKernel(), layer("InstanceNormalization", shape, *parameters), target)
    judge(NormalizationKernel(), layer("GroupNormalization", shape, *parameters, groups=2), target)


def test_groups_with_any_batch() -> None:
    shape = (symbol("N", 1, 8), 6, 5, 5)
    judge(NormalizationKernel(), layer("GroupNormalization", shape, random(6), groups=3), TARGETS[0], sizes=(3, 1))


SYMBOLIC = [
    ("InstanceNormalization", (2, 6, symbol("H", 1, 9), 5), 2, {}),
    ("GroupNormalization", (2, 6, symbol("H", 1, 9), 5), 2, {"groups": 2}),
    ("LayerNormalization", (symbol("N", 1, 9), symbol("T", 1, 9), 6), 2, {}),
    ("LpNormalization", (2, symbol("C", 1, 9), 6), 0, {"axis": 1}),
    ("Softmax", (symbol("N", 1, 9), symbol("T", 1, 9)), 0, {}),
    ("LRN", (2, 6, symbol("H", 1, 9), 5), 0, {"window": 3}),
    ("ArgReduce", (symbol("N", 1, 9), 6), 0, {"axis": 0}),
]


@pytest.mark.parametrize(("kind", "shape", "parameters", "attrs"), SYMBOLIC, ids=[case[0] for case in SYMBOLIC])
def test_any_size_may_be_symbolic(kind: str, shape: tuple[Any, ...], parameters: int, attrs: dict[str, Any]) -> None:
    kernels = {"Softmax": SoftmaxKernel(), "LRN": LrnKernel(), "ArgReduce": ArgReduceKernel()}
    problem = layer(kind, shape, *[random(6)] * parameters, **attrs)
    judge(kernels.get(kind, NormalizationKernel()), problem, TARGETS[0], sizes=(3, 1))


def test_a_small_variance_beside_a_large_mean() -> None:
    problem = layer("LayerNormalization", (4, 300))
    device, kernel = REGISTRY.device("cpu"), NormalizationKernel()
    sample = Sample.draw(problem, REGISTRY.layer_type, 1, 0)
    bound = bind_sample(kernel, kernel.compile(problem, kernel.tactics(problem)[0]), sample, device)
    bound.launch.inputs[0][...] = x = random(4, 300) * np.float32(0.25) + np.float32(64)
    device.bind([bound.launch], 1).run(None)
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(bound.read()[0], expected, atol=1e-4)


@EACH_TARGET
@pytest.mark.parametrize("wanted", [False, True])
def test_a_sum_before_the_normalization(target: Target, wanted: bool) -> None:
    network = tenonrt.Network("residual")
    a, b = (network.add_input(name, (3, 7, 50)) for name in "ab")
    total = network.add_elementwise(a, b, operation="sum")
    (y,) = network.add("LayerNormalization", [total, random(50), random(50)])
    if wanted:
        network.mark_output(total, "total")
    network.mark_output(y, "y")
    kernel = NormalizationKernel()
    *_, region = kernel.regions(network.graph, network.graph.layers[-1])
    assert [layer.kind for layer in region] == ["Elementwise", "LayerNormalization"]
    problem = pose(make_region(network.graph, region), "cpu", 1).problem
    assert len(problem.outputs) == 1 + wanted
    judge(kernel, problem, target)


def test_parameters_that_differ_from_row_to_row_are_refused() -> None:
    problem = layer("LayerNormalization", (2, 5, 6), random(5, 6))
    assert "differs from row to row" in NormalizationKernel().supports(problem).why


@EACH_TARGET
@FEW
@given(channels=st.integers(1, 50), window=st.integers(1, 9), row=st.integers(1, 40), axes=st.integers(0, 3))
def test_local_responses(target: Target, channels: int, window: int, row: int, axes: int) -> None:
    shape = (2, channels, *(2, 3)[: max(0, axes - 1)], *([row] if axes else []))
    judge(LrnKernel(), layer("LRN", shape, window=window, alpha=0.7, k=2.0), target)


@EACH_TARGET
def test_local_responses_of_another_power(target: Target) -> None:
    assert judge(LrnKernel(), layer("LRN", (2, 37, 6, 7), window=5, beta=0.6), target) == ["nchw16c", "linear"]


@EACH_TARGET
@FEW
@given(shape=SHAPES, data=st.data())
def test_places_of_extremes(target: Target, shape: tuple[int, ...], data: st.DataObject) -> None:
    attrs = {
        "axis": data.draw(st.integers(0, len(shape) - 1)), "operation": data.draw(st.sampled_from(("max", "min"))),
        "select_last": data.draw(st.booleans()), "keep_dims": data.draw(st.booleans()),
    }  # fmt: skip
    judge(ArgReduceKernel(), layer("ArgReduce", shape, **attrs), target)


@pytest.mark.parametrize("target", [AVX512, AVX2, BASELINE, NEON], ids=lambda t: t.name)
def test_code_for_every_target(target: Target) -> None:
    compiles(SoftmaxKernel(), layer("Softmax", (3, 100)), target)
    compiles(NormalizationKernel(), layer("LayerNormalization", (3, 100), random(100), random(100)), target)
    compiles(LrnKernel(), layer("LRN", (1, 40, 20, 20), window=5), target)
    compiles(ArgReduceKernel(), layer("ArgReduce", (3, 100), axis=1), target)
    compiles(ArgReduceKernel(), layer("ArgReduce", (3, 100), axis=0), target)
