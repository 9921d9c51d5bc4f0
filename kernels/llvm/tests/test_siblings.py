"""Siblings computed as one: every output equals what its layer's float64 reference gives, wherever blocks fall."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from llvm_judging import REGISTRY, TARGETS, judge
from tenonrt.builder.config import BuilderConfig
from tenonrt.builder.offers import Offers
from tenonrt.builder.regions import make_region, pose
from tenonrt.contracts import Problem
from tenonrt.plugins.hooks import Hooks
from tenonrt_kernel_llvm.contraction.direct import DirectConvolution
from tenonrt_kernel_llvm.contraction.fully_connected import FullyConnectedKernel
from tenonrt_kernel_llvm.siblings import parts_of
from tenonrt_kernel_llvm.target import Target

FEW = settings(max_examples=4, deadline=None)
CHANNELS = st.lists(st.sampled_from((1, 7, 16, 24, 48, 64)), min_size=2, max_size=4)
TAILS = ("none", "relu", "scale", "residual")


def weights(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def tailed(network: tenonrt.Network, y: Any, tail: str, axis: int) -> Any:
    if tail == "relu":
        return network.add_activation(y, function="relu")
    if tail == "scale":
        shape = [1] * y.type.rank
        shape[axis] = y.type.shape[axis]
        return network.add_elementwise(y, weights(*shape), operation="prod")
    if tail == "residual":
        other = network.add_input(f"other {y.name}", y.type.shape)
        return network.add_elementwise(other, y, operation="sum")
    return y


def posed(network: tenonrt.Network) -> Problem:
    return pose(make_region(network.graph, network.graph.layers), "cpu", 2).problem


def convolutions(image: tuple[int, ...], counts: list[int], window: int, tails: list[str], **attrs: Any) -> Problem:
    network = tenonrt.Network("siblings")
    x = network.add_input("x", image)
    for number, (count, tail) in enumerate(zip(counts, tails, strict=True)):
        bias = [weights(count)] if number % 2 else []
        y = network.add_convolution(x, weights(count, image[1], window, window), *bias, **attrs)
        network.mark_output(tailed(network, y, tail, 1), f"y{number}")
    return posed(network)


def products(rows: int, depth: int, counts: list[int], tails: list[str]) -> Problem:
    network = tenonrt.Network("siblings")
    x = network.add_input("x", (1, rows, depth))
    for number, (count, tail) in enumerate(zip(counts, tails, strict=True)):
        y = network.add_fully_connected(x, weights(count, depth), *([weights(count)] if number % 2 else []))
        network.mark_output(tailed(network, y, tail, 2), f"y{number}")
    return posed(network)


@st.composite
def sibling_convolutions(draw: st.DrawFn) -> Problem:
    counts, window = draw(CHANNELS), draw(st.sampled_from((1, 1, 3)))
    tails = [draw(st.sampled_from(TAILS)) for _ in counts]
    image = (
        draw(st.integers(1, 2)),
        draw(st.sampled_from((3, 16, 24))),
        draw(st.integers(3, 9)),
        draw(st.integers(3, 9)),
    )
    return convolutions(image, counts, window, tails, stride=(draw(st.integers(1, 2)),) * 2)


@pytest.mark.parametrize("target", TARGETS[:2], ids=lambda t: t.name)
@FEW
@given(problem=sibling_convolutions())
def test_sibling_convolutions_of_any_shape(target: Target, problem: Problem) -> None:
    judge(DirectConvolution(), problem, target)


def test_a_constant_beside_a_result_of_one_element() -> None:
    """It was refused as a constant as large as the result."""
    judge(DirectConvolution(), convolutions((1, 3, 3, 3), [1, 1], 3, ["none", "scale"]), TARGETS[0])


@pytest.mark.parametrize("target", TARGETS[:2], ids=lambda t: t.name)
@FEW
@given(counts=CHANNELS, rows=st.integers(2, 40), depth=st.sampled_from((5, 33, 64)), data=st.data())
def test_sibling_products_of_any_shape(target: Target, counts: list[int], rows: int, depth: int, data: Any) -> None:
    tails = [data.draw(st.sampled_from(TAILS)) for _ in counts]
    judge(FullyConnectedKernel(), products(rows, depth, counts, tails), target)


def test_deep_siblings_are_cut_into_pieces() -> None:
    problem = convolutions((1, 832, 7, 7), [40, 16, 24], 1, ["relu", "none", "relu"])
    assert any(key.startswith("k") for key in judge(DirectConvolution(), problem, TARGETS[0]))
    assert any(
        key.startswith("k")
        for key in judge(FullyConnectedKernel(), products(64, 1600, [40, 16], ["none"] * 2), TARGETS[0])
    )


def test_parts_are_found_whatever_the_order_of_layers() -> None:
    network = tenonrt.Network("interleaved")
    x = network.add_input("x", (1, 3, 4, 4))
    first, second = (network.add_convolution(x, weights(count, 3, 1, 1)) for count in (4, 5))
    for number, y in enumerate((second, first)):
        network.mark_output(network.add_activation(y, function="relu"), f"y{number}")
    parts = parts_of(posed(network))
    assert [part.kinds for part in parts] == [("Convolution", "Activation")] * 2
    assert [part.types[part.outputs[0]].shape[1] for part in parts] == [4, 5]


def test_what_differs_is_refused_with_a_reason() -> None:
    network = tenonrt.Network("unlike")
    x = network.add_input("x", (1, 8, 6, 6))
    network.mark_output(network.add_convolution(x, weights(8, 8, 1, 1)), "a")
    network.mark_output(network.add_convolution(x, weights(8, 8, 3, 3)), "b")
    support = DirectConvolution().supports(posed(network))
    assert not support.ok
    assert "equal windows" in support.why


def names(network: tenonrt.Network, **config: Any) -> set[str]:
    """The regions that the convolution kernel is asked for."""
    offers = Offers(network.graph, REGISTRY, BuilderConfig(**config), Hooks(REGISTRY))
    found = {o.posed.region.name for layer in network.graph.layers for o in offers.at(layer)}
    return {name for name in found if "||" in name}


def branches() -> tenonrt.Network:
    network = tenonrt.Network("branches")
    x = network.add_input("x", (1, 16, 8, 8))
    for name in "abc":
        y = network.add_convolution(x, weights(16, 16, 1, 1), name=name)
        network.mark_output(network.add_activation(y, function="relu", name=f"relu_{name}"), f"y{name}")
    network.mark_output(network.add_convolution(x, weights(16, 16, 3, 3), name="d"), "yd")
    return network


def test_every_set_of_siblings_is_a_candidate_named_from_its_parts() -> None:
    found = names(branches())
    assert "a + relu_a || b + relu_b || c + relu_c" in found
    assert {"a + relu_a || b + relu_b", "a + relu_a || c + relu_c", "b + relu_b || c + relu_c"} <= found
    assert not any("d" in name.split(" ") for name in found)


def test_aggregation_can_be_disabled() -> None:
    assert names(branches(), disable=frozenset({"aggregation"})) == set()


def test_a_residual_sum_of_two_siblings_stays_outside() -> None:
    network = tenonrt.Network("residual")
    x = network.add_input("x", (1, 16, 8, 8))
    inner = network.add_activation(
        network.add_convolution(x, weights(16, 16, 1, 1), name="a"), function="relu", name="r"
    )
    outer = network.add_convolution(inner, weights(16, 16, 3, 3), pre_padding=(1, 1), post_padding=(1, 1), name="b")
    skip = network.add_convolution(x, weights(16, 16, 1, 1), name="skip")
    network.mark_output(network.add_elementwise(outer, skip, operation="sum", name="sum"), "y")
    assert names(network) == {"a + r || skip"}
