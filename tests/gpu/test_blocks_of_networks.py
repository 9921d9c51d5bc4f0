"""Blocks of networks whose steps once ran on the host, as engines: right, and all of it on the GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt

RNG = np.random.default_rng(0)


def weights(*shape: int) -> Any:
    return (RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def convolution(net: tenonrt.Network, x: Any, channels: int, window: int = 1, **attrs: Any) -> Any:
    inner, pad = x.type.shape[1] // attrs.get("groups", 1), (window // 2,) * 2
    taps = weights(channels, inner, window, window)
    return net.add_convolution(x, taps, weights(channels), pre_padding=pad, post_padding=pad, **attrs)


def swish(net: tenonrt.Network, x: Any) -> Any:
    return net.add_elementwise(x, net.add_activation(x, function="sigmoid"), operation="prod")


def halves(net: tenonrt.Network, x: Any) -> Any:
    """YOLOv8's block: both halves are joined with what is made of one."""
    x = swish(net, convolution(net, x, 32))
    first, second = net.add("Split", [x], {"axis": 1, "parts": 2})
    made = net.add_elementwise(second, swish(net, convolution(net, second, 16, 3)), operation="sum")
    return swish(net, convolution(net, net.add_concatenation(first, second, made, axis=1), 24))


def pyramid(net: tenonrt.Network, x: Any) -> Any:
    """A smaller image, enlarged and joined with a larger one."""
    small = convolution(net, x, 16, 3, stride=(2, 2))
    attrs = {"mode": "nearest", "coordinate_transformation": "asymmetric", "nearest_rounding": "floor"}
    large = net.add("Resize", [small, None, np.array([1, 1, 2, 2], np.float32)], attrs)[0]
    return convolution(net, net.add_concatenation(large, x, axis=1), 16)


def distances(net: tenonrt.Network, x: Any) -> Any:
    """YOLOv8's head: the means of distributions over 16 channels, beside probabilities."""
    x = net.add("Reshape", [convolution(net, x, 80), np.array([0, 80, -1], np.int64)], {})[0]
    x, classes = net.add("Split", [x, np.array([64, 16], np.int64)], {"axis": 1})
    x = net.add("Reshape", [x, np.array([0, 4, 16, -1], np.int64)], {})[0]
    x = net.add("Softmax", [net.add("Transpose", [x], {"permutation": (0, 2, 1, 3)})[0]], {"axis": 1})[0]
    mean = net.add_convolution(x, np.arange(16, dtype=np.float32).reshape(1, 16, 1, 1))
    mean = net.add("Reshape", [mean, np.array([0, 4, -1], np.int64)], {})[0]
    return net.add_concatenation(mean, net.add_activation(classes, function="sigmoid"), axis=1)


def excitation(net: tenonrt.Network, x: Any) -> Any:
    """EfficientNet's block: a gate for every channel of an image, made of its mean."""
    x = swish(net, convolution(net, x, 24, 3, groups=24))
    mean = net.add("Reduce", [x], {"operation": "mean", "axes": (2, 3), "keep_dims": True})[0]
    gate = convolution(net, swish(net, convolution(net, mean, 6)), 24)
    return convolution(net, net.add_elementwise(x, net.add_activation(gate, function="sigmoid"), operation="prod"), 16)


@pytest.mark.parametrize("block", [halves, pyramid, distances, excitation])
@pytest.mark.parametrize("batch", [1, 5])
def test_a_block_runs_on_the_gpu(block: Any, batch: int) -> None:
    net = tenonrt.Network(block.__name__)
    net.mark_output(block(net, net.add_input("x", (batch, 24, 12, 16))), "y")
    engine = tenonrt.compile(net, device="cuda", precision="float16")
    hosts = [(step.name, step.kernel) for step in engine.report.steps if ":cuda/" not in step.kernel]
    assert not hosts
    x = {"x": RNG.standard_normal((batch, 24, 12, 16)).astype(np.float32)}
    exact = tenonrt.compile(net, optimization_level=0).create_context().execute(x)["y"]
    found = engine.create_context().execute(x)["y"]
    assert np.abs(found - exact).max() < 1e-2 * np.abs(exact).max()
