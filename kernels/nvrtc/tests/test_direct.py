"""Convolutions and products of any size, compiled for the processor and judged as a build judges them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from nvrtc_emulation import REGISTRY, judge, needs_compiler, problem_of
from tenonrt.plugins.registry import using
from tenonrt_kernel_nvrtc.products import direct
from tenonrt_kernel_nvrtc.products.direct import DirectKernel
from tenonrt_kernel_nvrtc.storage import NARROW

pytestmark = needs_compiler

TYPES = [narrow.dtype for narrow in NARROW]


def weights(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def drawn_windows(draw: Any, rank: int, transposed: bool) -> dict[str, Any]:
    """Attributes that any image of 9 elements along each axis allows."""

    def axes(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank)))

    found = {"stride": axes(1, 3), "dilation": axes(1, 2)}
    found |= {"pre_padding": axes(0, 1 if transposed else 2), "post_padding": axes(0, 1 if transposed else 2)}
    mode = draw(st.sampled_from(["explicit", "same_upper", "same_lower"]))
    return found | {"padding_mode": mode}


@settings(max_examples=12)
@given(st.data())
def test_convolutions_of_any_kind(data: st.DataObject) -> None:
    rank, transposed = data.draw(st.integers(1, 3)), data.draw(st.booleans())
    groups, inner, outer = (data.draw(st.integers(1, 3)) for _ in range(3))
    window = tuple(data.draw(st.integers(1, 3)) for _ in range(rank))
    attrs = drawn_windows(data.draw, rank, transposed) | {"groups": groups}
    sizes = [data.draw(st.integers(5, 9)) for _ in range(rank)]

    def define(net: tenonrt.Network) -> Any:
        x = net.add_input("x", (2, groups * inner, *sizes))
        given = weights(*((groups * inner, outer) if transposed else (groups * outer, inner)), *window)
        add = net.add_deconvolution if transposed else net.add_convolution
        return add(x, given, weights(groups * outer), **attrs)

    problem = problem_of(define)
    if problem.types[problem.outputs[0]].size:
        judge(DirectKernel(), problem)


@pytest.mark.parametrize("extra", [{"output_padding": (1, 0)}, {"output_shape": (8, 7)}])
def test_what_a_transposed_convolution_crops(extra: dict[str, Any]) -> None:
    def define(net: tenonrt.Network) -> Any:
        x = net.add_input("x", (1, 3, 4, 4))
        return net.add_deconvolution(x, weights(3, 2, 3, 3), stride=(2, 2), pre_padding=(1, 1), **extra)

    judge(DirectKernel(), problem_of(define))


@settings(max_examples=8)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 20), st.booleans(), st.sampled_from(TYPES))
def test_fully_connected_of_any_size(m: int, n: int, k: int, biased: bool, stored: str) -> None:
    def define(net: tenonrt.Network) -> Any:
        x = net.add_input("x", (2, m, k))
        return net.add_fully_connected(x, weights(n, k), *([weights(n)] if biased else []))

    odd = bool(n % 8 or k % 8)
    assert len(judge(DirectKernel(), problem_of(define), stored=stored)) == 1 + odd


@pytest.mark.parametrize(("m", "n", "k", "key"), [
    (1, 10, 84, "1x1/2"), (1, 500, 800, "1x1/16"), (3, 33, 539, "1x1/11"), (2, 3, 257, "1x1"), (9, 2, 480, "1x1/15"),
])  # fmt: skip
def test_warps_divide_long_sums_of_few_results(m: int, n: int, k: int, key: str) -> None:
    """Into equal parts; 25 reads in a row that waited for memory took 12 us of LeNet's 20."""

    def define(net: tenonrt.Network) -> Any:
        y = net.add_fully_connected(net.add_input("x", (m, k)), weights(n, k), weights(n))
        return net.add_activation(y, function="relu")

    assert judge(DirectKernel(), problem_of(define))[0] == f"{key}:float32"


