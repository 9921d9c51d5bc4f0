"""Weights stored as float16: products against float64, what a permission changes, and what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from llvm_judging import TARGETS, compiles, judge, problem_of
from tenonrt import Builder, BuilderConfig, Network, Registry
from tenonrt.contracts import Problem
from tenonrt_kernel_llvm.contraction.half_weights import HalfWeightsProduct
from tenonrt_kernel_llvm.target import AVX2, BASELINE, NEON, Target

KERNEL = "tenonrt-kernel-llvm:cpu/FullyConnected.llvm_half_weights"


def weights(*shape: int, scale: float = 1.0) -> np.ndarray[Any, Any]:
    return (scale * np.random.default_rng(shape).standard_normal(shape)).astype(np.float32)


def posed(rows: tuple[int, ...], depth: int, outputs: tuple[int, ...], relu: bool = False) -> Problem:
    def define(network: tenonrt.Network) -> Any:
        x = network.add_input("x", (*rows, depth))
        found = [network.add_fully_connected(x, weights(count, depth), weights(count)) for count in outputs]
        found = [network.add_activation(y, function="relu") if relu else y for y in found]
        for number, y in enumerate(found[1:]):
            network.mark_output(y, f"y{number}")
        return found[0]

    return problem_of(define)


@pytest.mark.parametrize("target", [t for t in TARGETS if t.converts_half], ids=lambda t: t.name)
@settings(max_examples=5, deadline=None)
@given(
    rows=st.sampled_from(((1,), (5,), (13,), (2, 9))), depth=st.integers(1, 70),
    outputs=st.lists(st.integers(1, 70), min_size=1, max_size=2), relu=st.booleans(),
)  # fmt: skip
def test_products_of_any_shape(
    target: Target, rows: tuple[int, ...], depth: int, outputs: list[int], relu: bool
) -> None:
    judge(HalfWeightsProduct(), posed(rows, depth, tuple(outputs), relu), target)


@pytest.mark.parametrize("target", [AVX2, NEON], ids=lambda t: t.name)
def test_compiles(target: Target) -> None:
    compiles(HalfWeightsProduct(), posed((2,), 40, (30,)), target)


def test_it_is_refused_for_targets_without_conversions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENONRT_LLVM_TARGET", BASELINE.name)
    support = HalfWeightsProduct().supports(posed((1,), 4, (4,)))
    assert not support.ok
    assert "float16" in support.why


def built(scale: float, precision: str) -> tenonrt.Engine:
    network = Network("product", Registry())
    x = network.add_input("x", (1, 512))
    network.mark_output(network.add_fully_connected(x, weights(512, 512, scale=scale)), "y")
    return Builder(BuilderConfig(precision=precision)).build(network)  # type: ignore[arg-type]


def test_a_permission_halves_the_weights_and_is_no_demand() -> None:
    half = {"float32": built(1.0, "float32"), "float16": built(1.0, "float16")}
    offered = {p: {c.kernel for r in e.report.regions for c in r.candidates} for p, e in half.items()}
    assert KERNEL in offered["float16"]
    sizes = {p: sum(array.nbytes for array in e.plan.weights) for p, e in half.items()}
    for precision, engine in half.items():
        (step,) = engine.plan.program.steps
        least = 512 * 512 * (2 if step.kernel == KERNEL else 4)
        assert least <= sizes[precision] < 1.3 * least  # the last tile may be padded


def test_weights_that_float16_cannot_hold_are_left_to_float32() -> None:
    engine = built(1e5, "float16")
    assert KERNEL not in {step.kernel for step in engine.plan.program.steps}
    x = weights(1, 512)
    expected = x.astype(np.float64) @ weights(512, 512, scale=1e5).astype(np.float64).T
    np.testing.assert_allclose(engine.create_context().execute({"x": x})["y"], expected, rtol=1e-3, atol=1e3)
