"""Products of bytes without a GPU: tiles, what is packed, the order of columns, maps of images, and the source."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from nvrtc_emulation import PRELUDE as EMULATED
from nvrtc_emulation import REGISTRY, compiled, needs_compiler
from tenonrt.builder.known import know_constants
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.sampling import TrialRun, draw_inputs, reference_outputs
from tenonrt.builder.siblings import joined, sibling_groups
from tenonrt.contracts import (
    FLOAT8,
    Array,
    ByteRegion,
    Code,
    ExecutionError,
    Kernel,
    Problem,
    UnsupportedError,
    Weights,
    numpy_dtype,
)
from tenonrt.plugins.registry import using
from tenonrt_kernel_nvrtc import tensor_maps
from tenonrt_kernel_nvrtc.compiler import compile_cubin, library
from tenonrt_kernel_nvrtc.images.patches import Patch, read_pixels
from tenonrt_kernel_nvrtc.products.problem import Geometry
from tenonrt_kernel_nvrtc.quantized.finish import order
from tenonrt_kernel_nvrtc.quantized.first import FirstBytesKernel, pixel_of
from tenonrt_kernel_nvrtc.quantized.first_source import TAPS
from tenonrt_kernel_nvrtc.quantized.problem import geometry_of
from tenonrt_kernel_nvrtc.quantized.product import ByteProductKernel
from tenonrt_kernel_nvrtc.quantized.tiles import GROUP, ByteTile, Work, tiles
from tenonrt_kernel_nvrtc.storage import prelude
from tenonrt_kernel_nvrtc.tensor_maps import Images, Matrix

KERNEL, FIRST = ByteProductKernel(), FirstBytesKernel()


def siblings(
    read: str = FLOAT8, stored: str | None = None, filters: tuple[int, ...] = (64, 32, 80), **other: Any
) -> Problem:
    """Products of one quantized tensor, as the projections in front of an attention are. other: of the second."""
    rng, net = np.random.default_rng(0), tenonrt.Network("siblings", REGISTRY)
    x = net.add_input("x", (2, 5, 144), read)
    for number, count in enumerate(filters):
        mine = {"read": x, "function": None} | (other if number == 1 else {})
        weights = (rng.integers(-127, 128, (count, 144)) / 16).astype(numpy_dtype(read if read == FLOAT8 else "int8"))
        w = net.add("Dequantize", [weights, rng.uniform(0.5, 1.5, count).astype(np.float32)], {"axis": 0})[0]
        y = net.add("Dequantize", [mine["read"], np.float32(0.3)], {})[0]
        y = net.add("FullyConnected", [y, w, rng.uniform(-1, 1, count).astype(np.float32)], {})[0]
        y = net.add_activation(y, function=mine["function"]) if mine["function"] else y
        y = net.add("Quantize", [y, np.float32(1.9 + number)], {"dtype": stored})[0] if stored else y
        net.mark_output(y, f"y{number}")
    return pose(make_region(net.graph, net.graph.layers), "cuda", 1).problem


@dataclass(frozen=True)
class Block:
    """Dequantize, convolution, and what follows. quantized: whether the image is quantized beside it.

    rows: a FullyConnected of 2 by 9 rows instead. Weights are of int8, or of the image's type where that is a float's.
    """

    channels: int = 64
    filters: int = 64
    window: int = 3
    stride: int = 1
    read: str = "int8"
    added: str | None = None
    function: str | None = "relu"
    stored: str | None = "int8"
    groups: int = 1
    dilation: int = 1
    zero: int | None = None
    quantized: bool = False
    size: tuple[int, int] = (9, 7)
    rows: bool = False
    saturate: bool = True

    def weights(self, rng: np.random.Generator) -> Array:
        sizes = () if self.rows else (self.window, self.window)
        drawn = rng.integers(-127, 128, (self.filters, self.channels // self.groups, *sizes))
        return (drawn / 16).astype(numpy_dtype(FLOAT8)) if self.read == FLOAT8 else drawn.astype(np.int8)

    def network(self) -> tenonrt.Network:
        rng, net = np.random.default_rng(0), tenonrt.Network("block", REGISTRY)
        filters, scales = self.weights(rng), rng.uniform(0.5, 1.5, self.filters)
        shape = (2, self.size[0], self.channels) if self.rows else (2, self.channels, *self.size)
        image: Any = net.add_input("x", shape, "float32" if self.quantized else self.read)
        points = [] if self.zero is None else [np.array(self.zero, numpy_dtype(self.read))]
        if self.quantized:
            image = net.add("Quantize", [image, np.float32(0.3), *points], {"dtype": self.read})[0]
        x = net.add("Dequantize", [image, np.float32(0.3), *points], {})[0]
        w = net.add("Dequantize", [filters, scales.astype(np.float32)], {"axis": 0})[0]
        margin = (self.window // 2,) * 2
        attrs = {"stride": (self.stride,) * 2, "pre_padding": margin, "post_padding": margin, "groups": self.groups}
        attrs["dilation"] = (self.dilation,) * 2
        kind, attrs = ("FullyConnected", {}) if self.rows else ("Convolution", attrs)
        y = net.add(kind, [x, w, np.ones(self.filters, np.float32)], attrs)[0]
        if self.added:
            z = net.add("Dequantize", [net.add_input("z", y.type.shape, self.added), np.float32(0.7)], {})[0]
            y = net.add_elementwise(y, z, operation="sum")
        if self.function:
            bounds = {"alpha": 0.0, "beta": 60.0} if self.function == "clip" else {}
            y = net.add_activation(y, function=self.function, **bounds)
        if self.stored:
            y = net.add("Quantize", [y, np.float32(1.9)], {"dtype": self.stored, "saturate": self.saturate})[0]
        net.mark_output(y, "y")
        return net

    def problems(self, kernel: Kernel = KERNEL) -> list[Problem]:
        net = self.network()
        anchor = next(layer for layer in net.graph.layers if layer.kind in ("Convolution", "FullyConnected"))
        return [pose(make_region(net.graph, r), "cuda", 1).problem for r in kernel.regions(net.graph, anchor)]


def windows_of(x: Array, g: Geometry) -> Array:
    """Of images [N, C, H, W], or rows [..., C], the windows [N, C, P, Q, R, S], in float64, which holds every sum."""
    y, z, x = g.rows, g.columns, x.astype(np.float64)
    if x.ndim != 4:
        return x.reshape(1, 1, -1, x.shape[-1]).transpose(0, 3, 1, 2)[..., None, None]
    x = np.pad(x, ((0, 0), (0, 0), (y.before, y.after), (z.before, z.after)))
    return np.lib.stride_tricks.sliding_window_view(x, (y.window, z.window), (2, 3))[:, :, :: y.stride, :: z.stride]


def finished(problem: Problem, sums: Array, factors: Array, z: Array | None) -> Array:
    """What `ByteFinish` says of sums [N, K, P, Q], in float64; before it is rounded to bytes, but saturated."""
    region, n = ByteRegion.of(problem), sums.shape[1]
    y = sums * factors[:n, None, None].astype(np.float64) + factors[n : 2 * n, None, None]
    y = y if z is None else y + z * np.float64(factors[2 * n])
    y = y if not region.rectified else np.maximum(y, 0)
    y = y if region.limit is None else np.minimum(y, factors[2 * n + 1])
    if region.curve is not None:
        (y,) = REGISTRY.layer_type("Activation").reference(region.curve.attrs, [y], TrialRun())
    if region.quantize is None:
        return y
    y = y if region.curve is None else y * np.float64(factors[2 * n + 2])
    if problem.types[problem.outputs[0]].dtype == FLOAT8:
        return np.clip(y, -448, 448)
    limits = np.iinfo(problem.types[problem.outputs[0]].dtype)
    return np.clip(np.rint(y), limits.min, limits.max)


def agree(found: Array, expected: Array) -> None:
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    elif expected.dtype == numpy_dtype(FLOAT8):  # found is not rounded yet: half a step, and what float32 loses
        wanted = expected.astype(np.float64)
        np.testing.assert_allclose(found, wanted, rtol=2**-4 + 1e-5, atol=2**-10 + 1e-5 * np.abs(wanted).max())
    else:
        assert np.abs(found - expected.astype(np.int64)).max() <= 1
        assert (found != expected).mean() < 0.01  # at ties


blocks = st.builds(
    Block, st.sampled_from([16, 64, 144]), st.sampled_from([16, 64, 80]), st.sampled_from([1, 3]), st.integers(1, 2),
    st.sampled_from(["int8", "uint8"]), st.sampled_from([None, "int8", "uint8"]),
    st.sampled_from([None, "relu", "clip", "gelu"]), st.sampled_from([None, "int8", "uint8"]),
    rows=st.booleans(),
)  # fmt: skip
floats = st.builds(
    Block, st.sampled_from([16, 64, 144]), st.sampled_from([16, 64, 80]), st.sampled_from([1, 3]), st.integers(1, 2),
    st.just(FLOAT8), st.sampled_from([None, FLOAT8]),
    st.sampled_from([None, "relu", "clip", "gelu", "gelu_tanh", "swish"]), st.sampled_from([None, FLOAT8]),
    rows=st.booleans(),
)  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(st.one_of(blocks, floats))
def test_what_is_packed_is_what_the_layers_compute(block: Block) -> None:
    problem = block.problems()[-1]
    with using(REGISTRY):
        assert not KERNEL.refuses(problem)
        inputs = [np.asarray(a) for a in draw_inputs(problem, REGISTRY.layer_type, 1)]
        (expected,) = reference_outputs(problem, REGISTRY.layer_type, inputs)
        tactic = KERNEL.tactics(problem)[0]
        packed, factors = KERNEL.pack(Code(problem, tactic), Weights(tuple(inputs[i] for i in problem.constants)))
    g, depth = geometry_of(problem), ByteTile.parsed(tactic.key).depth
    assert packed.dtype == np.int8
    assert packed.shape == (-(-block.filters // GROUP) * GROUP, g.taps * -(-block.channels // depth) * depth)
    x, *others = (inputs[i] for i in problem.activations)
    rows = windows_of(x, g).transpose(0, 2, 3, 4, 5, 1).reshape(g.m, g.taps, block.channels)
    rows = np.pad(rows, ((0, 0), (0, 0), (0, -block.channels % depth))).reshape(g.m, -1)
    products = rows @ packed.view(numpy_dtype(FLOAT8 if block.read == FLOAT8 else "int8")).T.astype(np.float64)
    sums = np.zeros((g.m, block.filters))
    for column, place in enumerate(order(block.filters)):
        if place >= 0:
            sums[:, place] = products[:, column]
        else:
            assert not products[:, column].any()
    if block.rows:
        sums, expected = sums.reshape(1, 1, *sums.shape), expected.reshape(1, 1, *sums.shape).transpose(0, 3, 1, 2)
        others = [z.reshape(1, 1, *sums.shape[2:]).transpose(0, 3, 1, 2) for z in others]
    images = sums.reshape(g.images, g.rows.positions, g.columns.positions, -1).transpose(0, 3, 1, 2)
    agree(finished(problem, images, factors, others[0].astype(np.float64) if others else None), expected)


@pytest.mark.parametrize(("read", "stored"), [(FLOAT8, None), (FLOAT8, FLOAT8), ("int8", "int8"), ("uint8", None)])
def test_siblings_lie_beside_each_other(read: str, stored: str | None) -> None:
    """One product of all columns, each result by its own scales."""
    problem = siblings(read, stored)
    with using(REGISTRY):
        assert not KERNEL.refuses(problem)
        inputs = [np.asarray(a) for a in draw_inputs(problem, REGISTRY.layer_type, 1)]
        expected = reference_outputs(problem, REGISTRY.layer_type, inputs)
        tactic = KERNEL.tactics(problem)[0]
        packed, factors = KERNEL.pack(Code(problem, tactic), Weights(tuple(inputs[i] for i in problem.constants)))
    assert len(tactic.outputs) == 3
    (x,) = (inputs[i].astype(np.float64).reshape(10, 144) for i in problem.activations)
    stored_weights = packed.view(numpy_dtype(FLOAT8 if read == FLOAT8 else "int8")).astype(np.float64)
    products = np.pad(x, ((0, 0), (0, packed.shape[1] - 144))) @ stored_weights.T
    sums = np.zeros((10, 176))
    sums[:, [p for p in order(176) if p >= 0]] = products[:, [k for k, p in enumerate(order(176)) if p >= 0]]
    y = sums * factors[:176] + factors[176:352]
    for found, wanted in zip(np.split(y, (64, 96), axis=1), expected, strict=True):
        clipped = (
            np.clip(found, -448, 448) if stored == FLOAT8 else np.clip(np.rint(found), -128, 127) if stored else found
        )
        agree(clipped.reshape(wanted.shape), wanted)


def test_what_dequantizes_one_tensor_for_itself_is_a_sibling() -> None:
    """For kernels that take the Dequantize along; others would read several tensors."""
    net = tenonrt.Network("siblings", REGISTRY)
    x, scale = net.add_input("x", (4, 64), FLOAT8), net.add_constant(np.float32(0.3))
    products = []
    for number in range(3):
        w = net.add("Dequantize", [np.ones((32, 64), numpy_dtype(FLOAT8)), np.float32(0.5)], {})[0]
        y = net.add("Dequantize", [x, scale], {})[0]
        products.append(net.add("FullyConnected", [y, w], {})[0].producer)
        net.mark_output(products[-1].outputs[0], f"y{number}")
    know_constants(net.graph)
    groups = sibling_groups(net.graph)[products[0]]
    assert tuple(products) in groups
    union = joined(products, lambda layer: list(KERNEL.regions(net.graph, layer)), lambda layers: True)
    assert union is not None
    assert len(union) == 9
    assert joined(products, lambda layer: [(layer,)], lambda layers: True) is None


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"function": "relu"}, "several ways"),
        ({"function": "gelu"}, "curves"),
        ({"filters": (64, 24)}, "multiple of 16"),
    ],
)
def test_siblings_are_finished_alike(other: dict[str, Any], why: str) -> None:
    assert why in KERNEL.supports(siblings(**other)).why


def test_a_thread_has_sixteen_columns_in_a_row() -> None:
    """Thread l of a quad has columns 8 j + 2 l and 8 j + 2 l + 1 of a product: in the packed order, 16 in a row."""
    for thread in range(4):
        mine = [8 * j + 2 * thread + c for j in range(8) for c in range(2)]
        assert [order(128)[64 + column] for column in mine] == list(range(64 + 16 * thread, 80 + 16 * thread))
    assert sorted(order(80)) == [-1] * 48 + list(range(80))


@settings(max_examples=40)
@given(
    st.integers(1, 500_000), st.integers(1, 128), st.integers(1, 80), st.booleans(), st.sampled_from([64, 128]),
    st.booleans(),
)  # fmt: skip
def test_tiles_fit_a_multiprocessor_and_cover_the_product(
    m: int, n16: int, k: int, adds: bool, depth: int, rows: bool
) -> None:
    n = 16 * n16
    work = Work(m, n, k, m * (n + k * depth), adds, rows)
    found = tiles(work, depth)
    assert 0 < len(found) == len({tile.key for tile in found})
    for tile in found:
        down, across = tile.sizes(m, n)
        assert ByteTile.parsed(tile.key) == tile
        assert (tile.shared + 1024) * tile.blocks <= 228 << 10
        assert tile.threads * tile.blocks * (tile.sums + 32) <= 65536 or tile.trades
        assert tile.stages >= 3
        assert down * tile.down * tile.rows >= m
        assert across * tile.across * tile.columns >= n
        assert tile.grid(m, n) % tile.cluster == 0
        assert tile.columns % GROUP == 0
        assert 0 < work.seconds(tile) < 10


firsts = st.builds(
    Block, st.integers(1, 4), st.sampled_from([16, 48, 64]), st.sampled_from([1, 3, 5, 7]), st.integers(1, 3),
    st.sampled_from(["int8", "uint8"]), st.none(), st.sampled_from([None, "relu", "clip"]),
    st.sampled_from(["int8", "uint8"]), quantized=st.booleans(), size=st.sampled_from([(9, 7), (20, 40)]),
)  # fmt: skip


first_floats = st.builds(
    Block, st.integers(1, 4), st.sampled_from([16, 48, 64]), st.sampled_from([1, 3, 5, 7]), st.integers(1, 3),
    st.just(FLOAT8), st.none(), st.sampled_from([None, "relu", "clip"]), st.just(FLOAT8), quantized=st.booleans(),
    size=st.sampled_from([(9, 7), (20, 40)]),
)  # fmt: skip


@settings(max_examples=16, deadline=None)
@given(st.one_of(firsts, first_floats))
def test_words_of_a_first_convolution_are_what_it_computes(block: Block) -> None:
    """The instruction's sums, from the words that its threads hold: lane 4 g + l has taps l and l + 4 of column g."""
    (problem,) = block.problems(FIRST)
    with using(REGISTRY):
        assert not FIRST.refuses(problem)
        inputs = [np.asarray(a) for a in draw_inputs(problem, REGISTRY.layer_type, 1)]
        (expected,) = reference_outputs(problem, REGISTRY.layer_type, inputs)
        tactic = FIRST.tactics(problem)[0]
        words, factors = FIRST.pack(Code(problem, tactic), Weights(tuple(inputs[i] for i in problem.constants)))
    g = geometry_of(problem)
    patch, kind = Patch.parsed(tactic.key, TAPS), numpy_dtype(FLOAT8 if block.read == FLOAT8 else "int8")
    assert patch.rows * patch.counts(g)[0] >= g.rows.positions
    assert patch.columns * patch.counts(g)[1] >= g.columns.positions
    (x,) = (inputs[i] for i in problem.activations)
    if block.quantized:
        x = (
            np.clip(x / factors[-1], -448, 448).astype(kind)
            if block.read == FLOAT8
            else rounded(x / factors[-1], block.read)
        )
    taps = words.reshape(block.window, 8, 2, 8, 4).view(kind).astype(np.float64).reshape(block.window, 8, 2, 8, 4, 4)
    taps = taps.transpose(1, 3, 0, 2, 4, 5).reshape(64, block.window, 8, 4)  # columns, rows, taps, channels
    assert not taps[:, :, block.window :].any()
    assert not taps[..., block.channels :].any()
    taps = taps[:, :, : block.window, : block.channels]
    products = np.einsum("ncpqrs,krsc->nkpq", windows_of(x, g), taps)
    sums = np.zeros((2, block.filters, *products.shape[2:]))
    for column, place in enumerate(order(block.filters)):
        if place >= 0:
            sums[:, place] = products[:, column]
    agree(finished(problem, sums, factors, None), expected)


