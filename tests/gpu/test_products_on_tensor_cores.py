"""Products on tensor cores, every tactic tried as a build tries it: against float64, between canaries, on slices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.trial import Sample, try_tactic
from tenonrt.contracts import Kernel, Problem
from tenonrt.plugins.registry import Registry, using
from tenonrt_kernel_nvrtc.images.first import FirstKernel
from tenonrt_kernel_nvrtc.products.mapped import MappedProductKernel
from tenonrt_kernel_nvrtc.products.product import ProductKernel
from tenonrt_kernel_nvrtc.products.windowed import WindowProductKernel
from tenonrt_kernel_triton.product import ProductKernel as TritonProductKernel

REGISTRY = Registry()


def weights(*shape: int) -> Any:
    return (np.random.default_rng(0).standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def problem_of(define: Callable[[tenonrt.Network], Sequence[Any]]) -> Problem:
    network = tenonrt.Network("problem", REGISTRY)
    for number, output in enumerate(define(network)):
        network.mark_output(output, f"y{number}")
    return pose(make_region(network.graph, network.graph.layers), "cuda", 1).problem


def judge(problem: Problem, kernel: Kernel | None = None) -> int:
    """How many tactics there are; one that is wrong fails."""
    device, kernel = REGISTRY.device("cuda"), kernel or ProductKernel()
    with using(REGISTRY):
        support = kernel.supports(problem)
        assert support.ok, support.why
        samples = [Sample.draw(problem, REGISTRY.layer_type, 2, seed) for seed in range(2)]
        tactics = kernel.tactics(problem)
        for tactic in tactics:
            verdict, _ = try_tactic(kernel, problem, tactic, samples, REGISTRY.layer_type, device)
            assert verdict.ok, f"{tactic.key}: {verdict.why}"
    return len(tactics)


def convolution(n: int, c: int, h: int, w: int, k: int, r: int, stride: int, padding: int, tail: str) -> Problem:
    def define(net: tenonrt.Network) -> Sequence[Any]:
        x, both = net.add_input("x", (n, c, h, w)), (padding, padding)
        y = net.add_convolution(
            x, weights(k, c, r, r), weights(k, 1)[:, 0], stride=(stride, stride), pre_padding=both, post_padding=both
        )
        if "sum" in tail:
            y = net.add_elementwise(y, net.add_input("z", tuple(y.type.shape)), operation="sum")
        if "relu" in tail:
            y = net.add_activation(y, function="relu")
        if "clip" in tail:
            y = net.add_activation(y, function="clip", alpha=0.0, beta=6.0)
        return [y]

    return problem_of(define)


@pytest.mark.parametrize(
    "sizes",
    [
        (1, 64, 14, 14, 64, 1, 1, 0, "relu"),
        (2, 64, 9, 11, 256, 1, 1, 0, "sum relu"),
        (1, 128, 14, 14, 128, 3, 1, 1, "relu"),
        (3, 24, 17, 13, 40, 3, 2, 1, "clip"),
        (1, 512, 7, 7, 512, 3, 1, 1, "relu"),
        (2, 256, 28, 28, 512, 1, 2, 0, ""),
        (1, 20, 12, 10, 33, 5, 1, 2, "relu"),
        (1, 1024, 14, 14, 2048, 1, 2, 0, ""),
        (4, 16, 30, 30, 96, 1, 1, 0, "clip"),
    ],
    ids=str,
)
def test_convolutions(sizes: Any) -> None:
    assert judge(convolution(*sizes)) >= 4


@pytest.mark.parametrize(
    "sizes",
    [
        (1, 3, 224, 224, 64, 7, 2, 3, "relu"),
        (5, 3, 224, 224, 32, 3, 2, 1, "clip"),
        (3, 3, 130, 97, 16, 3, 2, 1, ""),
        (2, 1, 28, 28, 20, 5, 1, 0, ""),
        (2, 4, 60, 44, 96, 4, 4, 0, ""),
        (40, 3, 64, 64, 48, 6, 2, 2, "relu"),
    ],
    ids=str,
)
def test_first_convolutions(sizes: Any) -> None:
    assert judge(convolution(*sizes), FirstKernel()) >= 4


@pytest.mark.parametrize(
    ("m", "k", "n"), [(128, 768, 768), (128, 3072, 768), (1, 2048, 1000), (300, 72, 136), (1024, 768, 2304)]
)
@pytest.mark.parametrize("tail", ["", "gelu", "sum"])
def test_fully_connected_layers(m: int, k: int, n: int, tail: str) -> None:
    def define(net: tenonrt.Network) -> Sequence[Any]:
        y = net.add_fully_connected(net.add_input("x", (m, k)), weights(n, k), weights(n, 1)[:, 0])
        if tail == "gelu":
            y = net.add_activation(y, function="gelu")
        if tail == "sum":
            y = net.add_elementwise(y, net.add_input("z", (m, n)), operation="sum")
        return [y]

    assert judge(problem_of(define)) >= 4


def test_siblings_are_one_kernel() -> None:
    def projections(net: tenonrt.Network) -> Sequence[Any]:
        x = net.add_input("x", (1, 128, 256))
        return [net.add_fully_connected(x, weights(n, 256), weights(n, 1)[:, 0]) for n in (256, 256, 264)]

    def inception(net: tenonrt.Network) -> Sequence[Any]:
        x = net.add_input("x", (2, 192, 28, 28))
        made = [net.add_convolution(x, weights(k, 192, 1, 1), weights(k, 1)[:, 0]) for k in (64, 96, 20)]
        return [net.add_activation(y, function="relu") for y in made]

    for define in (projections, inception):
        assert judge(problem_of(define)) >= 4


@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 2048, 1000), (300, 72, 136), (1024, 768, 2304), (1024, 3072, 768), (5000, 200, 768)]
)
@pytest.mark.parametrize("tail", ["", "gelu", "sum", "sum norm"])
def test_products_by_tensor_maps(m: int, k: int, n: int, tail: str) -> None:
    """More tiles than multiprocessors, so that blocks compute several, and teams take turns."""

    def define(net: tenonrt.Network) -> Sequence[Any]:
        y = net.add_fully_connected(net.add_input("x", (m, k)), weights(n, k), weights(n, 1)[:, 0])
        if tail == "gelu":
            y = net.add_activation(y, function="gelu")
        if "sum" in tail:
            y = net.add_elementwise(y, net.add_input("z", (m, n)), operation="sum")
        if "norm" in tail:
            y = net.add("LayerNormalization", [y, weights(n, 1)[:, 0], weights(n, 1)[:, 0]], {"axis": -1})[0]
        return [y]

    problem = problem_of(define)
    if "norm" in tail and n != 768:
        assert "divides" in MappedProductKernel().supports(problem).why
    else:
        assert judge(problem, MappedProductKernel()) >= 4


# The last has one block of k and many tiles: blocks of a cluster ended while others still told them what they had read.
@pytest.mark.parametrize(
    "sizes",
    [(1, 64, 14, 14, 64, 1, 1, 0, "relu"), (4, 20, 30, 30, 96, 1, 1, 0, "sum relu"), (8, 64, 56, 56, 64, 1, 1, 0, "")],
    ids=str,
)
def test_pixels_by_tensor_maps(sizes: Any) -> None:
    assert judge(convolution(*sizes), MappedProductKernel()) >= 4


@pytest.mark.parametrize(
    "sizes",
    [
        (1, 64, 14, 14, 64, 3, 1, 1, "relu"), (9, 128, 28, 28, 128, 3, 1, 1, "sum relu"),
        (3, 24, 17, 13, 40, 3, 2, 1, "clip"), (2, 256, 28, 28, 512, 1, 2, 0, ""), (64, 32, 40, 40, 96, 3, 2, 1, "relu"),
        (1, 16, 12, 10, 33, 5, 1, 2, "relu"), (5, 96, 30, 30, 200, 3, 1, 1, "sum"),
    ],
    ids=str,
)  # fmt: skip
def test_windows_by_tensor_maps(sizes: Any) -> None:
    """More tiles than multiprocessors among them, windows that cross lines, images and borders."""
    assert judge(convolution(*sizes), WindowProductKernel()) >= 4


@pytest.mark.parametrize(
    ("m", "k", "n", "tail"),
    [
        (128, 768, 3072, "gelu"), (1024, 768, 768, "sum"), (1, 2048, 1000, ""), (300, 72, 136, "sum gelu_tanh"),
        (2048, 512, 1024, "relu"),
    ],
)  # fmt: skip
def test_products_in_triton(m: int, k: int, n: int, tail: str) -> None:
    pytest.importorskip("triton")

    def define(net: tenonrt.Network) -> Sequence[Any]:
        y = net.add_fully_connected(net.add_input("x", (m, k)), weights(n, k), weights(n, 1)[:, 0])
        return [follow(net, y, tail)]

    assert judge(problem_of(define), TritonProductKernel()) >= 4


@pytest.mark.parametrize(
    ("shape", "k", "tail"),
    [
        ((8, 256, 14, 14), 1024, "sum relu"), ((2, 20, 9, 11), 33, "swish"), ((1, 64, 56, 56), 256, "relu"),
        ((2, 12, 5, 7), 20, "sum sigmoid"),
    ],
)  # fmt: skip
def test_pixels_in_triton(shape: tuple[int, ...], k: int, tail: str) -> None:
    pytest.importorskip("triton")

    def define(net: tenonrt.Network) -> Sequence[Any]:
        x = net.add_input("x", shape)
        return [follow(net, net.add_convolution(x, weights(k, shape[1], 1, 1), weights(k, 1)[:, 0]), tail)]

    assert judge(problem_of(define), TritonProductKernel()) >= 2


def follow(net: tenonrt.Network, y: Any, tail: str) -> Any:
    for step in tail.split():
        if step == "sum":
            y = net.add_elementwise(y, net.add_input("z", tuple(y.type.shape)), operation="sum")
        else:
            y = net.add_activation(y, function=step)
    return y


def test_siblings_by_tensor_maps() -> None:
    def projections(net: tenonrt.Network) -> Sequence[Any]:
        x = net.add_input("x", (1, 128, 256))
        made = [net.add_fully_connected(x, weights(n, 256), weights(n, 1)[:, 0]) for n in (256, 264)]
        return [made[0], net.add_activation(made[1], function="relu")]

    assert judge(problem_of(projections), MappedProductKernel()) >= 4
