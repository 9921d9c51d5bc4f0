"""bfloat16 convolutions and products: against the float64 reference, and against float64 sums of rounded operands."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from llvm_judging import REGISTRY, judge
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.trial import Sample, bind_sample
from tenonrt.contracts import Problem
from tenonrt.plugins.registry import using
from tenonrt_kernel_llvm.contraction.bfloat16 import Bfloat16Convolution, Bfloat16Product
from tenonrt_kernel_llvm.kernel import LlvmKernel
from tenonrt_kernel_llvm.target import AVX512, bfloat16_targets

FEW = settings(max_examples=10, deadline=None)
pytestmark = pytest.mark.skipif(not bfloat16_targets(), reason="this processor does not multiply bfloat16")


def weights(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def posed(network: tenonrt.Network) -> Problem:
    return pose(make_region(network.graph, network.graph.layers), "cpu", 2).problem


def convolution(
    image: tuple[int, ...], counts: list[int], window: tuple[int, int], relu: bool, **attrs: Any
) -> Problem:
    network = tenonrt.Network("convolution")
    x = network.add_input("x", image)
    for number, count in enumerate(counts):
        y = network.add_convolution(x, weights(count, image[1], *window), weights(count), **attrs)
        network.mark_output(network.add_activation(y, function="relu") if relu else y, f"y{number}")
    return posed(network)


def product(rows: int, depth: int, counts: list[int], relu: bool = False) -> Problem:
    network = tenonrt.Network("product")
    x = network.add_input("x", (rows, depth))
    for number, count in enumerate(counts):
        y = network.add_fully_connected(x, weights(count, depth), weights(count))
        network.mark_output(network.add_activation(y, function="relu") if relu else y, f"y{number}")
    return posed(network)


@st.composite
def convolutions(draw: st.DrawFn) -> Problem:
    window = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    least = [(w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
    size = [draw(st.integers(n, n + 18)) for n in least]
    return convolution(
        (draw(st.integers(1, 2)), draw(st.sampled_from((16, 24, 32, 48, 80))), *size),
        draw(st.lists(st.sampled_from((8, 16, 40, 64)), min_size=1, max_size=2)), window, draw(st.booleans()),
        stride=(draw(st.integers(1, 3)), draw(st.integers(1, 3))), dilation=dilation,
        pre_padding=(draw(st.integers(0, 2)), draw(st.integers(0, 2))),
        post_padding=(draw(st.integers(0, 2)), draw(st.integers(0, 2))),
    )  # fmt: skip


@FEW
@given(problem=convolutions())
def test_convolutions_of_any_shape(problem: Problem) -> None:
    judge(Bfloat16Convolution(), problem, AVX512)
    assert deviation(Bfloat16Convolution(), problem) < 3e-5


@FEW
@given(
    rows=st.integers(1, 50),
    depth=st.sampled_from((32, 33, 50, 96)),
    counts=st.lists(st.sampled_from((1, 16, 33, 70)), min_size=1, max_size=3),
    relu=st.booleans(),
)
def test_products_of_any_shape(rows: int, depth: int, counts: list[int], relu: bool) -> None:
    problem = product(rows, depth, counts, relu)
    judge(Bfloat16Product(), problem, AVX512)
    assert deviation(Bfloat16Product(), problem) < 3e-5


def rounded(values: Any) -> Any:
    return values.astype(ml_dtypes.bfloat16).astype(np.float64)


def deviation(kernel: LlvmKernel, problem: Problem) -> float:
    """Max |y - ref| over max |ref|; the reference sums float64 products of operands rounded to bfloat16."""
    worst, device = 0.0, REGISTRY.device("cpu")
    with using(REGISTRY):
        sample = Sample.draw(problem, REGISTRY.layer_type, 2, 3)
        read = {layer.inputs[k] for layer in problem.layers for k in (0, 1) if len(layer.inputs) > 1}
        inputs = [rounded(a) if i in read else a.astype(np.float64) for i, a in enumerate(sample.inputs)]
        values = dict(enumerate(inputs))
        for layer in sample.problem.layers:
            given_arrays = [values[i] for i in layer.inputs]
            made = REGISTRY.layer_type(layer.kind).reference(layer.attrs, given_arrays, None)  # type: ignore[arg-type]
            values.update(zip(layer.outputs, made, strict=True))
        for tactic in kernel.tactics(problem):
            bound = bind_sample(kernel, kernel.compile(problem, tactic), sample, device)
            device.bind([bound.launch], 2).run(None)
            for number, found in zip(problem.outputs, bound.read(), strict=True):
                worst = max(
                    worst, float(np.abs(found - values[number]).max() / max(np.abs(values[number]).max(), 1e-30))
                )
    return worst


def test_infinities_and_nans_pass_through() -> None:
    problem = product(4, 64, [16])
    kernel, device = Bfloat16Product(), REGISTRY.device("cpu")
    with using(REGISTRY):
        sample = Sample.draw(problem, REGISTRY.layer_type, 1, 0)
        sample.inputs[0][1, 5], sample.inputs[0][2, 7] = np.inf, np.nan
        for tactic in kernel.tactics(problem):
            bound = bind_sample(kernel, kernel.compile(problem, tactic), sample, device)
            device.bind([bound.launch], 1).run(None)
            (found,) = bound.read()
            assert np.isfinite(found[[0, 3]]).all()
            assert np.isinf(found[1]).all()
            assert np.isnan(found[2]).all()


def test_what_cannot_be_multiplied_in_steps_is_refused() -> None:
    assert "channels" in Bfloat16Convolution().supports(convolution((1, 3, 9, 9), [16], (3, 3), False)).why
    assert "products" in Bfloat16Product().supports(product(4, 8, [16])).why


def test_it_is_refused_for_targets_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENONRT_LLVM_TARGET", "avx2")
    assert "does not multiply bfloat16" in Bfloat16Product().supports(product(4, 64, [16])).why