def rounded(values: Array, dtype: str) -> Array:
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max)


PIXELS = r"""
extern "C" { float fmaf(float, float, float); }
static int nearest(float f) { return f != f ? 0 : f > 2e9f ? 2000000000 : f < -2e9f ? -2000000000 : (int)rintf(f); }
template <bool SIGNED> unsigned bytes(int a, int b, int c, int d) {
    unsigned all = 0;
    const int given[4] = {a, b, c, d}, low = SIGNED ? -128 : 0, high = SIGNED ? 127 : 255;
    for (int i = 0; i < 4; ++i) {
        const int v = given[i] < low ? low : given[i] > high ? high : given[i];
        all |= (unsigned)(unsigned char)v << 8 * i;
    }
    return all;
}
static unsigned narrow(float a, float b, float c, float d) {
    return (unsigned)to_e4m3(d).bits << 24 | to_e4m3(c).bits << 16 | to_e4m3(b).bits << 8 | to_e4m3(a).bits;
}
extern "C" void run(const STORED *pixels, const float *factors, unsigned *patch, int image, int top, int left) {
    ONCE
    for (int t = 0; t < 128; ++t) { BODY }
}
"""


@needs_compiler
@pytest.mark.parametrize(
    "block",
    [
        Block(3, window=7, stride=2, quantized=True), Block(1, read="uint8"),
        Block(3, window=7, stride=2, read=FLOAT8, stored=FLOAT8, quantized=True),
        Block(2, read=FLOAT8, stored=FLOAT8),
    ],
    ids=str,
)  # fmt: skip
def test_pixels_are_read_and_quantized_as_words(block: Block) -> None:
    """The code that makes words, on the processor: borders are 0, quotients are those of a division."""
    (problem,) = block.problems(FIRST)
    g, patch = geometry_of(problem), Patch(4, 16, 2, TAPS)
    pixel, (down, across) = pixel_of(problem, g), patch.read(geometry_of(problem))
    text = PIXELS.replace("STORED", pixel.stored).replace("ONCE", pixel.once)
    library = compiled(EMULATED + text.replace("BODY", read_pixels(g, patch, pixel)))
    rng, step = np.random.default_rng(0), np.float32(0.0377)
    x = rng.integers(0, 256, (2, block.channels, *block.size)).astype(np.uint8)
    kind = numpy_dtype(block.read)
    x = x.view(kind) if block.read == FLOAT8 else x
    stored = x.view(np.uint8).astype(np.int64)
    if block.quantized:
        x = (rng.standard_normal(x.shape) * 3).astype(np.float32)
        x[0, 0, :2, :4] = [[np.inf, -np.inf, np.nan, 1e-42], [step / 2, -step / 2, 1e30, 2.5 * step]]
        with np.errstate(invalid="ignore"):
            stored = np.nan_to_num(rounded(x / step, "int8"), nan=0.0).astype(np.int64)
            if block.read == FLOAT8:
                stored = np.clip(x / step, -448, 448).astype(kind).view(np.uint8).astype(np.int64)
    found = np.full((down, across), 7, np.uint32)
    factors = np.full(2 * block.filters + 3, step, np.float32)
    for image, top, left in ((0, -3, -3), (1, 2, 1), (1, 5, 3)):
        library.run(*(ctypes.c_void_p(a.ctypes.data) for a in (x, factors, found)), image, top, left)
        words = found[..., None].view(np.int8 if block.read == "int8" else np.uint8).astype(np.int64)
        padded = np.pad(stored[image], ((0, 4 - block.channels), (3, down + 9), (3, across + 9)))
        wanted = padded[:, top + 3 : top + 3 + down, left + 3 : left + 3 + across].transpose(1, 2, 0)
        np.testing.assert_array_equal(words, wanted)


