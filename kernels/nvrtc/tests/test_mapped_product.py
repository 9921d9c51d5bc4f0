"""Products by tensor maps without a GPU: tiles, what is packed, who exchanges what, and the source."""

from __future__ import annotations

import ctypes
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
from tenonrt.contracts import Code, ExecutionError, Problem, UnsupportedError, Weights
from tenonrt.plugins.registry import using
from tenonrt_kernel_nvrtc import tensor_maps
from tenonrt_kernel_nvrtc.compiler import compile_cubin, library
from tenonrt_kernel_nvrtc.products.mapped import MappedProductKernel
from tenonrt_kernel_nvrtc.products.mapped_finish import BEYOND
from tenonrt_kernel_nvrtc.products.mapped_tiles import DEPTH, Tile, tiles
from tenonrt_kernel_nvrtc.products.problem import geometry
from tenonrt_kernel_nvrtc.products.windowed import WindowProductKernel, WindowTile
from tenonrt_kernel_nvrtc.quads import EXCHANGES
from tenonrt_kernel_nvrtc.storage import NARROW, Narrow, prelude
from tenonrt_kernel_nvrtc.tensor_maps import Matrix

KERNEL = MappedProductKernel()


def weights(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def problem_of(define: Callable[[tenonrt.Network], Sequence[Any]]) -> Problem:
    network = tenonrt.Network("problem", REGISTRY)
    for number, output in enumerate(define(network)):
        network.mark_output(output, f"y{number}")
    return pose(make_region(network.graph, network.graph.layers), "cuda", 1).problem


def connected(m: int, k: int, n: int, tail: str = "", axis: int = -1) -> Problem:
    """A fully connected layer with ``gelu``, ``sum`` and ``norm`` behind it."""

    def define(net: tenonrt.Network) -> Sequence[Any]:
        y = net.add_fully_connected(net.add_input("x", (m, k)), weights(n, k), weights(n, 1)[:, 0])
        if "gelu" in tail:
            y = net.add_activation(y, function="gelu")
        if "sum" in tail:
            y = net.add_elementwise(y, net.add_input("z", (m, n)), operation="sum")
        if "norm" in tail:
            y = net.add("LayerNormalization", [y, weights(n, 1)[:, 0], weights(n, 1)[:, 0]], {"axis": axis})[0]
        return [y]

    return problem_of(define)


@settings(max_examples=40)
@given(st.integers(1, 20000), st.integers(1, 500), st.integers(1, 100))
def test_tiles_fit_a_multiprocessor_and_cover_the_product(m: int, n8: int, k: int) -> None:
    n = 8 * n8
    found = tiles(m, n, k)
    assert 0 < len(found) == len({tile.key for tile in found})
    for tile in found:
        down, across = tile.sizes(m, n)
        assert Tile.parsed(tile.key) == tile
        assert tile.shared * tile.resident <= 227 << 10
        assert tile.stages >= 3
        assert down * tile.down * tile.rows >= m
        assert across * tile.across * tile.columns >= n
        assert across * tile.across * tile.columns - n < BEYOND
        assert tile.grid(m, n) % tile.cluster == 0
        assert tile.rows // tile.across % 8 == tile.columns // tile.down % 8 == 0
        assert tile.rows == 64 * tile.warpgroups * tile.heights
        assert tile.columns * tile.heights <= 256


@settings(max_examples=20)
@given(st.integers(1, 20000), st.sampled_from([64, 96, 256, 384, 768, 1024]), st.integers(1, 64))
def test_normalized_rows_are_in_one_cluster(m: int, n: int, k: int) -> None:
    for tile in tiles(m, n, k, whole_rows=True):
        assert tile.across * tile.columns == n


def test_a_quad_gets_eight_columns_in_a_row() -> None:
    """The exchanges, as four threads do them at once, on the columns that a tensor core's result gives them."""
    pairs = [[[(8 * j + 2 * i), (8 * j + 2 * i + 1)] for j in range(4)] for i in range(4)]
    for a, b, distance in EXCHANGES:
        second = [bool(i & distance) for i in range(4)]
        sent = [pairs[i][a] if second[i] else pairs[i][b] for i in range(4)]
        for i in range(4):
            pairs[i][a if second[i] else b] = sent[i ^ distance]
    assert [[column for pair in thread for column in pair] for thread in pairs] == [
        list(range(8 * i, 8 * i + 8)) for i in range(4)
    ]


@settings(max_examples=15)
@given(st.integers(1, 20), st.integers(1, 20), st.booleans(), st.sampled_from(NARROW))
def test_what_is_packed_is_what_the_layers_compute(m: int, k8: int, normalized: bool, narrow: Narrow) -> None:
    """In float64: rows times packed weights, bias, and scale and shift behind what tiles read beyond the bias."""
    with using(REGISTRY):
        problem = connected(m, 8 * k8, 64, "sum norm" if normalized else "sum")
        assert not KERNEL.refuses(problem)
        inputs = [np.asarray(a) for a in draw_inputs(problem, REGISTRY.layer_type, 0)]
        (expected,) = reference_outputs(problem, REGISTRY.layer_type, inputs)
        code = Code(problem, KERNEL.tactics_within(problem, {narrow.dtype}.__contains__)[0])
        packed, bias = KERNEL.pack(code, Weights(tuple(inputs[i] for i in problem.constants), (), ()))
    assert packed.shape == (64, -(-8 * k8 // DEPTH) * DEPTH)
    assert packed.dtype.name == narrow.dtype
    assert not bias[64 : 64 + BEYOND].any()
    x, z = (inputs[i].astype(np.float64) for i in problem.activations)
    y = x @ packed[:, : 8 * k8].astype(np.float64).T + bias[:64] + z
    if normalized:
        scale, shift = bias[64 + BEYOND :].reshape(2, 64)
        y = y - y.mean(1, keepdims=True)
        y = y / np.sqrt((y * y).mean(1, keepdims=True) + problem.layers[-1].attrs.epsilon) * scale + shift
    tolerance = 5e-2 if narrow.dtype == "float16" else 0.4
    np.testing.assert_allclose(y, expected, rtol=1e-2, atol=tolerance)


def test_regions_end_before_a_sum_and_behind_a_normalization() -> None:
    net = tenonrt.Network("net", REGISTRY)
    y = net.add_fully_connected(net.add_input("x", (9, 64)), weights(96, 64), weights(96, 1)[:, 0])
    y = net.add_elementwise(y, net.add_input("z", (9, 96)), operation="sum")
    y = net.add("LayerNormalization", [y, np.ones(96, np.float32), np.ones(96, np.float32)], {"axis": -1})[0]
    net.mark_output(y, "y")
    found = {tuple(layer.kind for layer in region) for region in KERNEL.regions(net.graph, net.graph.layers[0])}
    whole = ("FullyConnected", "Elementwise", "LayerNormalization")
    assert found == {whole[:1], whole[:2], whole}


def test_refusals_say_why() -> None:
    def strided(net: tenonrt.Network) -> Sequence[Any]:
        return [net.add_convolution(net.add_input("x", (1, 8, 9, 9)), weights(16, 8, 1, 1), stride=(2, 2))]

    assert "gathered" in KERNEL.supports(problem_of(strided)).why
    assert "no cluster divides" in KERNEL.supports(connected(9, 64, 72, "norm")).why
    assert "axis" in KERNEL.supports(connected(9, 64, 64, "norm", axis=0)).why
    assert "multiples of 8" in KERNEL.supports(connected(9, 12, 64)).why
    assert KERNEL.supports(connected(9, 64, 64, "gelu sum norm")).ok


@pytest.mark.parametrize(("tail", "key"), [("gelu sum", "128x96:2x2:2x6"), ("sum norm", "64x96:1x8:1x5")])
def test_nothing_computed_is_read_before_earlier_kernels_have_ended(tail: str, key: str) -> None:
    problem = connected(300, 128, 768, tail)
    source, info = KERNEL.generate(problem, replace(KERNEL.tactics(problem)[0], key=key))
    body = source[source.index(" kernel(") :].partition("{")[2]
    producer, _, consumer = body.partition("} else {")
    waits = "griddepcontrol.wait"
    for part in (producer, consumer):
        before, _, after = part.partition(waits)
        assert after
        assert not any(f"fetch<narrow_t, 8>({name}" in before for name in ("x0", "x3"))
        assert "put(" not in before
    assert "copy_rows(i, i)" not in producer.partition(waits)[0]
    assert "copy_columns(i, i)" in producer.partition(waits)[0]
    assert info["grid"][0] % Tile.parsed(key).cluster == 0


NORMED = "64x192:2x4:2x6"
KEYS = ["64x96:1x1:1x5", "128x128:2x1:2x6", "128x160:2x1:1x6", "256x96:2x1:1x4"]


@pytest.mark.parametrize(("tail", "key"), [*(("gelu sum", key) for key in KEYS), ("sum norm", NORMED)])
def test_products_compile_for_hopper(tail: str, key: str) -> None:
    try:
        library()
    except UnsupportedError as error:
        pytest.skip(str(error))
    problem = connected(2000, 200, 768, tail)
    for narrow in NARROW if key in (KEYS[0], NORMED) else NARROW[:1]:
        tactic = replace(KERNEL.tactics_within(problem, {narrow.dtype}.__contains__)[0], key=narrow.key(key))
        source, info = KERNEL.generate(problem, tactic)
        assert compile_cubin(prelude(tactic) + source, "sm_90a").startswith(b"\x7fELF")
    assert info["block"] == (Tile.parsed(key).threads,)


class Driver:
    """Notes what a map is made of."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.sizes: list[int] = []

    def cuTensorMapEncodeTiled(self, to: Any, kind: int, rank: int, at: Any, *rest: Any) -> int:  # noqa: N802
        sizes, strides, box, steps, *_ = rest
        assert ctypes.addressof(to._obj) % 64 == 0
        self.sizes = [kind, rank, at.value, *sizes, *strides, *box, *steps]
        return self.status


def test_a_map_has_sizes_in_elements_and_its_pitch_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(0)
    monkeypatch.setattr(tensor_maps, "driver", lambda: driver)
    assert ctypes.sizeof(Matrix(300, 72, 64, 64).encoded(4096, 80)) == 128
    assert driver.sizes == [6, 2, 4096, 72, 300, 160, 64, 64, 1, 1]
    driver.status = 1
    with pytest.raises(ExecutionError, match="cuTensorMapEncodeTiled"):
        Matrix(300, 72, 64, 64).encoded(4096, 80)


def windowed(
    image: tuple[int, ...], columns: int, window: tuple[int, int], stride: int = 1, dilation: int = 1, tail: str = ""
) -> Problem:
    def define(net: tenonrt.Network) -> Sequence[Any]:
        y = net.add_convolution(
            net.add_input("x", image), weights(columns, image[1], *window), weights(columns, 1)[:, 0],
            stride=(stride, stride), dilation=(dilation, dilation), padding_mode="same_upper",
        )  # fmt: skip
        if "silu" in tail:
            y = net.add_activation(y, function="swish")
        return [net.add_elementwise(y, net.add_input("z", y.type.shape), operation="sum") if "sum" in tail else y]

    return problem_of(define)


WINDOWED = WindowProductKernel()


@settings(max_examples=12)
@given(
    channels=st.integers(9, 100), columns=st.integers(1, 40), window=st.sampled_from([(3, 3), (1, 3), (5, 2), (1, 1)]),
    stride=st.integers(1, 3), dilation=st.integers(1, 2), narrow=st.sampled_from(NARROW),
)  # fmt: skip
def test_stages_of_packed_windows_are_taps_and_channels(
    channels: int, columns: int, window: tuple[int, int], stride: int, dilation: int, narrow: Narrow
) -> None:
    """In float64, as the source copies them: stage i is channels i % parts of tap i / parts."""
    problem = windowed((2, channels, 9, 8), columns, window, stride, dilation)
    with using(REGISTRY):
        if WINDOWED.refuses(problem):
            assert geometry(problem).whole
            return
        inputs = [np.asarray(a) for a in draw_inputs(problem, REGISTRY.layer_type, 0)]
        (expected,) = reference_outputs(problem, REGISTRY.layer_type, inputs)
        tactic = WINDOWED.tactics_within(problem, {narrow.dtype}.__contains__)[0]
        packed, bias = WINDOWED.pack(Code(problem, tactic), Weights(tuple(inputs[i] for i in problem.constants)))
    g, tile = geometry(problem), WindowTile.parsed(tactic.key.split(" ")[0])
    parts = -(-g.channels // tile.depth)
    stages = packed.astype(np.float64).reshape(len(packed), g.taps, parts, tile.depth)
    (x,) = (inputs[i].astype(np.float64) for i in problem.activations)
    x = np.pad(x, ((0, 0), (0, parts * tile.depth - channels), (20, 20), (20, 20)))
    y = np.zeros((2, len(packed), g.rows.positions, g.columns.positions))
    for i in range(g.taps * parts):
        tap, part = divmod(i, parts)
        down, across = divmod(tap, g.columns.window)
        top, left = (20 - w.before + n * w.dilation for w, n in ((g.rows, down), (g.columns, across)))
        met = x[:, part * tile.depth : (part + 1) * tile.depth, top::stride, left::stride]
        y += np.einsum("nchw,kc->nkhw", met[:, :, : y.shape[2], : y.shape[3]], stages[:, tap, part])
    y = (y + bias[: len(packed), None, None])[:, :columns]
    tolerance = (5e-2 if narrow.dtype == "float16" else 0.4) * np.sqrt(g.taps)
    np.testing.assert_allclose(y, expected, rtol=1e-2, atol=tolerance)


def test_few_channels_have_stages_of_half_the_depth() -> None:
    with using(REGISTRY):
        depths = {
            c: WindowTile.parsed(WINDOWED.tactics(windowed((1, c, 9, 9), 64, (3, 3)))[0].key.split(" ")[0]).depth
            for c in (16, 32, 48, 64, 96, 128)
        }
        assert depths == {16: 32, 32: 32, 48: 64, 64: 64, 96: 32, 128: 64}
        assert "8 channels" in WINDOWED.refuses(windowed((1, 3, 9, 9), 64, (3, 3)))
        assert "one by one" in WINDOWED.refuses(windowed((1, 64, 9, 9), 64, (1, 1)))
        assert "too far" in WINDOWED.refuses(windowed((1, 64, 9, 200), 64, (1, 130)))


@pytest.mark.parametrize(("channels", "columns"), [(64, 64), (32, 96), (128, 256)])
@pytest.mark.parametrize("tail", ["silu", "sum"])
def test_windows_compile_for_hopper(channels: int, columns: int, tail: str) -> None:
    try:
        library()
    except UnsupportedError as error:
        pytest.skip(str(error))
    problem = windowed((4, channels, 40, 40), columns, (3, 3), tail=tail)
    with using(REGISTRY):
        for tactic in WINDOWED.tactics(problem)[:3]:
            source, info = WINDOWED.generate(problem, tactic)
            assert info["shared"] <= 227 << 10
            assert compile_cubin(prelude(tactic) + source, "sm_90a")
