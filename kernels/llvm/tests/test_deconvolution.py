"""Transposed convolutions of random shapes against the float64 reference, for every target that runs here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from llvm_judging import TARGETS, compiles, judge, problem_of
from tenonrt.contracts import Problem
from tenonrt_kernel_llvm.contraction.deconvolution import DepthwiseTransposedConvolution, TransposedConvolution
from tenonrt_kernel_llvm.contraction.transposed import parts_of
from tenonrt_kernel_llvm.target import AVX2, AVX512, BASELINE, NEON, Target

FEW = settings(max_examples=3, deadline=None)


def deconvolution(
    image: tuple[Any, ...], outputs: int, window: tuple[int, ...], tail: str = "none", **attrs: Any
) -> Problem:
    rng = np.random.default_rng(0)

    def define(network: tenonrt.Network) -> Any:
        x = network.add_input("x", image)
        dense = rng.standard_normal((image[1], outputs // attrs.get("groups", 1), *window)).astype(np.float32)
        bias = rng.standard_normal(outputs).astype(np.float32)
        y = network.add("Deconvolution", [x, dense, bias if tail != "no bias" else None], attrs)[0]
        if tail == "relu":
            return network.add_activation(y, function="relu")
        if tail == "residual":
            return network.add_elementwise(network.add_input("other", y.type.shape), y, operation="sum")
        return network.add_elementwise(x, y, operation="sum") if tail == "own" else y

    return problem_of(define)


@st.composite
def deconvolutions(draw: st.DrawFn) -> Problem:
    axes = draw(st.sampled_from((1, 2, 2)))
    window = tuple(draw(st.integers(1, 5)) for _ in range(axes))
    stride = tuple(draw(st.integers(1, 3)) for _ in range(axes))
    image = tuple(draw(st.integers(1, 9)) for _ in range(axes))
    mode = draw(st.sampled_from(("explicit", "explicit", "same_upper", "same_lower")))
    attrs: dict[str, Any] = {"padding_mode": mode, "dilation": tuple(draw(st.integers(1, 2)) for _ in range(axes))}
    if mode == "explicit":
        attrs["pre_padding"] = tuple(draw(st.integers(0, min(2, w - 1))) for w in window)
        attrs["output_padding"] = tuple(draw(st.integers(0, s - 1)) for s in stride)
    shape = (draw(st.integers(1, 2)), draw(st.sampled_from((1, 3, 16, 24))), *image)
    tail = draw(st.sampled_from(("none", "relu", "residual", "no bias")))
    return deconvolution(shape, draw(st.sampled_from((1, 8, 33))), window, tail, stride=stride, **attrs)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@FEW
@given(problem=deconvolutions())
def test_deconvolutions_of_any_shape(target: Target, problem: Problem) -> None:
    judge(TransposedConvolution(), problem, target)


@pytest.mark.parametrize("target", TARGETS[:1], ids=lambda t: t.name)
@FEW
@given(
    channels=st.integers(2, 40), size=st.integers(1, 12), window=st.integers(1, 6), stride=st.integers(1, 4),
    padding=st.integers(0, 1), tail=st.sampled_from(("none", "relu", "residual")),
)  # fmt: skip
def test_a_filter_for_each_channel(
    target: Target, channels: int, size: int, window: int, stride: int, padding: int, tail: str
) -> None:
    least = (size - 1) * stride + window - 2 * padding
    problem = deconvolution(
        (2, channels, size, size + 2), channels, (window, window), tail, groups=channels, stride=(stride, stride),
        pre_padding=(padding if least > 0 else 0,) * 2,
    )  # fmt: skip
    judge(DepthwiseTransposedConvolution(), problem, target)


@pytest.mark.parametrize("target", TARGETS[:1], ids=lambda t: t.name)
@pytest.mark.parametrize(("groups", "channels", "outputs"), [(2, 32, 64), (8, 32, 32)])
def test_groups_fall_on_blocks(target: Target, groups: int, channels: int, outputs: int) -> None:
    problem = deconvolution(
        (1, channels, 5, 4), outputs, (4, 4), "relu", groups=groups, stride=(2, 2), pre_padding=(1, 1)
    )
    judge(TransposedConvolution(), problem, target)


def test_the_size_that_is_wanted() -> None:
    for shape in ((8, 7), (9, 9), (5, 4)):
        judge(
            TransposedConvolution(),
            deconvolution((1, 3, 4, 4), 2, (3, 3), stride=(2, 2), output_shape=shape),
            TARGETS[0],
        )


def test_places_that_no_tap_reaches_hold_the_bias() -> None:
    problem = deconvolution((1, 16, 4, 4), 16, (1, 2), stride=(3, 4))
    assert any(not part.taps[0] for part in parts_of(problem))
    judge(TransposedConvolution(), problem, TARGETS[0])


def test_the_batch_is_known_at_run_time() -> None:
    problem = deconvolution((tenonrt.symbol("N", 1, 8), 20, 5, 6), 24, (4, 4), "residual", stride=(2, 2))
    assert TransposedConvolution().supports(problem).runtime_symbols == "all"
    judge(TransposedConvolution(), problem, TARGETS[0], (1, 3))


def test_a_tail_reads_few_channels_that_are_convolved() -> None:
    """They cannot be read plane by plane and in blocks, too."""
    problem = deconvolution((2, 5, 5, 6), 5, (3, 3), "own", pre_padding=(1, 1), post_padding=(1, 1))
    judge(TransposedConvolution(), problem, TARGETS[0])


def test_too_many_parts_are_refused() -> None:
    problem = deconvolution((1, 2, 3, 3), 2, (20, 20), stride=(10, 10))
    assert "100 parts" in TransposedConvolution().supports(problem).why


@pytest.mark.parametrize("target", [AVX512, AVX2, BASELINE, NEON], ids=lambda t: t.name)
def test_every_target_compiles(target: Target) -> None:
    compiles(TransposedConvolution(), deconvolution((1, 24, 5, 5), 16, (2, 2), "relu", stride=(2, 2)), target)
    image = (1, 24, 5, 5)
    compiles(DepthwiseTransposedConvolution(), deconvolution(image, 24, (4, 4), groups=24, stride=(2, 2)), target)
