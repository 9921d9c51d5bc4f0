"""Squeeze-and-excitation on a GPU, every tactic of its kernels tried as a build tries it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.trial import Sample, try_tactic
from tenonrt.contracts import Kernel, Problem
from tenonrt.plugins.registry import Registry, using
from tenonrt_kernel_nvrtc.images.depthwise_mean import DepthwiseMeanKernel
from tenonrt_kernel_nvrtc.images.excitation import ExcitationKernel
from tenonrt_kernel_nvrtc.products.gated import GatedProductKernel

REGISTRY = Registry()
TRIED = 4  # tactics of a problem


def weights(*shape: int) -> Any:
    return (np.random.default_rng(0).standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def problem_of(define: Callable[[tenonrt.Network], Any]) -> Problem:
    network = tenonrt.Network("problem", REGISTRY)
    made = define(network)
    for number, tensor in enumerate(made if isinstance(made, list) else [made]):
        network.mark_output(tensor, f"y{number}")
    return pose(make_region(network.graph, network.graph.layers), "cuda", 1).problem


def judge(kernel: Kernel, problem: Problem) -> int:
    """How many tactics there are, of which the first, the last and some between are tried; one that is wrong fails."""
    with using(REGISTRY):
        support = kernel.supports(problem)
        assert support.ok, support.why
        samples = [Sample.draw(problem, REGISTRY.layer_type, 2, seed) for seed in range(2)]
        tactics = list(kernel.tactics(problem))
        for tactic in tactics[:: max(1, (len(tactics) - 1) // (TRIED - 1))]:
            verdict, _ = try_tactic(kernel, problem, tactic, samples, REGISTRY.layer_type, REGISTRY.device("cuda"))
            assert verdict.ok, f"{tactic.key}: {verdict.why}"
    return len(tactics)


@pytest.mark.parametrize(("batch", "channels", "middle"), [(1, 1152, 48), (5, 96, 4), (3, 33, 70), (64, 240, 10)])
@pytest.mark.parametrize("side", [0, 7, 29])
def test_gates(batch: int, channels: int, middle: int, side: int) -> None:
    """Of means, and of images whose means are taken first."""

    def define(net: tenonrt.Network) -> Any:
        x = net.add_input("x", (batch, channels, max(1, side), max(1, side)))
        attrs = {"operation": "mean", "axes": (2, 3), "keep_dims": True}
        mean = net.add("Reduce", [x], attrs)[0] if side else x
        y = net.add_convolution(mean, weights(middle, channels, 1, 1))
        y = net.add_activation(y, function="swish")
        y = net.add_convolution(y, weights(channels, middle, 1, 1), weights(channels, 1)[:, 0])
        return net.add_activation(y, function="sigmoid")

    assert judge(ExcitationKernel(), problem_of(define)) >= 2


@pytest.mark.parametrize("shape", [(1, 1152, 7, 7), (3, 96, 9, 5), (2, 20, 13, 12)], ids=str)
@pytest.mark.parametrize("made", [192, 20])
def test_products_of_scaled_images(shape: tuple[int, ...], made: int) -> None:
    def define(net: tenonrt.Network) -> Any:
        x = net.add_elementwise(net.add_input("x", shape), net.add_input("f", (*shape[:2], 1, 1)), operation="prod")
        y = net.add_convolution(x, weights(made, shape[1], 1, 1), weights(made, 1)[:, 0])
        return net.add_elementwise(y, net.add_input("r", tuple(y.type.shape)), operation="sum")

    assert judge(GatedProductKernel(), problem_of(define)) >= 2


@pytest.mark.parametrize("shape", [(1, 1152, 7, 7), (2, 96, 56, 40), (1, 32, 112, 112), (3, 20, 14, 13)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_means_beside_depthwise_convolutions(shape: tuple[int, ...], stride: int) -> None:
    def define(net: tenonrt.Network) -> Any:
        sizes = {"stride": (stride,) * 2, "pre_padding": (1, 1), "post_padding": (1, 1)}
        y = net.add_convolution(net.add_input("x", shape), weights(shape[1], 1, 3, 3), groups=shape[1], **sizes)
        y = net.add_activation(y, function="swish")
        return [y, net.add("Reduce", [y], {"operation": "mean", "axes": (2, 3), "keep_dims": True})[0]]

    assert judge(DepthwiseMeanKernel(), problem_of(define)) >= 4
