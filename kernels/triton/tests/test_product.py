"""Products in Triton without a GPU: interpreted as a build tries them, and compiled to machine code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from tenonrt_kernel_triton.product import ProductKernel
from tenonrt_kernel_triton.product_problem import Product, product_of
from tenonrt_kernel_triton.product_tiles import Tile, tiles
from triton_interpretation import judge, needs_triton, problem_of


def weights(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32) / np.float32(np.sqrt(shape[-1]))


def dense(m: int, k: int, n: int, tail: str, **attributes: Any) -> Callable[[tenonrt.Network], Any]:
    def define(net: tenonrt.Network) -> Any:
        y = net.add_fully_connected(net.add_input("x", (m, k)), weights(n, k), weights(n))
        return follow(net, y, tail, **attributes)

    return define


def pixels(n: int, c: int, h: int, w: int, k: int, tail: str, **attributes: Any) -> Callable[[tenonrt.Network], Any]:
    def define(net: tenonrt.Network) -> Any:
        y = net.add_convolution(net.add_input("x", (n, c, h, w)), weights(k, c, 1, 1), weights(k))
        return follow(net, y, tail, **attributes)

    return define


def follow(net: tenonrt.Network, y: Any, tail: str, **attributes: Any) -> Any:
    for step in tail.split():
        if step == "sum":
            y = net.add_elementwise(y, net.add_input("z", tuple(y.type.shape)), operation="sum")
        else:
            y = net.add_activation(y, function=step, **attributes)
    return y


TAILS = ["", "relu", "sum", "sum relu", "gelu", "gelu_tanh", "swish", "sum sigmoid"]


@needs_triton
@pytest.mark.parametrize("tail", TAILS)
def test_fully_connected_layers(tail: str) -> None:
    assert judge(ProductKernel(), problem_of(dense(37, 72, 40, tail)), 2) == 2


@needs_triton
@pytest.mark.parametrize("tail", ["sum", "sigmoid", "sum swish"])
def test_pixels_on_slices_with_padded_channels(tail: str) -> None:
    """Operands are slices of wider images too, and the padding is zero where the activation of zero is not."""
    assert judge(ProductKernel(), problem_of(pixels(2, 12, 5, 7, 20, tail)), 2) == 2


@needs_triton
@pytest.mark.parametrize("limits", [{"alpha": -0.5, "beta": 0.5}, {"alpha": 0.25}, {"beta": 0.0}])
def test_clips_have_one_limit_or_two(limits: dict[str, float]) -> None:
    judge(ProductKernel(), problem_of(pixels(1, 8, 3, 3, 12, "clip", **limits)), 1)


@needs_triton
def test_every_tile_of_a_long_product() -> None:
    assert judge(ProductKernel(), problem_of(dense(70, 200, 136, "relu"))) >= 4


@needs_triton
def test_a_sum_with_what_is_multiplied() -> None:
    """One tensor is both operands, so that it is passed once and read twice."""

    def define(net: tenonrt.Network) -> Any:
        x = net.add_input("x", (20, 32))
        return net.add_elementwise(x, net.add_fully_connected(x, weights(32, 32)), operation="sum")

    judge(ProductKernel(), problem_of(define), 2)


@needs_triton
@settings(max_examples=6, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 9), st.sampled_from(TAILS))
def test_any_sizes(m: int, k: int, n: int, tail: str) -> None:
    judge(ProductKernel(), problem_of(dense(m, 8 * k, 8 * n, tail)), 1)


@needs_triton
@pytest.mark.parametrize("target", [80, 90])
def test_machine_code_is_made_without_a_gpu(target: int) -> None:
    from tenonrt_kernel_triton.compiler import compile_program

    problem, kernel = problem_of(pixels(2, 64, 14, 14, 136, "sum relu")), ProductKernel()
    cubin, how = compile_program(kernel.program(problem, kernel.tactics(problem)[0]), target)
    tile = Tile.parsed(kernel.tactics(problem)[0].key)
    assert cubin.startswith(b"\x7fELF")
    assert (how.name, how.threads, how.grid) == ("product", 32 * tile.warps, (tile.programs(392, 136),))
    assert how.operands == (0, 1, 2, 3, 4)
    assert how.pitches == (0, 1, 2)
    assert how.shared >= tile.rows * tile.depth


def test_problems_are_products() -> None:
    assert product_of(problem_of(dense(10, 16, 24, "sum gelu"))) == Product(10, 24, 16, 24, False, 3, "gelu")
    found = product_of(problem_of(pixels(2, 12, 3, 5, 20, "swish")))
    assert found == Product(30, 24, 16, 20, True, None, "swish", 1.0)


@pytest.mark.parametrize(
    ("define", "why"),
    [
        (dense(9, 12, 24, ""), "multiples of 8"),
        (dense(9, 16, 24, "tanh"), "tanh"),
        (dense(9, 16, 24, "relu sum"), "follows it"),
    ],
)
def test_what_it_does_not_compute_is_refused_with_the_reason(define: Any, why: str) -> None:
    support = ProductKernel().supports(problem_of(define))
    assert not support.ok
    assert why in support.why


def test_wide_windows_are_refused() -> None:
    def define(net: tenonrt.Network) -> Any:
        return net.add_convolution(net.add_input("x", (1, 8, 9, 9)), weights(8, 8, 3, 3))

    assert "window" in ProductKernel().supports(problem_of(define)).why


@settings(max_examples=40)
@given(st.integers(1, 20000), st.integers(1, 600), st.integers(1, 600))
def test_tiles_fit_a_multiprocessor_and_cover_the_product(m: int, n: int, k: int) -> None:
    found = tiles(m, 8 * n, 8 * k)
    assert 0 < len(found) == len({tile.key for tile in found})
    for tile in found:
        assert Tile.parsed(tile.key) == tile
        assert tile.shared <= 227 << 10
        assert tile.programs(m, 8 * n) * tile.rows * tile.columns >= m * 8 * n
        assert tile.seconds(m, 8 * n, 8 * k) > 0
