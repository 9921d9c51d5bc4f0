"""Convolutions and products of random shapes against the float64 reference, for every target that runs here."""

from __future__ import annotations

from typing import Any

import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from llvm_judging import TARGETS, compiles, judge, problem_of, weights, with_tail
from tenonrt.contracts import Problem
from tenonrt_kernel_llvm.contraction.depthwise import DepthwiseConvolution
from tenonrt_kernel_llvm.contraction.direct import DirectConvolution
from tenonrt_kernel_llvm.contraction.direct_recipes import recipes
from tenonrt_kernel_llvm.contraction.fully_connected import FullyConnectedKernel
from tenonrt_kernel_llvm.contraction.gated import GatedConvolution
from tenonrt_kernel_llvm.contraction.geometry import geometry_of
from tenonrt_kernel_llvm.contraction.tiles import divide, padded_runs
from tenonrt_kernel_llvm.target import AVX2, AVX512, BASELINE, NEON, Target

FEW = settings(max_examples=12, deadline=None)
TAILS = ("none", "relu", "silu", "residual", "scale", "prelu")


def convolution(
    image: tuple[Any, ...], outputs: int, window: tuple[int, ...], tail: str = "none", bias: bool = True, **attrs: Any
) -> Problem:
    def define(network: tenonrt.Network) -> Any:
        x = network.add_input("x", image)
        kernel = weights(outputs, image[1] // attrs.get("groups", 1), *window)
        y = network.add_convolution(x, kernel, *([weights(outputs)] if bias else []), **attrs)
        return with_tail(network, y, tail)

    return problem_of(define)


@st.composite
def convolutions(draw: st.DrawFn) -> Problem:
    axes = draw(st.sampled_from((1, 2, 2)))
    window = tuple(draw(st.integers(1, 4)) for _ in range(axes))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(axes))
    least = [(w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
    image = tuple(draw(st.integers(n, n + 14)) for n in least)
    return convolution(
        (draw(st.integers(1, 2)), draw(st.sampled_from((1, 3, 16, 24, 33))), *image),
        draw(st.sampled_from((1, 8, 16, 40, 64))), window, draw(st.sampled_from(TAILS)), draw(st.booleans()),
        stride=tuple(draw(st.integers(1, 3)) for _ in range(axes)), dilation=dilation,
        pre_padding=tuple(draw(st.integers(0, 2)) for _ in range(axes)),
        post_padding=tuple(draw(st.integers(0, 2)) for _ in range(axes)),
    )  # fmt: skip


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@FEW
@given(problem=convolutions())
def test_direct_convolutions_of_any_shape(target: Target, problem: Problem) -> None:
    judge(DirectConvolution(), problem, target)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize(("groups", "channels", "outputs"), [(8, 32, 32), (4, 64, 128), (2, 32, 64), (16, 16, 16)])
def test_groups_fall_on_blocks(target: Target, groups: int, channels: int, outputs: int) -> None:
    problem = convolution((2, channels, 7, 9), outputs, (3, 3), "relu", groups=groups, pre_padding=(1, 1))
    judge(DirectConvolution(), problem, target)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@FEW
@given(
    channels=st.integers(2, 40), size=st.integers(5, 20), window=st.integers(1, 5), stride=st.integers(1, 2),
    padding=st.integers(0, 2), tail=st.sampled_from(TAILS),
)  # fmt: skip
def test_depthwise_convolutions(
    target: Target, channels: int, size: int, window: int, stride: int, padding: int, tail: str
) -> None:
    problem = convolution(
        (1, channels, size, size + 1), channels, (window, window), tail, groups=channels, stride=(stride, stride),
        pre_padding=(padding, padding), post_padding=(padding, 0),
    )  # fmt: skip
    judge(DepthwiseConvolution(), problem, target)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize(
    ("image", "gates"), [((1, 16, 1, 1), 1), ((2, 40, 5, 7), 2), ((2, 33, 6, 5), 1), ((1, 70, 12, 12), 1)]
)
def test_gates_before_a_convolution(target: Target, image: tuple[int, ...], gates: int) -> None:
    def define(network: tenonrt.Network) -> Any:
        x, gate = network.add_input("x", image), network.add_input("gate", (gates, image[1], 1, 1))
        gated = network.add_elementwise(x, gate, operation="prod")
        y = network.add_convolution(gated, weights(24, image[1], 1, 1), weights(24))
        return with_tail(network, y, "residual")

    keys = judge(GatedConvolution(), problem_of(define), target)
    assert any(key.startswith("scaled") for key in keys) == (image[2] > 1)  # weights are then fewer than pixels


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@FEW
@given(
    rows=st.sampled_from(((1,), (5,), (13,), (2, 9), (1, 31))), depth=st.integers(1, 70),
    outputs=st.integers(1, 100), tail=st.sampled_from(("none", "relu", "silu", "residual")),
)  # fmt: skip
def test_fully_connected_layers(target: Target, rows: tuple[int, ...], depth: int, outputs: int, tail: str) -> None:
    def define(network: tenonrt.Network) -> Any:
        x = network.add_input("x", (*rows, depth))
        return with_tail(network, network.add_fully_connected(x, weights(outputs, depth), weights(outputs)), tail)

    judge(FullyConnectedKernel(), problem_of(define), target)


@pytest.mark.parametrize("function", ["gelu", "gelu_tanh", "hard_swish", "softplus", "mish", "elu"])
def test_activations_of_many_sums(function: str) -> None:
    """Many, since a few results near zero would be judged by how near they are."""

    def define(network: tenonrt.Network) -> Any:
        y = network.add_convolution(network.add_input("x", (1, 16, 12, 12)), weights(32, 16, 1, 1), weights(32))
        return network.add_activation(y, function=function)

    judge(DirectConvolution(), problem_of(define), TARGETS[0])


# Channels, outputs, image, window, stride, groups: several strips; pieces that do not divide the depth; a block of 8
# outputs; a flat image; groups of their own depth; one spatial axis.
DEEP = [
    (48, 24, (33, 11), (3, 3), 1, 1),
    (80, 40, (9, 9), (3, 3), 2, 1),
    (528, 8, (15, 15), (1, 1), 2, 1),
    (528, 48, (5, 7), (1, 1), 1, 1),
    (64, 32, (8, 8), (5, 5), 1, 2),
    (288, 16, (64,), (3,), 1, 1),
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize(("channels", "outputs", "image", "window", "stride", "groups"), DEEP)
def test_deep_convolutions_are_cut_into_pieces(
    target: Target, channels: int, outputs: int, image: tuple[int, ...], window: tuple[int, ...], stride: int,
    groups: int,
) -> None:  # fmt: skip
    padding = tuple(w // 2 for w in window)
    problem = convolution(
        (2, channels, *image), outputs, window, "residual", stride=(stride,) * len(image), groups=groups,
        pre_padding=padding, post_padding=padding,
    )  # fmt: skip
    assert any(recipe.order == "k" for recipe in recipes(geometry_of(problem), target))
    judge(DirectConvolution(), problem, target)


def test_deep_products_are_cut_into_pieces() -> None:
    def define(network: tenonrt.Network) -> Any:
        return network.add_fully_connected(network.add_input("x", (250, 1500)), weights(20, 1500), weights(20))

    assert any(key.startswith("k") for key in judge(FullyConnectedKernel(), problem_of(define), TARGETS[0]))


@pytest.mark.parametrize("sizes", [(1, 3), (4, 2)])
def test_the_batch_is_known_at_run_time(sizes: tuple[int, int]) -> None:
    batch = tenonrt.symbol("N", 1, 8)
    problem = convolution((batch, 20, 6, 6), 24, (3, 3), "residual", pre_padding=(1, 1), post_padding=(1, 1))
    assert DirectConvolution().supports(problem).runtime_symbols == "all"
    judge(DirectConvolution(), problem, TARGETS[0], sizes)

    def define(network: tenonrt.Network) -> Any:
        return network.add_fully_connected(network.add_input("x", (batch, 3, 20)), weights(24, 20), weights(24))

    judge(FullyConnectedKernel(), problem_of(define), TARGETS[0], sizes)


def test_a_tail_reads_few_channels_that_are_convolved() -> None:
    """They cannot be read plane by plane and in blocks, too."""

    def define(network: tenonrt.Network) -> Any:
        x = network.add_input("x", (2, 12, 5, 6))
        y = network.add_convolution(x, weights(12, 12, 3, 3), None, pre_padding=(1, 1), post_padding=(1, 1))
        return network.add_elementwise(x, y, operation="max")

    judge(DirectConvolution(), problem_of(define), TARGETS[0])


@pytest.mark.parametrize("shape", [(1, 1, 24), (1, 24)], ids=str)
def test_a_row_of_a_result_that_may_have_but_one(shape: tuple[int, ...]) -> None:
    """A constant for each channel is as large as a result of one row, which is known to be one only when running."""
    rows = tenonrt.symbol("N", 1, 8), tenonrt.symbol("T", 1, 8)

    def define(network: tenonrt.Network) -> Any:
        y = network.add_fully_connected(network.add_input("x", (*rows[: len(shape) - 1], 20)), weights(24, 20))
        return network.add_elementwise(y, weights(*shape), operation="prod")

    judge(FullyConnectedKernel(), problem_of(define), TARGETS[0], (1, 3))


@pytest.mark.parametrize("target", [AVX512, AVX2, BASELINE, NEON], ids=lambda t: t.name)
def test_every_target_compiles(target: Target) -> None:
    compiles(DirectConvolution(), convolution((1, 24, 9, 9), 40, (3, 3), "silu", pre_padding=(1, 1)), target)
    compiles(DepthwiseConvolution(), convolution((1, 24, 9, 9), 24, (3, 3), groups=24), target)


@given(pixels=st.integers(1, 300), width=st.integers(1, 30))
def test_tiles_cover_a_row_once(pixels: int, width: int) -> None:
    parts = divide(pixels, width)
    assert sum(count * size for count, size in parts) == pixels
    assert all(0 < size <= width for _, size in parts)


@given(pixels=st.integers(1, 60), width=st.integers(1, 9), before=st.integers(0, 5), after=st.integers(0, 5))
def test_tiles_at_the_ends_know_their_taps(pixels: int, width: int, before: int, after: int) -> None:
    taps = [(min(before, pixels), pixels), (0, pixels), (0, max(0, pixels - after))]
    runs = padded_runs(pixels, width, taps)
    covered = [run.start + i for run in runs for i in range(run.count * run.width)]
    assert covered == list(range(pixels))
    for run in runs:
        for tap, (a, b) in enumerate(taps):
            inside = [p for p in range(run.width * run.count) if a <= run.start + p < b]
            assert inside == list(run.taps[tap] if run.taps is not None else range(run.width * run.count))