def test_a_first_convolution_takes_what_quantizes_its_image() -> None:
    assert Block(3, quantized=True).problems(FIRST)[0].kinds[0] == "Quantize"
    assert "Quantize" not in Block(3).problems(FIRST)[0].kinds[:-1]
    assert Block(3, stored=None).problems(FIRST) == []


@pytest.mark.parametrize(
    ("kernel", "block", "why"),
    [
        (KERNEL, Block(24, rows=True), "multiple of 16"),
        (KERNEL, Block(rows=True, zero=3), "zero point"),
        (KERNEL, Block(read=FLOAT8, stored=FLOAT8, zero=1), "zero point"),
        (KERNEL, Block(read=FLOAT8), "a Quantize of int8 beside"),
        (KERNEL, Block(read=FLOAT8, stored=FLOAT8, added="int8"), "a Dequantize of int8 beside"),
        (KERNEL, Block(read=FLOAT8, stored=FLOAT8, saturate=False), "does not saturate"),
        (FIRST, Block(3, read=FLOAT8, stored="int8"), "a Quantize of int8 beside"),
        (KERNEL, Block(24), "multiple of 16"),
        (KERNEL, Block(32, groups=2), "groups"),
        (KERNEL, Block(zero=3), "zero point"),
        (KERNEL, Block(window=3, dilation=90, size=(200, 200)), "too far"),
        (KERNEL, Block(stride=9), "too far outside or apart"),
        (FIRST, Block(5), "5 channels"),
        (FIRST, Block(3, 80), "3 channels to 80"),
        (FIRST, Block(3, window=9, size=(20, 20)), "a window of 9 by 9"),
        (FIRST, Block(3, dilation=2), "a dilation"),
        (FIRST, Block(3, added="int8"), "a sum"),
        (FIRST, Block(3, zero=1, quantized=True), "zero point"),
    ],
)
def test_refusals_say_why(kernel: Any, block: Block, why: str) -> None:
    problem = block.problems(kernel)[-1]
    assert why in kernel.supports(problem).why


