"""Convolutions on bytes: which regions they take, what is asked of cuDNN, and what the packed numbers compute."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.sampling import draw_inputs, reference_outputs
from tenonrt.contracts import NHWC, Code, Problem, Tactic, Weights
from tenonrt.plugins.registry import Registry
from tenonrt_kernel_cudnn import byte_convolution, graphs
from tenonrt_kernel_cudnn.byte_convolution import ByteConvolutionKernel, description, refusal
from tenonrt_kernel_cudnn.convolution import image_format

REGISTRY = Registry()
KERNEL = ByteConvolutionKernel()


@dataclass(frozen=True)
class Block:
    """Dequantize, convolution, and what follows. zero: the image's zero point."""

    channels: int = 16
    filters: int = 32
    window: int = 3
    stride: int = 1
    batch: int = 2
    read: str = "int8"
    added: str | None = "int8"
    function: str | None = "relu"
    stored: str | None = "int8"
    bias: bool = True
    zero: int | None = None
    groups: int = 1

    def network(self) -> tenonrt.Network:
        rng, net = np.random.default_rng(0), tenonrt.Network("block", REGISTRY)
        shape = (self.filters, self.channels // self.groups, self.window, self.window)
        kernel = rng.integers(-127, 128, shape).astype(np.int8)
        scales = rng.uniform(0.5, 1.5, self.filters).astype(np.float32)
        points = [] if self.zero is None else [np.array(self.zero, self.read)]
        image = net.add_input("x", (self.batch, self.channels, 9, 7), self.read)
        x = net.add("Dequantize", [image, np.float32(0.3), *points], {})[0]
        w = net.add("Dequantize", [kernel, scales], {"axis": 0})[0]
        operands = [x, w, *([np.ones(self.filters, np.float32)] if self.bias else [])]
        margin = (self.window // 2,) * 2
        attrs = {"stride": (self.stride,) * 2, "pre_padding": margin, "post_padding": margin, "groups": self.groups}
        y = net.add("Convolution", operands, attrs)[0]
        if self.added:
            z = net.add("Dequantize", [net.add_input("z", y.type.shape, self.added), np.float32(0.7)], {})[0]
            y = net.add_elementwise(y, z, operation="sum")
        if self.function:
            bounds = {"alpha": 0.0, "beta": 6.0} if self.function == "clip" else {}
            y = net.add_activation(y, function=self.function, **bounds)
        if self.stored:
            y = net.add("Quantize", [y, np.float32(1.9)], {"dtype": self.stored})[0]
        net.mark_output(y, "y")
        return net

    def problems(self) -> list[Problem]:
        net = self.network()
        anchor = next(layer for layer in net.graph.layers if layer.kind == "Convolution")
        return [pose(make_region(net.graph, r), "cuda", 1).problem for r in KERNEL.regions(net.graph, anchor)]


blocks = st.builds(
    Block, st.sampled_from([16, 32]), st.sampled_from([16, 48]), st.sampled_from([1, 3]), st.integers(1, 2),
    st.integers(1, 2), st.just("int8"), st.sampled_from([None, "int8"]),
    st.sampled_from([None, "relu", "clip"]), st.sampled_from([None, "int8"]), st.booleans(),
)  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(blocks)
def test_packed_numbers_compute_what_the_layers_mean(block: Block) -> None:
    problem = block.problems()[-1]
    assert refusal(problem) == ""
    inputs = draw_inputs(problem, REGISTRY.layer_type, 1)
    (expected,) = reference_outputs(problem, REGISTRY.layer_type, inputs)
    tactic = Tactic("any", (NHWC,) * len(problem.activations), (NHWC if block.stored else image_format(8, "float16"),))
    packed = KERNEL.pack(Code(problem, tactic), Weights(tuple(inputs[i] for i in problem.constants)))
    found = computed(problem, inputs, packed)
    if block.stored:
        assert np.abs(found - expected.astype(np.int64)).max() <= 1
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def computed(problem: Problem, inputs: list[Any], packed: Any) -> Any:
    """What the described graph makes of the packed arrays, in float64."""
    d = description(problem)
    filters, factors, offsets, *rest = (np.asarray(array, np.float64) for array in packed)
    x, *others = (inputs[i].astype(np.float64) for i in problem.activations)
    x = np.pad(x, ((0, 0), (0, 0), *zip(d.before, d.after, strict=True)))
    patches = np.lib.stride_tricks.sliding_window_view(x, d.filters[2:], (2, 3))[:, :, :: d.stride[0], :: d.stride[1]]
    y = np.einsum("nchwrs,krsc->nkhw", patches, filters)
    y = y * factors[:, None, None] + offsets[:, None, None]
    if d.added:
        y = y + others[0] * rest.pop(0)
    y = np.maximum(y, 0) if d.rectified else y
    y = np.minimum(y, rest.pop(0)) if d.limited else y
    assert not rest
    return y if d.stored == "float16" else np.clip(np.rint(y), -128, 127).astype(np.int64)


def test_a_region_may_end_before_a_sum() -> None:
    first, whole = Block().problems()
    assert first.kinds == ("Dequantize", "Dequantize", "Convolution")
    assert whole.kinds[-3:] == ("Elementwise", "Activation", "Quantize")
    assert description(first).stored == "float16"
    assert description(whole).added


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (Block(zero=3), "a Dequantize by channel or with a zero point"),
        (Block(channels=24), "groups, or channels that are no multiple of 16"),
        (Block(channels=32, groups=2), "groups, or channels that are no multiple of 16"),
        (Block(read="uint8"), "unsigned bytes, for which cuDNN 9 has no engine on Hopper"),
        (Block(stored="uint8"), "unsigned bytes, for which cuDNN 9 has no engine on Hopper"),
        (Block(added="uint8"), "unsigned bytes, for which cuDNN 9 has no engine on Hopper"),
        (Block(filters=20), "groups, or channels that are no multiple of 16"),
    ],
    ids=str,
)
def test_what_is_refused(block: Block, why: str) -> None:
    assert refusal(block.problems()[-1]) == why


