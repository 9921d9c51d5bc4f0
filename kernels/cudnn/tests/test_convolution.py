"""What is asked of cuDNN, which needs no GPU to say."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given
from hypothesis import strategies as st
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.sampling import draw_inputs, reference_outputs
from tenonrt.contracts import Code, Format, Problem, UnsupportedError, Weights
from tenonrt.plugins.registry import Registry
from tenonrt_kernel_cudnn import convolution, execution, graphs
from tenonrt_kernel_cudnn.convolution import ConvolutionKernel, _tactic, image_format, variants
from tenonrt_kernel_cudnn.graphs import Description, channels_innermost, plan_text
from tenonrt_kernel_cudnn.library import missing

REGISTRY = Registry()


def block(channels: int, filters: int, function: str = "relu", **attrs: Any) -> tenonrt.Network:
    """Convolution, a sum with a second input, an activation."""
    net = tenonrt.Network("block", REGISTRY)
    weights = np.random.default_rng(0).standard_normal((filters, channels, 3, 3)).astype(np.float32)
    x = net.add_input("x", (2, channels, 9, 7))
    y = net.add_convolution(x, weights, np.ones(filters, np.float32), pre_padding=(1, 1), post_padding=(1, 1))
    y = net.add_elementwise(y, net.add_input("z", y.type.shape), operation="sum")
    net.mark_output(net.add_activation(y, function=function, **attrs), "y")
    return net


def problem_of(net: tenonrt.Network) -> Problem:
    (*_, widest) = ConvolutionKernel().regions(net.graph, net.graph.layers[0])
    assert len(widest) == 3
    return pose(make_region(net.graph, widest), "cuda", 1).problem


def test_both_orders_of_a_sum_and_few_channels_padded_to_four() -> None:
    found = variants(problem_of(block(3, 20)))
    halves = {name: d for name, d in found.items() if d.stored == "float16"}
    assert list(halves) == ["c8", "c8:sum", "c4", "c4:sum"]
    assert found["c8"].image == (2, 8, 9, 7)
    assert found["c4"].filters == (24, 4, 3, 3)
    assert found["c4"].result == (2, 24, 9, 7)
    assert [d.added_first for d in halves.values()] == [False, True, False, True]
    others = {name.replace(":bfloat16", ""): d for name, d in found.items() if d.stored == "bfloat16"}
    assert others == {name: replace(d, stored="bfloat16") for name, d in halves.items()}
    assert [name for name, d in found.items() if d.stored == "float32"] == ["c4:float32", "c4:float32:sum"]


def test_only_what_is_permitted_is_asked_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """To list its engine configurations takes as long for each type."""
    asked: list[Description] = []
    monkeypatch.setattr(convolution, "offered", lambda description, workspace: asked.append(description) or ["any"])
    kernel, problem = ConvolutionKernel(), problem_of(block(3, 8))
    assert not kernel.tactics_within(problem, {"float32"}.__contains__)
    assert not asked
    tactics = kernel.tactics_within(problem, {"float32", "bfloat16"}.__contains__)
    assert {d.stored for d in asked} == {"bfloat16"}
    assert {tactic.precision for tactic in tactics} == {"bfloat16"}
    everything = kernel.tactics(problem)
    assert {tactic.precision for tactic in everything} == {"float16", "bfloat16", "tf32"}
    assert len({tactic.key for tactic in everything}) == len(everything) == 2 * len(tactics) + 2
    assert len({kernel.packing(problem, tactic) for tactic in everything}) == 5


def test_a_clip_from_zero_is_a_relu_with_a_limit() -> None:
    assert variants(problem_of(block(8, 8, "clip", alpha=0.0, beta=6.0)))["c8"].activation == ("relu", 6.0)
    (alone, _) = ConvolutionKernel().regions(block(8, 8, "gelu").graph, block(8, 8, "gelu").graph.layers[0])
    assert len(alone) == 1


@pytest.mark.parametrize(
    ("variant", "stored"), [("c8", "float16"), ("c8:bfloat16", "bfloat16"), ("c4:float32", "float32")]
)
def test_packed_weights_compute_the_convolution(variant: str, stored: str) -> None:
    """Filters [K, R, S, C] over an image with padded channels, against the layers' references."""
    problem = problem_of(block(5, 6))
    inputs = draw_inputs(problem, REGISTRY.layer_type, 0)
    (expected,) = reference_outputs(problem, REGISTRY.layer_type, inputs)
    code = Code(problem, _tactic(problem, variant, stored, "any"))
    filters, bias = ConvolutionKernel().pack(code, Weights(tuple(inputs[i] for i in problem.constants)))
    assert (filters.shape, bias.shape) == ((8, 3, 3, 8), (8,))
    assert filters.dtype.name == bias.dtype.name == stored
    image = np.pad(inputs[problem.layer.inputs[0]], ((0, 0), (0, 3), (1, 1), (1, 1)))
    patches = np.lib.stride_tricks.sliding_window_view(image, (3, 3), (2, 3))
    y = np.einsum("nchwrs,krsc->nkhw", patches.astype(np.float64), filters.astype(np.float64))
    y = np.maximum(y[:, :6] + bias[:6, None, None].astype(np.float64) + inputs[problem.layers[1].inputs[1]], 0)
    tolerance = 0.02 if stored == "float16" else 0.1
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)