SOURCES = [
    (KERNEL, Block(added="int8"), "64x128:2x1:1x3:2x64"), (KERNEL, Block(128, 256, 3, 2), "128x128:1x1:2x7:1x128"),
    (KERNEL, Block(128, 96, 1, 1, "uint8", "uint8", "clip", None), "256x64:1x1:1x5:1x128"),
    (KERNEL, Block(128, 256, 3, 2, FLOAT8, FLOAT8, "relu", FLOAT8), "128x128:1x1:2x7:1x128"),
    (KERNEL, Block(768, 3072, 1, 1, FLOAT8, None, "gelu", FLOAT8, rows=True), "128x256:1x1:1x4:1x128"),
    (KERNEL, Block(768, 768, 1, 1, "int8", None, "swish", None, rows=True), "64x64:1x1:1x3:4x128"),
    (FIRST, Block(3, window=7, stride=2, quantized=True, size=(30, 40)), "4x32x2"),
    (FIRST, Block(1, 16, 3, 1, "uint8", None, "clip", "uint8"), "8x16x3"),
    (FIRST, Block(3, 64, 7, 2, FLOAT8, stored=FLOAT8, quantized=True, size=(30, 40)), "4x32x2"),
    (FIRST, Block(2, 32, 3, 1, FLOAT8, None, "clip", FLOAT8), "8x16x3"),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "block", "key"), SOURCES)
