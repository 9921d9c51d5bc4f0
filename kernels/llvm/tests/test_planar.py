"""Convolutions to a few channels against the float64 reference, for every target that runs here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from llvm_judging import TARGETS, compiles, judge, problem_of
from tenonrt.contracts import Problem, symbol
from tenonrt_kernel_llvm.contraction.planar import IMAGE_CHANNELS, PlanarConvolution
from tenonrt_kernel_llvm.target import NEON, Target

FEW = settings(max_examples=16, deadline=None)


def convolution(
    image: tuple[Any, ...], outputs: int, window: tuple[int, ...], bias: bool = True, pool: Any = None, **attrs: Any
) -> Problem:
    rng = np.random.default_rng(0)

    def define(network: tenonrt.Network) -> Any:
        kernel = rng.standard_normal((outputs, image[1], *window)).astype(np.float32)
        offsets = [rng.standard_normal(outputs).astype(np.float32)] if bias else []
        y = network.add_convolution(network.add_input("x", image), kernel, *offsets, **attrs)
        y = network.add_activation(y, function="sigmoid") if bias else y
        return y if pool is None else network.add_pooling(y, **pool)

    return problem_of(define)


@st.composite
def convolutions(draw: st.DrawFn) -> Problem:
    axes = draw(st.sampled_from((1, 2, 2)))
    window = tuple(draw(st.integers(1, 5)) for _ in range(axes))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(axes))
    reach = [(w - 1) * d for w, d in zip(window, dilation, strict=True)]
    image = tuple(n + 1 + draw(st.integers(0, 70)) for n in reach)
    channels = draw(st.integers(1, 5))
    outputs = draw(st.integers(1, 8) if channels > IMAGE_CHANNELS else st.integers(1, 8) | st.integers(9, 32))
    return convolution(
        (draw(st.integers(1, 2)), channels, *image), outputs, window, draw(st.booleans()), dilation=dilation,
        stride=(*(draw(st.integers(1, 2)) for _ in range(axes - 1)), 1),
        pre_padding=tuple(draw(st.integers(0, n)) for n in reach),
        post_padding=tuple(draw(st.integers(0, n + 3)) for n in reach),
    )  # fmt: skip


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@FEW
@given(problem=convolutions())
def test_any_shape(target: Target, problem: Problem) -> None:
    judge(PlanarConvolution(), problem, target)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_a_batch_of_any_size(target: Target) -> None:
    problem = convolution((symbol("n"), 2, 9, 33), 3, (3, 3), pre_padding=(1, 1), post_padding=(1, 1))
    assert PlanarConvolution().supports(problem).runtime_symbols == "all"
    judge(PlanarConvolution(), problem, target, sizes=(2, 1))


def test_what_it_refuses() -> None:
    refusals = {
        "up to 8 output channels of 5": convolution((1, 5, 8, 8), 9, (3, 3)),
        "up to 32 output channels of 2": convolution((1, 2, 8, 8), 33, (3, 3)),
        "stride 1": convolution((1, 2, 8, 8), 3, (3, 3), stride=(2, 2)),
        "wider than the window": convolution((1, 2, 8, 8), 3, (1, 1), pre_padding=(0, 2)),
        "longer than the cache": convolution((1, 16, 5, 9000), 3, (3, 3)),
    }
    for why, problem in refusals.items():
        assert why in PlanarConvolution().supports(problem).why


HALVES = {"function": "max", "window": (2, 2), "stride": (2, 2)}


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@FEW
@given(data=st.data())
def test_maxima_of_two_by_two(target: Target, data: st.DataObject) -> None:
    """Odd rows and columns have a last one that no maximum is taken of."""
    image = (2, data.draw(st.integers(1, 3)), data.draw(st.integers(4, 20)), data.draw(st.integers(4, 80)))
    outputs, bias = data.draw(st.integers(1, 12)), data.draw(st.booleans())
    judge(PlanarConvolution(), convolution(image, outputs, (3, 3), bias, HALVES, pre_padding=(1, 0)), target)


def test_what_it_does_not_pool() -> None:
    others = {
        "other than the maxima": {"function": "average"},
        "other windows": {"window": (3, 3)},
        "touch": {"stride": (1, 1)},
        "2x2": {"pre_padding": (1, 1)},
        "windows than": {"ceil": True},
    }
    for why, changes in others.items():
        problem = convolution((1, 1, 9, 9), 2, (3, 3), True, HALVES | changes)
        assert why in PlanarConvolution().supports(problem).why


def test_images_of_any_size_are_not_pooled() -> None:
    problem = convolution((1, 1, 8, symbol("columns", 4, 64)), 2, (3, 3), pool=HALVES)
    assert "changes at run time" in PlanarConvolution().supports(problem).why


def test_rows_that_make_no_whole_tile_or_band() -> None:
    for rows in range(1, 12):
        problem = convolution(
            (2, 1, rows, 20), 6, (3, 3), False, stride=(1, 1), pre_padding=(1, 1), post_padding=(1, 1)
        )
        judge(PlanarConvolution(), problem, TARGETS[0])


def test_arm() -> None:
    compiles(PlanarConvolution(), convolution((1, 3, 9, 40), 3, (3, 3)), NEON)
    compiles(PlanarConvolution(), convolution((1, 3, 9, 40), 3, (3, 3), pool=HALVES), NEON)


def test_a_maximum_of_four_with_nan_is_nan() -> None:
    network = tenonrt.Network("nan")
    kernel = np.ones((1, 1, 1, 1), np.float32)
    y = network.add_pooling(network.add_convolution(network.add_input("x", (1, 1, 4, 36)), kernel), **HALVES)
    network.mark_output(y, "y")
    config = tenonrt.BuilderConfig(optimization_level=0, plugins=tenonrt.PluginSet(prefer=("*.llvm_planar",)))
    engine = tenonrt.Builder(config).build(network)
    assert [step.kernel.rpartition(".")[2] for step in engine.report.steps] == ["llvm_planar"]
    x = np.random.default_rng(0).standard_normal((1, 1, 4, 36)).astype(np.float32)
    x[0, 0, [0, 1, 2, 3], [0, 3, 33, 35]] = np.nan
    expected = x.reshape(2, 2, 18, 2).transpose(0, 2, 1, 3).reshape(2, 18, 4).max(2)  # NumPy's maximum keeps NaN
    np.testing.assert_array_equal(engine.create_context().execute({"x": x})["y"][0, 0], expected)
