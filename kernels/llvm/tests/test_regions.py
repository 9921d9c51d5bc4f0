"""Pooled regions against their references, on what can run here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from llvm_judging import REGISTRY, TARGETS, compiles, judge, problem_of
from tenonrt.builder.trial import Sample, bind_sample
from tenonrt.contracts import ExecutionError, Problem
from tenonrt.plugins.registry import using
from tenonrt_kernel_llvm.regions import RegionKernel
from tenonrt_kernel_llvm.target import NEON

FEW = settings(max_examples=6, deadline=None)


def posed(kind: str, features: tuple[Any, ...], count: Any, **attrs: Any) -> Problem:
    def define(network: tenonrt.Network) -> Any:
        operands = [network.add_input("features", features), network.add_input("regions", (count, 5))]
        return network.add(kind, operands, attrs)[0]

    return problem_of(define)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@FEW
@given(
    channels=st.sampled_from((1, 16, 21)), size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    pooled=st.tuples(st.integers(1, 7), st.integers(1, 7)), scale=st.sampled_from((1.0, 0.5, 0.0625)),
    samples=st.integers(0, 2), mode=st.sampled_from(("average", "max")), half=st.booleans(),
)  # fmt: skip
def test_regions_of_any_size(
    target: Any, channels: int, size: tuple[int, int], pooled: tuple[int, int], scale: float, samples: int, mode: str,
    half: bool,
) -> None:  # fmt: skip
    features = (2, channels, *size)
    judge(RegionKernel(), posed("RoiPooling", features, 5, pooled=pooled, scale=scale), target)
    aligned = posed("RoiAlign", features, 5, pooled=pooled, scale=scale, samples=samples, mode=mode, half_pixel=half)
    judge(RegionKernel(), aligned, target)
    groups = pooled[0] % 3 + 1
    own = (2, channels * groups**2, *size)
    sensitive = posed("PositionSensitiveRoiPooling", own, 5, channels=channels, groups=groups, scale=scale)
    judge(RegionKernel(), sensitive, target)


def test_images_and_regions_are_counted_at_run_time() -> None:
    batch, count = tenonrt.symbol("N", 1, 8), tenonrt.symbol("R", 1, 8)
    problem = posed("RoiPooling", (batch, 20, 6, 5), count, pooled=(2, 3))
    assert RegionKernel().supports(problem).runtime_symbols == "all"
    judge(RegionKernel(), problem, TARGETS[0], (1, 3))


@pytest.mark.parametrize("image", [-1.0, 2.0, np.nan, np.inf])
def test_a_region_of_no_image_fails_the_step(image: float) -> None:
    problem, device = posed("RoiPooling", (2, 3, 4, 4), 1, pooled=(2, 2)), REGISTRY.device("cpu")
    kernel = RegionKernel()
    with using(REGISTRY):
        sample = Sample.draw(problem, REGISTRY.layer_type, 1, 0)
        sample.inputs[1][0, 0] = image
        code = kernel.compile(problem, kernel.tactics(problem)[-1])
        launch = bind_sample(kernel, code, sample, device).launch
        with pytest.raises(ExecutionError):
            device.bind([launch], 1).run(None)


def test_other_targets_compile() -> None:
    compiles(RegionKernel(), posed("RoiAlign", (2, 20, 5, 5), 3, pooled=(2, 2)), NEON)
    compiles(RegionKernel(), posed("RoiPooling", (2, 20, 5, 5), 3, pooled=(2, 2)), NEON)
