"""Groups of pointwise layers as one region, and activations in the parts that exporters write, after a product."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from llvm_judging import TARGETS, judge, problem_of
from tenonrt.contracts import GraphView
from tenonrt_kernel_llvm.contraction.fully_connected import FullyConnectedKernel
from tenonrt_kernel_llvm.pointwise import PointwiseKernel
from tenonrt_kernel_llvm.target import Target


def swish(network: tenonrt.Network, x: Any) -> Any:
    return network.add_elementwise(x, network.add_activation(x, function="sigmoid"), operation="prod")


def gelu(network: tenonrt.Network, x: Any) -> Any:
    """0.5 x (1 + erf(x / sqrt 2)), as PyTorch's exporters write it."""
    inner = network.add_elementwise(x, np.float32(np.sqrt(2)).reshape(()), operation="div")
    outer = network.add_elementwise(
        network.add_unary(inner, operation="erf"), np.float32(1).reshape(()), operation="sum"
    )
    return network.add_elementwise(
        network.add_elementwise(x, outer, operation="prod"), np.float32(0.5).reshape(()), operation="prod"
    )


def clip(network: tenonrt.Network, x: Any) -> Any:
    low = network.add_elementwise(x, np.float32(-0.5).reshape(()), operation="max")
    return network.add_elementwise(low, np.float32(1.5).reshape(()), operation="min")


PARTS = {"swish": swish, "gelu": gelu, "clip": clip}


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@settings(max_examples=5, deadline=None)
@given(
    shape=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    parts=st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=2),
)
def test_groups_of_pointwise_layers(target: Target, shape: list[int], parts: list[str]) -> None:
    def define(network: tenonrt.Network) -> Any:
        x, other = network.add_input("x", tuple(shape)), network.add_input("other", (shape[-1],))
        y = network.add_elementwise(x, other, operation="sum")
        for part in parts:
            y = PARTS[part](network, y)
        return network.add_elementwise(y, x, operation="sub")

    judge(PointwiseKernel(), problem_of(define), target)


@pytest.mark.parametrize("part", sorted(PARTS))
def test_activations_in_parts_are_computed_with_the_product(part: str) -> None:
    network = tenonrt.Network("product")
    x = network.add_input("x", (3, 20))
    weights = np.random.default_rng(0).standard_normal((30, 20)).astype(np.float32)
    network.mark_output(PARTS[part](network, network.add_fully_connected(x, weights)), "y")
    graph: GraphView = network.graph
    regions = list(FullyConnectedKernel().regions(graph, network.layers[0]))
    assert len(network.layers) in {len(region) for region in regions}

    def define(made: tenonrt.Network) -> Any:
        return PARTS[part](made, made.add_fully_connected(made.add_input("x", (3, 20)), weights))

    judge(FullyConnectedKernel(), problem_of(define), TARGETS[0])
