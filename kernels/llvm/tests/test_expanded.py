"""A convolution with the depthwise one after it, of any shape, against the layers' references, for every target."""

from __future__ import annotations

from typing import Any

import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from llvm_judging import TARGETS, compiles, judge, problem_of, weights, with_tail
from tenonrt.contracts import Problem
from tenonrt_kernel_llvm.contraction.expanded import ExpandedConvolution
from tenonrt_kernel_llvm.target import NEON, Target


def pair(
    image: tuple[int, ...], middle: int, windows: tuple[int, int], strides: tuple[int, int], dilation: int,
    paddings: tuple[int, int], tails: tuple[str, str],
) -> Problem:  # fmt: skip
    """A convolution of `image` to `middle` channels, then one filter for each of them."""
    axes = len(image) - 2

    def define(network: tenonrt.Network) -> Any:
        x = network.add_input("x", image)
        first = network.add_convolution(
            x, weights(middle, image[1], *(windows[0],) * axes), weights(middle),
            stride=(strides[0],) * axes, pre_padding=(paddings[0],) * axes, post_padding=(paddings[0],) * axes,
        )  # fmt: skip
        second = network.add_convolution(
            with_tail(network, first, tails[0]), weights(middle, 1, *(windows[1],) * axes), weights(middle),
            groups=middle, stride=(strides[1],) * axes, dilation=(dilation,) * axes,
            pre_padding=(paddings[1],) * axes, post_padding=(paddings[1],) * axes,
        )  # fmt: skip
        if tails[1] == "own":
            return network.add_elementwise(x, second, operation="sum")
        return with_tail(network, second, tails[1])

    return problem_of(define)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@settings(max_examples=12, deadline=None)
@given(
    axes=st.sampled_from((1, 2, 2)), batch=st.integers(1, 2), channels=st.sampled_from((3, 16, 24)),
    middle=st.sampled_from((8, 16, 40, 96)), size=st.integers(9, 16),
    windows=st.tuples(st.sampled_from((1, 1, 3)), st.integers(1, 5)),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 2)), dilation=st.integers(1, 2),
    paddings=st.tuples(st.integers(0, 1), st.integers(0, 2)),
    tails=st.tuples(st.sampled_from(("none", "silu", "scale", "prelu")), st.sampled_from(("relu", "silu", "sum"))),
)  # fmt: skip
def test_pairs_of_any_shape(
    target: Target, axes: int, batch: int, channels: int, middle: int, size: int, windows: tuple[int, int],
    strides: tuple[int, int], dilation: int, paddings: tuple[int, int], tails: tuple[str, str],
) -> None:  # fmt: skip
    between = (size + 2 * paddings[0] - windows[0]) // strides[0] + 1
    dilation = dilation if between + 2 * paddings[1] > (windows[1] - 1) * dilation else 1
    if between + 2 * paddings[1] < windows[1]:
        windows = (windows[0], 1)
    image = (batch, channels, size, size + 1)[: 2 + axes]
    judge(ExpandedConvolution(), pair(image, middle, windows, strides, dilation, paddings, tails), target)


def test_a_tail_reads_few_channels_that_are_convolved() -> None:
    """They cannot be read plane by plane and in blocks, too."""
    judge(ExpandedConvolution(), pair((1, 8, 9, 10), 8, (1, 3), (1, 1), 1, (0, 1), ("none", "own")), TARGETS[0])


def test_every_tactic_compiles_for_another_machine() -> None:
    problem = pair((1, 16, 14, 14), 96, (1, 3), (1, 2), 1, (0, 1), ("silu", "silu"))
    compiles(ExpandedConvolution(), problem, NEON)


def test_pairs_are_found_with_what_lies_between() -> None:
    network = tenonrt.Network("pairs")
    x = network.add_input("x", (1, 16, 8, 8))
    first = network.add_convolution(x, weights(32, 16, 1, 1))
    active = network.add_activation(first, function="relu")
    second = network.add_convolution(active, weights(32, 1, 3, 3), groups=32)
    network.mark_output(network.add_activation(second, function="relu"), "y")
    layers = network.graph.layers
    assert [list(r) for r in ExpandedConvolution().regions(network.graph, layers[0])] == [list(layers)]


def test_what_lies_between_may_not_be_wanted_elsewhere() -> None:
    network = tenonrt.Network("pairs")
    x = network.add_input("x", (1, 16, 8, 8))
    first = network.add_convolution(x, weights(32, 16, 1, 1))
    network.mark_output(network.add_convolution(first, weights(32, 1, 3, 3), groups=32), "y")
    network.mark_output(first, "z")
    assert list(ExpandedConvolution().regions(network.graph, network.graph.layers[0])) == []