def test_sources_compile_for_hopper(kernel: Any, block: Block, key: str) -> None:
    try:
        library()
    except UnsupportedError as error:
        pytest.skip(str(error))
    problem = block.problems(kernel)[-1]
    tactic = replace(kernel.tactics(problem)[-1], key=key)  # of real results the last are of bfloat16
    source, _ = kernel.generate(problem, tactic)
    assert compile_cubin(prelude(tactic) + source, "sm_90a").startswith(b"\x7fELF")


@pytest.mark.parametrize(("kernel", "block", "key"), SOURCES)
def test_nothing_computed_is_read_before_earlier_kernels_have_ended(kernel: Any, block: Block, key: str) -> None:
    problem = block.problems(kernel)[-1]
    source, _ = kernel.generate(problem, replace(kernel.tactics(problem)[0], key=key))
    body = source[source.index(" kernel(") :].partition("{")[2]
    parts = body.split("} else {")[:2] if kernel is KERNEL else [body]
    for part in parts:
        before, _, after = part.partition("griddepcontrol.wait")
        assert after
        assert "pixels[" not in before
        assert "copy_rows(i, i)" not in before
        assert "load_read(0)" not in before
        assert "for (int q = 0" not in before


def test_other_bytes_are_no_region() -> None:
    assert Block(read="float8_e5m2", stored="float8_e5m2").problems() == []