def test_the_largest_tile_that_keeps_a_gpu_busy_may_need_several_warps(monkeypatch: pytest.MonkeyPatch) -> None:
    def keys(m: int, n: int, k: int) -> tuple[Any, str]:
        problem = problem_of(lambda net: net.add_fully_connected(net.add_input("x", (m, k)), weights(n, k)))
        with using(REGISTRY):
            return problem, DirectKernel().tactics(problem)[0].key

    assert keys(128, 500, 800)[1] == "4x2/10:float32"
    assert keys(1, 20_000, 800)[1] == "1x2/8:float32", "one row, of which no thread has several"
    monkeypatch.setattr(direct, "_BUSY", 700)  # so small a GPU that a processor can be one
    problem, key = keys(11, 75, 320)
    assert key == "4x2/4:float32"
    judge(DirectKernel(), problem)


@settings(max_examples=10)
@given(st.data())
def test_stacks_of_matrices(data: st.DataObject) -> None:
    """Broadcast, transposed, by vectors, with constants on either side."""
    m, n, k = (data.draw(st.integers(1, 40)) for _ in range(3))
    flips = data.draw(st.booleans()), data.draw(st.booleans())
    left, right = ((k, m) if flips[0] else (m, k)), ((n, k) if flips[1] else (k, n))
    stacks = data.draw(st.sampled_from([((), ()), ((2, 3), (2, 3)), ((3,), ()), ((2, 1), (1, 3)), ((), (2,))]))
    constant = data.draw(st.sampled_from(["none", "first", "second"]))

    def define(net: tenonrt.Network) -> Any:
        shapes = (*stacks[0], *left), (*stacks[1], *right)
        a = weights(*shapes[0]) if constant == "first" else net.add_input("a", shapes[0])
        b = weights(*shapes[1]) if constant == "second" else net.add_input("b", shapes[1])
        return net.add_matrix_multiply(a, b, transpose_a=flips[0], transpose_b=flips[1])

    judge(DirectKernel(), problem_of(define))


@pytest.mark.parametrize("shapes", [((5,), (5,)), ((5,), (2, 5, 3)), ((2, 3, 5), (5,))])
def test_vectors(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    def define(net: tenonrt.Network) -> Any:
        return net.add_matrix_multiply(net.add_input("a", shapes[0]), net.add_input("b", shapes[1]))

    judge(DirectKernel(), problem_of(define))


def test_a_sum_and_an_activation_behind() -> None:
    def define(net: tenonrt.Network) -> Any:
        x, y = net.add_input("x", (2, 5, 9, 9)), net.add_input("y", (2, 6, 9, 9))
        z = net.add_convolution(x, weights(6, 5, 3, 3), weights(6), pre_padding=(1, 1), post_padding=(1, 1))
        return net.add_activation(net.add_elementwise(z, y, operation="sum"), function="swish")

    judge(DirectKernel(), problem_of(define))


def test_large_results_take_large_tiles() -> None:
    def define(net: tenonrt.Network) -> Any:
        return net.add_convolution(net.add_input("x", (8, 64, 112, 112)), weights(64, 64, 1, 1))

    def depthwise(net: tenonrt.Network) -> Any:
        return net.add_convolution(net.add_input("x", (8, 64, 112, 112)), weights(64, 1, 3, 3), groups=64)

    with using(REGISTRY):
        assert [tactic.key for tactic in DirectKernel().tactics(problem_of(define))] == ["8x4:float32"]
        assert DirectKernel().tactics(problem_of(depthwise))[0].key == "1x4:float32", "a group has one row"


@pytest.mark.parametrize("kind", ["activation", "computed weights"])
def test_what_it_leaves_to_others(kind: str) -> None:
    def define(net: tenonrt.Network) -> Any:
        x = net.add_input("x", (1, 3, 8, 8))
        if kind == "activation":
            return net.add_activation(x, function="relu")
        return net.add_convolution(x, net.add_input("w", (4, 3, 1, 1)))

    with using(REGISTRY):
        support = DirectKernel().supports(problem_of(define))
    assert not support.ok
    assert ("convolution" if kind == "activation" else "computed") in support.why
