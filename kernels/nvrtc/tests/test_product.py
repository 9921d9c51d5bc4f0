"""Products on tensor cores without a GPU: what is packed and gathered, tiles that are offered, and their source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from nvrtc_emulation import REGISTRY
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.sampling import draw_inputs, reference_outputs
from tenonrt.contracts import Code, Problem, UnsupportedError, Weights
from tenonrt.plugins.registry import using
from tenonrt_kernel_nvrtc.compiler import compile_cubin, library
from tenonrt_kernel_nvrtc.products.problem import Geometry, branches, geometry
from tenonrt_kernel_nvrtc.products.product import ProductKernel
from tenonrt_kernel_nvrtc.products.tiles import Tile, blocks_of, tiles
from tenonrt_kernel_nvrtc.storage import BFLOAT16, FLOAT16, NARROW, Narrow, prelude


def weights(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def problem_of(define: Callable[[tenonrt.Network], Sequence[Any]]) -> Problem:
    network = tenonrt.Network("problem", REGISTRY)
    for number, output in enumerate(define(network)):
        network.mark_output(output, f"y{number}")
    return pose(make_region(network.graph, network.graph.layers), "cuda", 1).problem


def siblings(n: int, c: int, h: int, w: int, outputs: Sequence[int], window: int, stride: int) -> Problem:
    def define(net: tenonrt.Network) -> Sequence[Any]:
        x, sizes = net.add_input("x", (n, c, h, w)), {"stride": (stride,) * 2, "pre_padding": (window // 2,) * 2}
        return [net.add_convolution(x, weights(k, c, window, window), weights(k), **sizes) for k in outputs]

    return problem_of(define)


def gathered(image: Any, g: Geometry) -> Any:
    """Rows of the product [m, taps, channels], as the kernel's threads address pixels with channels innermost."""
    c, h, w = image.shape[1:]
    pixels = np.pad(image.transpose(0, 2, 3, 1).reshape(-1, c), ((0, 0), (0, g.channels - c)))
    found = np.zeros((g.m, g.taps, g.channels))
    for m in range(g.m):
        plane = g.rows.positions * g.columns.positions
        p, q = m % plane // g.columns.positions, m % g.columns.positions
        y, x = p * g.rows.stride - g.rows.before, q * g.columns.stride - g.columns.before
        pixel = (m // plane * h + y) * w + x
        for tap in range(g.taps):
            dy, dx = tap // g.columns.window * g.rows.dilation, tap % g.columns.window * g.columns.dilation
            if 0 <= y + dy < h and 0 <= x + dx < w:
                found[m, tap] = pixels[pixel + dy * w + dx]
    return found


@settings(max_examples=20)
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 70), st.integers(3, 6), st.integers(3, 6)),
    st.lists(st.integers(1, 20), min_size=1, max_size=3),
    st.sampled_from([1, 3]),
    st.integers(1, 2),
    st.sampled_from(NARROW),
)
def test_packed_weights_times_gathered_pixels_are_the_convolution(
    shape: tuple[int, int, int, int], outputs: list[int], window: int, stride: int, narrow: Narrow
) -> None:
    """In float64, for all siblings at once; padded columns are zero."""
    with using(REGISTRY):
        problem, kernel = siblings(*shape, outputs, window, stride), ProductKernel()
        assert not kernel.refuses(problem)
        inputs = [np.asarray(a) for a in draw_inputs(problem, REGISTRY.layer_type, 0)]
        expected = reference_outputs(problem, REGISTRY.layer_type, inputs)
        constants = tuple(inputs[i] for i in problem.constants)
        tactic = kernel.tactics_within(problem, {narrow.dtype}.__contains__)[0]
        packed, bias = kernel.pack(Code(problem, tactic), Weights(constants, (), ()))
    g, parts = geometry(problem), branches(problem)
    assert not isinstance(parts, str)
    rows = gathered(inputs[problem.layer.inputs[0]].astype(np.float64), g)
    assert packed.shape == (sum(part.columns for part in parts), blocks_of(g) * 64)
    whole = g.taps * g.channels
    sums = rows.reshape(g.m, whole) @ packed[:, :whole].T.astype(np.float64) + bias
    assert not packed[:, whole:].any()
    for part, answer in zip(parts, expected, strict=True):
        flat = answer.transpose(0, 2, 3, 1).reshape(g.m, -1)
        mine = sums[:, part.first : part.first + part.columns]
        np.testing.assert_allclose(
            mine[:, : flat.shape[1]], flat, rtol=2e-3, atol=2e-2 if narrow.dtype == "float16" else 0.2
        )
        assert not mine[:, flat.shape[1] :].any()


