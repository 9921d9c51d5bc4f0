"""First convolutions on the processor, judged as a build judges them, and compiled for GPUs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from nvrtc_emulation import REGISTRY, judge, needs_compiler, problem_of
from tenonrt.contracts import UnsupportedError
from tenonrt.plugins.registry import using
from tenonrt_kernel_nvrtc.compiler import compile_cubin, library
from tenonrt_kernel_nvrtc.images.first import FirstKernel, _parts, _work
from tenonrt_kernel_nvrtc.images.first_source import packed_filters
from tenonrt_kernel_nvrtc.storage import NARROW, prelude

KERNEL = FirstKernel()


def weights(*shape: int) -> Any:
    values = np.random.default_rng(sum(shape)).standard_normal(shape)
    return (values / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def first(
    net: tenonrt.Network, image: tuple[int, ...], filters: tuple[int, ...], function: str = "", *, bias: bool = True,
    **attrs: Any,
) -> Any:  # fmt: skip
    """A convolution of images [N, channels, H, W] by [columns, R, S]."""
    columns, *window = filters
    added = [weights(1, columns)[0]] if bias else []
    y = net.add_convolution(net.add_input("x", image), weights(columns, image[1], *window), *added, **attrs)
    return net.add_activation(y, function=function) if function else y


@needs_compiler
@settings(max_examples=6)
@given(
    images=st.integers(1, 2), channels=st.integers(1, 4), size=st.tuples(st.integers(9, 20), st.integers(9, 40)),
    columns=st.integers(1, 40), window=st.tuples(st.integers(1, 4), st.integers(1, 8)), strides=st.integers(1, 3),
    mode=st.sampled_from(["valid", "same_upper", "same_lower"]), function=st.sampled_from(["", "relu", "swish"]),
    bias=st.booleans(),
)  # fmt: skip
def test_first_convolutions_of_any_size(
    images: int, channels: int, size: tuple[int, int], columns: int, window: tuple[int, int], strides: int, mode: str,
    function: str, bias: bool,
) -> None:  # fmt: skip
    problem = problem_of(
        lambda net: first(
            net, (images, channels, *size), (columns, *window), function, bias=bias, stride=(strides, strides),
            padding_mode=mode,
        )
    )  # fmt: skip
    with using(REGISTRY):
        keys = [tactic.key for tactic in KERNEL.tactics_within(problem, {"float16"}.__contains__)]
    judge(KERNEL, problem, keys[:1] + keys[-1:], allowed=2)


CASES = {
    "of ResNet-50": ((1, 3, 16, 20), (64, 7, 7), "relu", (2, 2), (3, 3)),
    "of MobileNetV2": ((2, 3, 12, 12), (32, 3, 3), "relu", (2, 2), (1, 1)),
    "of YOLOv8n": ((1, 3, 16, 40), (16, 3, 3), "swish", (2, 2), (1, 1)),
    "of ConvNeXt, whose 96 columns two warps share": ((1, 3, 16, 16), (96, 4, 4), "", (4, 4), (0, 0)),
    "of YOLOv5": ((1, 3, 16, 16), (48, 6, 6), "swish", (2, 2), (2, 2)),
}


def case(name: str) -> Any:
    image, filters, function, stride, padding = CASES[name]
    return problem_of(
        lambda net: first(net, image, filters, function, stride=stride, pre_padding=padding, post_padding=padding)
    )


@needs_compiler
@pytest.mark.parametrize("stored", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", CASES)
def test_first_convolutions_of_networks(name: str, stored: str) -> None:
    """The best guess writes whole images, and slices of wider ones."""
    problem = case(name)
    with using(REGISTRY):
        key = KERNEL.tactics_within(problem, {"float16"}.__contains__)[0].key
    judge(KERNEL, problem, [key], stored, allowed=2)


@pytest.mark.parametrize("name", CASES)
def test_it_compiles_for_gpus_of_two_generations(name: str) -> None:
    try:
        library()
    except UnsupportedError as error:
        pytest.skip(str(error))
    with using(REGISTRY):
        for stored, architecture in (("float16", "sm_90a"), ("bfloat16", "sm_80")):
            tactic = KERNEL.tactics_within(case(name), stored.__eq__)[-1]
            source, _ = KERNEL.generate(case(name), tactic)
            assert compile_cubin(prelude(tactic) + KERNEL.library + source, architecture)


def refused(define: Any) -> str:
    with using(REGISTRY):
        return KERNEL.supports(problem_of(define)).why


def test_what_is_refused() -> None:
    assert "5 channels" in refused(lambda net: first(net, (1, 5, 9, 9), (8, 3, 3)))
    assert "a window of 9 across" in refused(lambda net: first(net, (1, 3, 19, 19), (8, 3, 9)))
    assert "dilation" in refused(lambda net: first(net, (1, 3, 19, 19), (8, 3, 3), dilation=(2, 2)))
    assert "256 columns of a window of 7 by 7" in refused(lambda net: first(net, (1, 3, 19, 19), (256, 7, 7)))

    def summed(net: tenonrt.Network) -> Any:
        y = first(net, (1, 3, 9, 9), (8, 3, 3))
        return net.add_elementwise(y, net.add_input("z", y.type.shape), operation="sum")

    assert "another tensor" in refused(summed)


@pytest.mark.parametrize("narrow", NARROW, ids=lambda narrow: narrow.dtype)
def test_words_hold_every_weight_once(narrow: Any) -> None:
    part, g = _parts(case("of ResNet-50"))
    work = _work(g, part.columns)
    filters = (np.arange(1, 64 * 3 * 49 + 1) % 199 + 1).astype(np.float32).reshape(64, 3, 7, 7)
    words = packed_filters(filters, work, narrow)
    assert words.shape == (work.parts, 7, 2, work.groups, 2, 32)
    held = words.view(narrow.rounded(np.zeros(1)).dtype).astype(np.float32)
    assert sorted(held[held != 0]) == sorted(filters.reshape(-1))
