"""The stated errors of elementary functions, over their whole range, on what can run here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tenonrt
from llvm_judging import REGISTRY, TARGETS, problem_of
from tenonrt.builder.trial import Sample, bind_sample
from tenonrt.contracts import Problem
from tenonrt.plugins.registry import using
from tenonrt.types import Array
from tenonrt_kernel_llvm.pointwise import PointwiseKernel
from tenonrt_kernel_llvm.target import Target

_ERF = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: Array) -> Array:
    return np.asarray(np.where(x < 0, np.exp(-np.abs(x)), 1.0) / (1.0 + np.exp(-np.abs(x))))


# The function in float64, ulp between -10 and 10, and beyond.
FUNCTIONS: dict[str, tuple[Callable[[Array], Array], float, float]] = {
    "sigmoid": (_sigmoid, 4, 7),
    "swish": (lambda x: x * _sigmoid(x), 5, 7),
    "tanh": (np.tanh, 4, 4),
    "erf": (_ERF, 7, 7),
}


def _computed(name: str, x: Array, target: Target, **attributes: float) -> Array:
    layer = "Unary" if name == "erf" else "Activation"
    attrs = {"operation": "erf"} if name == "erf" else {"function": name, **attributes}
    return _run(problem_of(lambda network: network.add(layer, [network.add_input("x", x.shape)], attrs)[0]), x, target)


def _run(problem: Problem, x: Array, target: Target, *others: Array) -> Array:
    kernel, device = PointwiseKernel(), REGISTRY.device("cpu")
    with using(REGISTRY):
        code = kernel.generate(problem, kernel.tactics(problem)[0], target)
        bound = bind_sample(kernel, code, Sample(problem, [x, *others], [np.zeros_like(x)]), device)
        device.bind([bound.launch], 1).run(None)
    return bound.read()[0]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_are_as_stated(name: str, target: Target) -> None:
    exact, inside, beyond = FUNCTIONS[name]
    rng = np.random.default_rng(0)
    grid = [np.linspace(-10, 10, 20001), np.linspace(-86, 86, 20001), rng.standard_normal(9998) * 1e-3]
    x: Any = np.concatenate(grid).astype(np.float32)
    expected = exact(x.astype(np.float64))
    ulp = np.spacing(np.maximum(np.abs(expected), 1.2e-38).astype(np.float32)).astype(np.float64)
    errors = np.abs(_computed(name, x, target) - expected) / ulp
    near = np.abs(x) <= 10
    assert errors[near].max() <= inside
    assert errors[~near].max() <= beyond


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_extremes(target: Target) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 200, -200, 0.0], np.float32)
    infinity = np.float32(np.inf)
    wanted: dict[str, list[Any]] = {
        "sigmoid": [np.nan, 1, 0, 1, 0, 1, 0, 0.5],
        "swish": [np.nan, infinity, None, 1e30, None, 200, 0, 0],
        "tanh": [np.nan, 1, -1, 1, -1, 1, -1, 0],
        "erf": [np.nan, 1, -1, 1, -1, 1, -1, 0],
    }
    for name, values in wanted.items():
        found = _computed(name, x, target).tolist()
        for given, value in zip(found, values, strict=True):
            if value is not None:  # the product of a huge number and a tiny one
                np.testing.assert_allclose(given, np.float32(value), rtol=1e-6, atol=1e-35, err_msg=name)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
@pytest.mark.parametrize("alpha", [1.702, -2.0, 1e-3, 0.0, 1e-38])
def test_steeper_and_flatter_swish(alpha: float, target: Target) -> None:
    x = np.linspace(-30, 30, 4001).astype(np.float32)
    wide = x.astype(np.float64)
    found, expected = _computed("swish", x, target, alpha=alpha), wide * _sigmoid(alpha * wide)
    np.testing.assert_allclose(found, expected, rtol=5e-6, atol=1e-30)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
@pytest.mark.parametrize("again", [False, True])
def test_products_with_their_own_sigmoid(again: bool, target: Target) -> None:
    """As two layers: `fuse.swish` joins those whose sigmoid nothing else reads."""
    extremes = [np.nan, np.inf, 1e30, 200, -200, -0.0]
    x = np.concatenate([np.linspace(-30, 30, 4001), extremes]).astype(np.float32)

    def define(network: tenonrt.Network) -> Any:
        y = network.add_input("x", x.shape)
        gate = network.add_activation(y, function="sigmoid")
        product = network.add_elementwise(y, gate, operation="prod")
        return network.add_elementwise(product, gate, operation="sum") if again else product

    gate = _sigmoid(x.astype(np.float64))
    expected = x * gate + (gate if again else 0.0)
    np.testing.assert_allclose(_run(problem_of(define), x, target), expected, rtol=1e-6, atol=1e-7 if again else 1e-34)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_powers_at_extremes(target: Target) -> None:
    """As IEEE's pow, the C library's: one to the power of NaN, say, is one."""
    if target.name == "x86_64":
        pytest.skip("rounding down needs SSE4.1")
    values = np.array([np.nan, np.inf, -np.inf, 0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, 1.5, 1e-30], np.float32)
    base, exponent = (np.ascontiguousarray(a.reshape(-1)) for a in np.meshgrid(values, values))

    def define(network: tenonrt.Network) -> Any:
        operands = [network.add_input(name, base.shape) for name in ("base", "exponent")]
        return network.add_elementwise(*operands, operation="pow")

    with np.errstate(all="ignore"):
        expected = np.power(base.astype(np.float64), exponent.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(_run(problem_of(define), base, target, exponent), expected, 1e-5, atol=1e-37)