def test_a_tail_may_read_one_tensor_of_the_results_shape() -> None:
    def residual(net: tenonrt.Network) -> Sequence[Any]:
        y = net.add_fully_connected(net.add_input("x", (9, 16)), weights(24, 16), weights(24))
        y = net.add_activation(y, function="gelu")
        return [net.add_elementwise(y, net.add_input("z", (9, 24)), operation="sum")]

    def broadcast(net: tenonrt.Network) -> Sequence[Any]:
        y = net.add_fully_connected(net.add_input("x", (9, 16)), weights(24, 16), weights(24))
        return [net.add_elementwise(y, net.add_input("z", (1, 24)), operation="sum")]

    assert ProductKernel().supports(problem_of(residual)).ok
    refused = ProductKernel().supports(problem_of(broadcast))
    assert not refused.ok
    assert "beside" in refused.why


def test_rows_that_do_not_start_at_16_bytes_are_refused() -> None:
    def define(net: tenonrt.Network) -> Sequence[Any]:
        return [net.add_fully_connected(net.add_input("x", (9, 12)), weights(24, 12), weights(24))]

    assert "multiples of 8" in ProductKernel().supports(problem_of(define)).why


@settings(max_examples=30)
@given(st.integers(1, 5000), st.integers(1, 3000), st.integers(1, 2048))
def test_tiles_fit_a_multiprocessor_and_cover_the_product(m: int, n: int, k: int) -> None:
    def define(net: tenonrt.Network) -> Sequence[Any]:
        return [net.add_fully_connected(net.add_input("x", (m, 8 * k)), np.zeros((8, 8 * k), np.float32))]

    g, n8 = geometry(problem_of(define)), -(-n // 8) * 8
    found = tiles(g, n8)
    assert 0 < len(found) == len({tile.key for tile in found})
    for tile in found:
        assert Tile.parsed(tile.key) == tile
        assert tile.shared <= 227 << 10
        assert tile.stages >= 4
        assert tile.grid(m, n8) * tile.rows * tile.columns >= m * n8 * tile.split
        assert tile.split == 1 or blocks_of(g) >= 2 * tile.split


KEYS = [*((key, FLOAT16) for key in ("64x32x1", "128x144x2", "128x256x1", "64x64x8")), ("128x96x2", BFLOAT16)]


@pytest.mark.parametrize(("key", "narrow"), KEYS)
def test_products_compile_for_hopper(key: str, narrow: Narrow) -> None:
    try:
        library()
    except UnsupportedError as error:
        pytest.skip(str(error))
    problem, kernel = siblings(1, 200, 9, 9, (64, 20), 3, 2), ProductKernel()
    tactic = replace(kernel.tactics_within(problem, {narrow.dtype}.__contains__)[0], key=narrow.key(key))
    source, info = kernel.generate(problem, tactic)
    assert compile_cubin(prelude(tactic) + source, "sm_90a").startswith(b"\x7fELF")
    assert info["block"] == (2 * Tile.parsed(key).rows,)


@pytest.mark.parametrize("function", ["relu", "swish"])
def test_what_an_activation_follows_is_no_product_alone(function: str) -> None:
    """Up to a sum it is one, for the product of the other operand may take that."""
    net = tenonrt.Network("regions", REGISTRY)
    x = net.add_input("x", (1, 16, 5, 5))
    y = net.add_activation(net.add_convolution(x, weights(16, 16, 1, 1)), function=function)
    net.mark_output(net.add_elementwise(y, net.add_convolution(x, weights(16, 16, 1, 1)), operation="sum"), "y")
    first, _, second = net.graph.layers[:3]
    kinds = [[layer.kind for layer in region] for region in ProductKernel().regions(net.graph, first)]
    assert kinds == [["Convolution", "Activation"], ["Convolution", "Activation", "Elementwise"]]
    assert [len(list(region)) for region in ProductKernel().regions(net.graph, second)] == [1, 2]