def test_weights_of_another_type_and_other_activations_stay_outside() -> None:
    net = Block(function="gelu").network()
    anchor = next(layer for layer in net.graph.layers if layer.kind == "Convolution")
    widest = list(KERNEL.regions(net.graph, anchor))[-1]
    assert [layer.kind for layer in widest][-1] == "Elementwise"


def test_real_results_are_offered_in_what_is_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(byte_convolution, "offered", lambda d, workspace: asked.append(d.stored) or ["any"])
    real, stored = Block().problems()
    assert not KERNEL.tactics_within(real, {"float32", "int8"}.__contains__)
    (tactic,) = KERNEL.tactics_within(real, {"float32", "bfloat16"}.__contains__)
    assert (tactic.precision, tactic.output_format(0)) == ("bfloat16", image_format(8, "bfloat16"))
    assert asked == ["bfloat16"]
    assert [tactic.key for tactic in KERNEL.tactics(real)] == ["any", "any bfloat16"]
    assert [tactic.key for tactic in KERNEL.tactics_within(stored, {"float32"}.__contains__)] == ["any"]
    assert asked[-1] == "int8"


def test_a_graph_that_no_engine_takes_has_no_tactics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one such graph would put the kernel out of the whole build."""

    class NotSupported(Exception):  # noqa: N818 - cuDNN's has such a name
        pass

    def refuse(description: Any, workspace: int) -> Any:
        raise NotSupported

    monkeypatch.setattr(graphs, "cudnn", lambda: SimpleNamespace(cudnnGraphNotSupportedError=NotSupported))
    monkeypatch.setattr(graphs, "planned", refuse)
    assert list(KERNEL.tactics(Block().problems()[-1])) == []
