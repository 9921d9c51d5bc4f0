"""Convolutions on bytes on a GPU: every tactic against float64, and an engine in int8 beside an exact one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.trial import Packs, Sample, try_tactic
from tenonrt.contracts import Problem
from tenonrt.plugins.registry import Registry, using
from tenonrt_kernel_cudnn.byte_convolution import ByteConvolutionKernel

REGISTRY = Registry()
KERNEL = ByteConvolutionKernel()


def block(stored: str | None, added: bool, window: int, stride: int) -> Problem:
    """The widest region of a convolution of 64 channels."""
    rng, net = np.random.default_rng(0), tenonrt.Network("block", REGISTRY)
    x = net.add("Dequantize", [net.add_input("x", (2, 64, 14, 14), "int8"), np.float32(0.1)], {})[0]
    filters = rng.integers(-127, 128, (128, 64, window, window)).astype(np.int8)
    scales = rng.uniform(0.5, 1.5, 128).astype(np.float32)
    w = net.add("Dequantize", [filters, scales], {"axis": 0})[0]
    margin = (window // 2,) * 2
    attrs = {"stride": (stride,) * 2, "pre_padding": margin, "post_padding": margin}
    y = net.add("Convolution", [x, w, np.ones(128, np.float32)], attrs)[0]
    if added:
        z = net.add("Dequantize", [net.add_input("z", y.type.shape, "int8"), np.float32(0.7)], {})[0]
        y = net.add_elementwise(y, z, operation="sum")
    y = net.add_activation(y, function="relu")
    if stored:
        y = net.add("Quantize", [y, np.float32(1.9)], {"dtype": stored})[0]
    net.mark_output(y, "y")
    anchor = next(layer for layer in net.graph.layers if layer.kind == "Convolution")
    return pose(make_region(net.graph, list(KERNEL.regions(net.graph, anchor))[-1]), "cuda", 1).problem


@pytest.mark.parametrize(
    ("stored", "added", "window", "stride"),
    [("int8", False, 3, 1), ("int8", True, 1, 1), (None, False, 3, 2), (None, True, 1, 1)],
)
def test_every_tactic(stored: str | None, added: bool, window: int, stride: int) -> None:
    problem, device, packs = block(stored, added, window, stride), REGISTRY.device("cuda"), Packs()
    with using(REGISTRY):
        assert KERNEL.supports(problem).ok, KERNEL.supports(problem).why
        sample = Sample.draw(problem, REGISTRY.layer_type, 2, 0)
        refused, right = [], 0
        for tactic in KERNEL.tactics(problem):
            try:
                verdict, _ = try_tactic(KERNEL, problem, tactic, [sample], REGISTRY.layer_type, device, packs)
            except Exception as error:  # noqa: BLE001 - configurations that cuDNN offers and then refuses
                refused.append(f"{tactic.key}: {error!r}")
                continue
            assert verdict.ok, f"{tactic.key}: {verdict.why}"
            right += 1
    assert right, "\n".join(refused) or "cuDNN offers nothing"


def network() -> Any:
    rng, net = np.random.default_rng(0), tenonrt.Network("small", REGISTRY)
    x = net.add_input("x", (4, 3, 32, 32))
    for channels, inner in ((32, 3), (64, 32), (64, 64)):
        w = (rng.standard_normal((channels, inner, 3, 3)) / np.sqrt(9 * inner)).astype(np.float32)
        x = net.add_convolution(x, w, np.zeros(channels, np.float32), pre_padding=(1, 1), post_padding=(1, 1))
        x = net.add_activation(x, function="relu")
    net.mark_output(x, "y")
    return net


def test_an_engine_in_int8() -> None:
    rng = np.random.default_rng(1)
    data = [{"x": rng.standard_normal((4, 3, 32, 32)).astype(np.float32)} for _ in range(2)]
    exact = tenonrt.compile(network(), optimization_level=0).create_context().execute(data[0])["y"]
    engine = tenonrt.compile(
        network(), device="cuda", precision="best", calibration=tenonrt.Calibration(data, "min-max")
    )
    found = engine.create_context().execute(data[0])["y"]
    assert np.abs(found - exact).max() < 0.05 * np.abs(exact).max()
    assert any("cudnn_bytes" in str(step) for step in engine.report.choices)
