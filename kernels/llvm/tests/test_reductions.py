"""Pooling and reductions of random shapes against the float64 reference, for every target that runs here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from llvm_judging import REGISTRY, TARGETS, compiles, judge, problem_of
from tenonrt.builder.trial import Sample, bind_sample
from tenonrt.contracts import Problem, symbol
from tenonrt_kernel_llvm.kernel import LlvmKernel
from tenonrt_kernel_llvm.pooling import PoolingKernel, Slide, pieces, segments
from tenonrt_kernel_llvm.reduce import ReduceKernel
from tenonrt_kernel_llvm.target import AVX2, AVX512, BASELINE, NEON, Target

FEW = settings(max_examples=8, deadline=None, derandomize=True)
EACH_TARGET = pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
OPERATIONS = ("sum", "prod", "max", "min", "mean", "l1", "l2", "log_sum_exp", "sum_square")


def layer(kind: str, shape: tuple[Any, ...], tail: bool = False, **attrs: Any) -> Problem:
    def define(network: tenonrt.Network) -> Any:
        (y,) = network.add(kind, [network.add_input("x", shape)], attrs)
        if not tail:
            return y
        doubled = network.add_elementwise(y, np.float32(2.5), operation="prod")
        return network.add_activation(doubled, function="clip", alpha=-1.0, beta=1.5)

    return problem_of(define)


@st.composite
def poolings(draw: st.DrawFn) -> Problem:
    axes = draw(st.sampled_from((1, 2, 2, 3)))
    window = tuple(draw(st.integers(1, 4)) for _ in range(axes))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(axes))
    extent = [(w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
    image = tuple(draw(st.integers(n, n + (20 if axes < 3 else 5))) for n in extent)
    padding = [tuple(draw(st.integers(0, min(2, n - 1))) for n in extent) for _ in range(2)]
    return layer(
        "Pooling", (draw(st.integers(1, 2)), draw(st.sampled_from((1, 3, 16, 35))), *image), draw(st.booleans()),
        function=draw(st.sampled_from(("max", "average", "lp"))), window=window, dilation=dilation,
        stride=tuple(draw(st.integers(1, 3)) for _ in range(axes)),
        pre_padding=padding[0], post_padding=padding[1], ceil=draw(st.booleans()),
        count_includes_padding=draw(st.booleans()),
    )  # fmt: skip


@EACH_TARGET
@FEW
@given(problem=poolings())
def test_pooling_of_any_window(target: Target, problem: Problem) -> None:
    judge(PoolingKernel(), problem, target)


@pytest.mark.parametrize("function", ["max", "average"])
def test_windows_too_long_to_unroll(function: str) -> None:
    attrs = {"window": (3, 21), "pre_padding": (1, 10), "post_padding": (1, 10), "stride": (2, 1)}
    judge(PoolingKernel(), layer("Pooling", (1, 18, 9, 40), function=function, **attrs), TARGETS[0])


def test_a_window_over_channels_made_an_axis() -> None:
    problem = layer("Pooling", (1, 1, 12, 5, 7), function="average", window=(5, 1, 1))
    assert judge(PoolingKernel(), problem, TARGETS[0]) == ["linear"]


@pytest.mark.parametrize("kernel", [PoolingKernel(), ReduceKernel()], ids=["pooling", "reduce"])
def test_the_batch_may_change(kernel: LlvmKernel) -> None:
    shape = (symbol("N", 1, 8), 20, 6, 5)
    kind, attrs = "Pooling", {"function": "average", "window": (3, 2)}
    if isinstance(kernel, ReduceKernel):
        kind, attrs = "Reduce", {"operation": "mean", "axes": (2, 3)}
    judge(kernel, layer(kind, shape, **attrs), TARGETS[0], sizes=(3, 1))


@pytest.mark.parametrize("kernel", [PoolingKernel(), ReduceKernel()], ids=["pooling", "reduce"])
def test_images_may_have_any_size(kernel: LlvmKernel) -> None:
    shape = (symbol("N", 1, 8), 20, symbol("H", 4, 9), 5)
    kind, attrs = "Pooling", {"function": "average", "window": (3, 2)}
    if isinstance(kernel, ReduceKernel):
        kind, attrs = "Reduce", {"operation": "mean", "axes": (2, 3)}
    assert "nchw16c" in judge(kernel, layer(kind, shape, **attrs), TARGETS[0], sizes=(5, 4))


@st.composite
def reductions(draw: st.DrawFn) -> Problem:
    shape = tuple(draw(st.sampled_from((1, 2, 3, 5, 17, 33, 70))) for _ in range(draw(st.integers(1, 4))))
    axes = tuple(sorted(draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))))
    large = np.prod(shape) > 60  # products of so many become subnormal
    operation = draw(st.sampled_from([o for o in OPERATIONS if not (large and o == "prod")]))
    return layer("Reduce", shape, draw(st.booleans()), operation=operation, axes=axes, keep_dims=draw(st.booleans()))


@EACH_TARGET
@FEW
@given(problem=reductions())
def test_reductions_over_any_axes(target: Target, problem: Problem) -> None:
    judge(ReduceKernel(), problem, target)


@EACH_TARGET
@pytest.mark.parametrize("channels", [16, 37])
@pytest.mark.parametrize("keep", [True, False])
def test_whole_images_in_two_phases(target: Target, channels: int, keep: bool) -> None:
    problem = layer("Reduce", (1, channels, 60, 70), operation="mean", axes=(-1, -2), keep_dims=keep)
    kernel = ReduceKernel()
    assert kernel.tactics(problem)[0].workspace
    keys = judge(kernel, problem, target)
    assert keys == (["nchw16c"] if keep else []) + ["nchw16c-linear", "linear"]


@pytest.mark.parametrize("shape", [(300000,), (70000, 3), (2, 65536)])
def test_long_reductions_are_divided(shape: tuple[int, ...]) -> None:
    axes = (len(shape) - 1,) if shape[0] == 2 else (0,)
    problem = layer("Reduce", shape, tail=True, operation="sum_square", axes=axes)
    assert ReduceKernel().tactics(problem)[0].workspace
    judge(ReduceKernel(), problem, TARGETS[0])


def test_pooling_over_the_whole_image_is_a_reduction() -> None:
    problem = layer("Pooling", (2, 19, 7, 5), function="average", window=(7, 5))
    assert judge(ReduceKernel(), problem, TARGETS[0]) == ["nchw16c", "nchw16c-linear", "linear"]
    smaller = layer("Pooling", (2, 19, 7, 5), function="average", window=(6, 5))
    assert not ReduceKernel().supports(smaller).ok


def run_with(kernel: LlvmKernel, problem: Problem, key: str, change: Any) -> tuple[Any, Any]:
    """(result, storage of it) after ``change(storage of the input)``."""
    device = REGISTRY.device("cpu")
    sample = Sample.draw(problem, REGISTRY.layer_type, 1, 0)
    tactic = next(t for t in kernel.tactics(problem) if t.key == key)
    bound = bind_sample(kernel, kernel.compile(problem, tactic), sample, device)
    change(bound.launch.inputs[0])
    device.bind([bound.launch], 1).run(None)
    return bound.read()[0], bound.launch.outputs[0]


PADDED = [
    (PoolingKernel(), layer("Pooling", (1, 5, 6, 6), function="max", window=(3, 3))),
    (PoolingKernel(), layer("Pooling", (1, 5, 6, 6), tail=True, function="average", window=(2, 2))),
    (ReduceKernel(), layer("Reduce", (1, 5, 6, 6), operation="sum", axes=(2, 3))),
]


@pytest.mark.parametrize(("kernel", "problem"), PADDED)
def test_lanes_without_a_channel_are_neither_read_nor_left(kernel: LlvmKernel, problem: Problem) -> None:
    expected, _ = run_with(kernel, problem, "nchw16c", lambda x: None)

    def spoil(x: Any) -> None:
        x[..., 5:] = np.nan

    found, stored = run_with(kernel, problem, "nchw16c", spoil)
    np.testing.assert_array_equal(found, expected)
    assert not stored[..., 5:].any()


@pytest.mark.parametrize("key", ["nchw16c", "linear"])
@pytest.mark.parametrize("place", range(5))
def test_nan_is_the_maximum_wherever_it_is(key: str, place: int) -> None:
    problem = layer("Pooling", (1, 16, 3, 5), function="max", window=(3, 5))

    def spoil(x: Any) -> None:
        x[0, 0, 1][place] = np.nan

    found, _ = run_with(PoolingKernel(), problem, key, spoil)
    assert np.isnan(found.reshape(-1)[0])


@pytest.mark.parametrize("target", [AVX512, AVX2, BASELINE, NEON], ids=lambda t: t.name)
def test_code_for_every_target(target: Target) -> None:
    padded = {"pre_padding": (1, 1), "post_padding": (1, 1), "stride": (2, 2)}
    compiles(PoolingKernel(), layer("Pooling", (1, 40, 30, 30), function="max", window=(3, 3), **padded), target)
    compiles(ReduceKernel(), layer("Reduce", (1, 40, 30, 30), operation="mean", axes=(2, 3)), target)


def test_rows_are_cut_where_taps_change() -> None:
    from tenonrt.contracts import WindowAxis

    slide = Slide(WindowAxis(3, 2, 1, 1, 1), 9)
    assert [(s.first, s.count, s.taps) for s in segments(slide)] == [(0, 1, (1, 3)), (1, 3, (0, 3)), (4, 1, (0, 2))]


@given(count=st.integers(0, 200), together=st.integers(1, 8), blocked=st.booleans())
def test_pieces_cover_a_row_once(count: int, together: int, blocked: bool) -> None:
    covered = []
    for first, cells, lanes, turns in pieces(count, together, blocked):
        size = cells * (1 if blocked else lanes)
        covered += range(first, first + size * turns)
    assert covered == list(range(count))
