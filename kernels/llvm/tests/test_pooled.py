"""Means over images as second results of depthwise convolutions, against the layers' references, for every target."""

from __future__ import annotations

from typing import Any

import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from llvm_judging import REGISTRY, TARGETS, judge, weights, with_tail
from tenonrt.builder.regions import make_region, pose
from tenonrt.contracts import Problem
from tenonrt.plugins.registry import using
from tenonrt_kernel_llvm.contraction.depthwise import DepthwiseConvolution
from tenonrt_kernel_llvm.contraction.expanded import ExpandedConvolution
from tenonrt_kernel_llvm.target import Target


def excited(
    image: tuple[Any, ...], window: int, stride: int, tail: str, expands: bool, pooling: bool
) -> tenonrt.Network:
    """A depthwise convolution, alone or after one of 1x1, and the mean of its images, which gates them."""
    network, axes = tenonrt.Network("excited"), len(image) - 2
    x = network.add_input("x", image)
    if expands:
        x = with_tail(network, network.add_convolution(x, weights(40, image[1], *(1,) * axes), weights(40)), "silu")
    channels, padding = x.type.shape[1], (window // 2,) * axes
    y = network.add_convolution(
        x, weights(channels, 1, *(window,) * axes), weights(channels), groups=channels, stride=(stride,) * axes,
        pre_padding=padding, post_padding=padding,
    )  # fmt: skip
    y = with_tail(network, y, tail)
    if pooling:
        mean = network.add_pooling(y, function="average", window=y.type.shape[2:])
    else:
        mean = network.add_reduce(y, operation="mean", axes=tuple(range(-axes, 0)))
    network.mark_output(network.add_elementwise(y, mean, operation="prod"), "y")
    network.mark_output(mean, "mean")
    return network


def posed(network: tenonrt.Network, left_out: int = 0) -> Problem:
    """The problem of a network's layers, without the last so many."""
    layers = network.graph.layers
    return pose(make_region(network.graph, layers[: len(layers) - left_out]), "cpu", 2).problem


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@settings(max_examples=8, deadline=None)
@given(
    axes=st.sampled_from((1, 2, 2)), batch=st.integers(1, 2), channels=st.sampled_from((8, 16, 40)),
    size=st.integers(5, 19), window=st.sampled_from((1, 3, 5)), stride=st.integers(1, 2),
    tail=st.sampled_from(("none", "silu", "scale", "sum")), expands=st.booleans(), pooling=st.booleans(),
)  # fmt: skip
def test_means_of_any_shape(
    target: Target, axes: int, batch: int, channels: int, size: int, window: int, stride: int, tail: str,
    expands: bool, pooling: bool,
) -> None:  # fmt: skip
    network = excited((batch, channels, size, size + 1)[: 2 + axes], window, stride, tail, expands, pooling)
    judge(ExpandedConvolution() if expands else DepthwiseConvolution(), posed(network, left_out=1), target)


@pytest.mark.parametrize("expands", [False, True])
def test_the_batch_is_known_at_run_time(expands: bool) -> None:
    network = excited((tenonrt.symbol("N", 1, 8), 16, 7, 7), 3, 1, "silu", expands, pooling=False)
    kernel, problem = ExpandedConvolution() if expands else DepthwiseConvolution(), posed(network, left_out=1)
    assert kernel.supports(problem).runtime_symbols == "all"
    judge(kernel, problem, TARGETS[0], (1, 3))


@pytest.mark.parametrize(("kernel", "expands"), [(DepthwiseConvolution(), False), (ExpandedConvolution(), True)])
def test_means_are_found_where_the_image_is_read_elsewhere(kernel: Any, expands: bool) -> None:
    network = excited((1, 16, 8, 8), 3, 1, "silu", expands, pooling=False)
    layer = next(layer for layer in network.graph.layers if layer.kind == "Convolution")
    with using(REGISTRY):
        assert {region[-1].kind for region in kernel.regions(network.graph, layer)} == {"Elementwise", "Reduce"}


def test_other_reductions_are_left_to_others() -> None:
    network = tenonrt.Network("other")
    y = network.add_convolution(network.add_input("x", (1, 16, 8, 8)), weights(16, 1, 3, 3), groups=16)
    network.mark_output(y, "y")
    network.mark_output(network.add_reduce(y, operation="max", axes=(2, 3)), "most")
    support = DepthwiseConvolution().supports(posed(network))
    assert not support.ok
    assert "wanted outside" in support.why
