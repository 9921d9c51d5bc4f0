"""Two small products in a row on the processor, judged as a build judges them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from nvrtc_emulation import judge, needs_compiler, problem_of
from tenonrt.contracts import UnsupportedError
from tenonrt_kernel_nvrtc.compiler import compile_cubin, library
from tenonrt_kernel_nvrtc.images.depthwise_mean import DepthwiseMeanKernel
from tenonrt_kernel_nvrtc.images.excitation import ExcitationKernel
from tenonrt_kernel_nvrtc.storage import NARROW, prelude, shape_of


def weights(*shape: int) -> Any:
    return (np.random.default_rng(0).standard_normal(shape) / np.sqrt(shape[1])).astype(np.float32)


def gates(net: tenonrt.Network, batch: int, channels: int, middle: int, bias: bool = True, made: int = 0) -> Any:
    """Of squeeze-and-excitation, from the means of images."""
    return excited(net, net.add_input("x", (batch, channels, 1, 1)), middle, made or channels, bias)


def excited(net: tenonrt.Network, x: Any, middle: int, made: int, bias: bool = True) -> Any:
    """Two products with their activations."""
    channels = x.type.shape[1]
    y = net.add_convolution(x, weights(middle, channels, 1, 1), *([weights(1, middle)[0]] if bias else []))
    y = net.add_activation(y, function="swish")
    y = net.add_convolution(y, weights(made, middle, 1, 1), *([weights(1, made)[0]] if bias else []))
    return net.add_activation(y, function="sigmoid")


@needs_compiler
@settings(max_examples=4)
@given(
    batch=st.integers(1, 3), channels=st.integers(1, 300), middle=st.integers(1, 70), made=st.integers(1, 90),
    bias=st.booleans(),
)  # fmt: skip
def test_gates_of_any_size(batch: int, channels: int, middle: int, made: int, bias: bool) -> None:
    problem = problem_of(lambda net: gates(net, batch, channels, middle, bias, made))
    judge(ExcitationKernel(), problem, ["1x256", "8x128"], allowed=16)


@needs_compiler
@settings(max_examples=2)
@given(
    batch=st.integers(1, 2), channels=st.integers(1, 90), height=st.integers(1, 9), width=st.integers(1, 9),
    middle=st.integers(1, 20),
)  # fmt: skip
def test_gates_of_whole_images(batch: int, channels: int, height: int, width: int, middle: int) -> None:
    """Of their means, in slices of wider images too."""

    def define(net: tenonrt.Network) -> Any:
        x = net.add_input("x", (batch, channels, height, width))
        mean = net.add("Reduce", [x], {"operation": "mean", "axes": (2, 3), "keep_dims": True})[0]
        return excited(net, mean, middle, channels)

    judge(ExcitationKernel(), problem_of(define), ["1x512", "8x256"], allowed=16)


@needs_compiler
def test_rows_of_fully_connected_layers() -> None:
    def define(net: tenonrt.Network) -> Any:
        y = net.add("FullyConnected", [net.add_input("x", (5, 24)), weights(7, 24), weights(1, 7)[0]], {})[0]
        y = net.add_activation(y, function="relu")
        return net.add("FullyConnected", [y, weights(40, 7)], {})[0]

    judge(ExcitationKernel(), problem_of(define), ["1x512", "4x256"], allowed=16)


def test_its_region_ends_behind_the_activation_of_the_second_product() -> None:
    net = tenonrt.Network("gates")
    net.mark_output(gates(net, 1, 32, 8), "y")
    first = net.graph.layers[0]
    assert [len(list(region)) for region in ExcitationKernel().regions(net.graph, first)] == [4]
    assert not list(ExcitationKernel().regions(net.graph, net.graph.layers[2]))
    net = tenonrt.Network("pooled")
    mean = net.add("Reduce", [net.add_input("x", (1, 32, 4, 4))], {"operation": "mean", "axes": (2, 3)})[0]
    net.mark_output(excited(net, mean, 8, 32), "y")
    assert [len(list(region)) for region in ExcitationKernel().regions(net.graph, net.graph.layers[0])] == [5]


@pytest.mark.parametrize("why", ["pixels", "one product", "large", "interior"])
def test_what_it_does_not_take(why: str) -> None:
    def define(net: tenonrt.Network) -> Any:
        x = net.add_input("x", (1, 16, 2, 2) if why == "pixels" else (1, 16, 1, 1))
        y = net.add_convolution(x, weights(300 if why == "large" else 8, 16, 1, 1))
        if why == "one product":
            return y
        z = net.add_convolution(y, weights(16, y.type.shape[1], 1, 1))
        return [y, z] if why == "interior" else z

    assert not ExcitationKernel().supports(problem_of(define)).ok


def test_it_compiles_for_hopper() -> None:
    try:
        library()
    except UnsupportedError as error:
        pytest.skip(str(error))
    kernel, problem = ExcitationKernel(), problem_of(lambda net: gates(net, 1, 1152, 48))
    for tactic in kernel.tactics(problem):
        source, _ = kernel.generate(problem, tactic)
        assert compile_cubin(prelude(tactic) + kernel.library + source, "sm_90a")


def pooled(net: tenonrt.Network, shape: tuple[int, ...], window: int, stride: int) -> list[Any]:
    """A depthwise convolution with its mean."""
    sizes = {"stride": (stride,) * 2, "pre_padding": (window // 2,) * 2, "post_padding": (window // 2,) * 2}
    taps = weights(shape[1], 1, window, window)
    y = net.add_convolution(net.add_input("x", shape), taps, weights(1, shape[1])[0], groups=shape[1], **sizes)
    y = net.add_activation(y, function="swish")
    return [y, net.add("Reduce", [y], {"operation": "mean", "axes": (2, 3), "keep_dims": True})[0]]


@needs_compiler
@settings(max_examples=4)
@given(
    batch=st.integers(1, 2), channels=st.integers(1, 40), height=st.integers(3, 13), width=st.integers(3, 13),
    window=st.sampled_from([3, 5]), stride=st.integers(1, 2),
)  # fmt: skip
def test_means_beside_depthwise_convolutions(
    batch: int, channels: int, height: int, width: int, window: int, stride: int
) -> None:
    """In slices too, by blocks alone and by clusters."""
    problem = problem_of(lambda net: pooled(net, (batch, channels, height, width), window, stride))
    kernel = DepthwiseMeanKernel()
    keys = [shape_of(tactic) for tactic in kernel.offers(problem, NARROW[:1])]
    judge(kernel, problem, [keys[0], keys[-1]])


@needs_compiler
def test_means_of_clusters() -> None:
    """Larger images, whose strips several blocks have; the last groups of channels are not there."""
    problem, kernel = problem_of(lambda net: pooled(net, (1, 24, 40, 24), 3, 1)), DepthwiseMeanKernel()
    keys = [shape_of(tactic) for tactic in kernel.offers(problem, NARROW[:1])]
    clustered = [key for key in keys if key.split("x")[2] != "1"]
    assert clustered
    judge(kernel, problem, clustered[-2:])


def test_a_mean_that_nothing_else_reads_beside_is_another_kernels() -> None:
    net = tenonrt.Network("means")
    for number, tensor in enumerate(pooled(net, (1, 16, 8, 8), 3, 1)[1:]):
        net.mark_output(tensor, f"y{number}")
    assert not list(DepthwiseMeanKernel().regions(net.graph, net.graph.layers[0]))


def test_depthwise_convolutions_with_means_compile_for_hopper() -> None:
    try:
        library()
    except UnsupportedError as error:
        pytest.skip(str(error))
    kernel, problem = DepthwiseMeanKernel(), problem_of(lambda net: pooled(net, (1, 96, 112, 112), 3, 2))
    for tactic in kernel.tactics(problem)[:3]:
        source, _ = kernel.generate(problem, tactic)
        assert compile_cubin(prelude(tactic) + kernel.library + source, "sm_90a")