def test_windows_are_gathered_by_a_map_of_images() -> None:
    problem = Block(128, 64, 3, 2).problems()[-1]
    source, _ = KERNEL.generate(problem, KERNEL.tactics(problem)[0])
    assert "gather(base" in source
    whole = Block(128, 64, 1).problems()[-1]
    assert "gather(" not in KERNEL.generate(whole, KERNEL.tactics(whole)[0])[0]


class Driver:
    """Notes what a map is made of."""

    def __init__(self, status: int) -> None:
        self.status, self.noted = status, list[Any]()

    def cuTensorMapEncodeIm2col(self, to: Any, *given: Any) -> int:  # noqa: N802
        assert ctypes.addressof(to._obj) % 64 == 0
        self.noted = [list(g) if hasattr(g, "_length_") else getattr(g, "value", g) for g in given]
        return self.status

    def cuTensorMapEncodeTiled(self, to: Any, *given: Any) -> int:  # noqa: N802
        return self.cuTensorMapEncodeIm2col(to, *given)


def test_a_map_of_images_has_corners_across_then_down(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(0)
    monkeypatch.setattr(tensor_maps, "driver", lambda: driver)
    images = Images(5, 40, 30, 192, 128, 64, (1, 2), (-1, -2), (2, 1))
    assert ctypes.sizeof(images.encoded(4096, 192)) == 128
    kind, rank, at, sizes, strides, first, last, channels, pixels, steps, *rest = driver.noted
    assert (kind, rank, at, sizes) == (0, 4, 4096, [192, 30, 40, 5])
    assert strides == [192, 192 * 30, 192 * 30 * 40]
    assert (first, last, channels, pixels, steps) == ([-2, -1], [-2, -1], 64, 128, [1, 1, 2, 1])
    assert rest[1] == 2  # CU_TENSOR_MAP_SWIZZLE_64B
    Images(5, 40, 30, 64, 128, 32, (1, 2), (-1, -2), (2, 1), 2).encoded(4096, 96)
    assert (driver.noted[0], driver.noted[4], driver.noted[-3]) == (6, [192, 192 * 30, 192 * 30 * 40], 2)
    Matrix(300, 256, 64, 128, 1).encoded(4096, 256)
    assert driver.noted[0] == 0
    assert driver.noted[4] == [256]
    driver.status = 1
    with pytest.raises(ExecutionError, match="cuTensorMapEncodeIm2col"):
        images.encoded(4096, 192)