def test_formats_and_strides() -> None:
    problem = problem_of(block(3, 8))
    for variant, stored in (("c4:sum", "float16"), ("c4:bfloat16:sum", "bfloat16")):
        tactic = _tactic(problem, variant, stored, "any")
        assert tactic.inputs == (image_format(4, stored), image_format(8, stored))
        assert tactic.precision == stored
    tactic = _tactic(problem, "c4:float32", "float32", "any")
    assert tactic.inputs == (Format((0, 2, 3, 1), ((1, 4),)),) * 2
    assert tactic.precision == "tf32"
    assert channels_innermost((2, 8, 9, 7)) == [504, 1, 56, 8]


@pytest.mark.skipif(not missing(), reason="cuDNN can be used here")
def test_without_a_gpu_it_is_refused_with_the_reason() -> None:
    support = ConvolutionKernel().supports(problem_of(block(8, 8)))
    assert not support.ok
    assert support.why == missing()


def ubjson(value: Any) -> bytes:
    """Of names, texts and lists, with the shortest type for each length, as cuDNN's front end writes them."""
    if isinstance(value, dict):
        return b"{" + b"".join(ubjson(k)[1:] + ubjson(v) for k, v in value.items()) + b"}"
    if isinstance(value, list):
        return b"[" + b"".join(map(ubjson, value)) + b"]"
    raw = value.encode()
    types = ((b"i", ">b", 127), (b"U", ">B", 255), (b"I", ">h", 2**15 - 1), (b"l", ">i", 2**31 - 1))
    name, form, _ = next(row for row in types if len(raw) <= row[2])
    return b"S" + name + struct.pack(form, len(raw)) + raw


@given(st.integers(0, 70_000), st.text(max_size=5), st.dictionaries(st.text(max_size=5), st.text(max_size=9)))
def test_the_text_of_a_plan_is_found_in_a_serialised_graph(length: int, filler: str, others: dict[str, str]) -> None:
    text = (filler * length)[:length] or "{}"
    whole = {"behavior_notes": ["x"], "context": others, "cudnn_backend_data": text, "uids": []}
    assert plan_text(ubjson(whole)) == text.encode()


@pytest.mark.parametrize(
    "serialised", [b"", b"{}", ubjson({"cudnn_backend_data": ["no text"]}), b"cudnn_backend_dataSU"]
)
def test_a_serialised_graph_without_a_plan_is_refused(serialised: bytes) -> None:
    with pytest.raises(ValueError, match="not known here"):
        plan_text(serialised)


def test_a_plan_that_was_just_loaded_is_not_loaded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[bytes] = []

    def descriptor(kind: int, attributes: Sequence[tuple[int, int, int, Any]], what: str) -> object:
        loaded.append(attributes[1][3])
        return object()

    monkeypatch.setattr(execution, "Descriptor", descriptor)
    monkeypatch.setattr(execution, "_handle", ctypes.c_void_p)
    monkeypatch.setattr(execution, "library", lambda: SimpleNamespace(cudnnGetVersion=lambda: 91900))
    execution._loaded.cache_clear()
    for text in (b'{"plan": 1}', b'{"plan": 2}', b'{"plan": 1}'):
        execution.Planned(text, {}, [])
    execution._loaded.cache_clear()
    assert loaded == [b'{"plan": 1}', b'{"plan": 2}']


def test_running_a_plan_without_cudnn_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "_PLACES", ())
    monkeypatch.setattr(execution, "_PATTERNS", ())
    monkeypatch.delenv(execution.LIBRARY, raising=False)
    execution.library.cache_clear()
    with pytest.raises(UnsupportedError, match="pip install nvidia-cudnn"):
        execution.Planned(b"{}", {}, [])


class Recorded:
    """A graph that says what was asked of it; ``swish``: whether it takes one."""

    def __init__(self, swish: bool) -> None:
        self._swish = swish

    def swish(self, input: str) -> str:
        if not self._swish:
            raise TypeError("swish(): incompatible function arguments")
        return f"swish({input})"

    def sigmoid(self, input: str) -> str:
        return f"sigmoid({input})"

    def mul(self, a: str, b: str) -> str:
        return f"{a} * {b}"


@pytest.mark.parametrize(("takes", "asked"), [(True, "swish(y)"), (False, "y * sigmoid(y)")])
def test_a_front_end_that_takes_no_swish_gets_its_parts(takes: bool, asked: str) -> None:
    """It raised where a convolution with SiLU was offered, and the kernel was set aside for the whole network."""
    assert graphs._activated(Recorded(takes), "y", "swish", None, None) == asked
