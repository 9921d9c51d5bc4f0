"""Products of bytes of our own on a GPU, against exact sums.

Of integers, other results than theirs only where a tie is near. Of float8_e4m3fn the tensor cores keep about 14 bits of
sums: results are as near as that, and rounding to half of the last place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tenonrt
from msgspec.structs import replace
from tenonrt.builder.regions import make_region, pose
from tenonrt.contracts import FLOAT8, NHWC, Array, Kernel, Problem, Tactic, Weights, numpy_dtype
from tenonrt.plugins.registry import Registry, using
from tenonrt_kernel_nvrtc.quantized.first import FirstBytesKernel
from tenonrt_kernel_nvrtc.quantized.product import ByteProductKernel

REGISTRY = Registry()
PRODUCTS = ("Convolution", "FullyConnected")
ERF = np.vectorize(math.erf, otypes=[np.float64])
IMAGE, STEP, OTHER = 0.05, 0.4, 0.7  # scales of the image, of the result, of what is added


@dataclass(frozen=True)
class Block:
    """A quantized convolution, or a product of rows; read, added, stored: element types, None: real numbers in half
    precision. Weights are as the image is, but of int8 beside uint8."""

    channels: int
    filters: int
    window: int = 1
    stride: int = 1
    read: str = "int8"
    added: str | None = None
    stored: str | None = "int8"
    function: str | None = "relu"
    real: bool = False  # whether the image is quantized in the region
    rows: bool = False

    def problem(self, kernel: Kernel) -> tuple[Problem, Array, Array, Array]:
        """The problem, its weights, their scales and the bias."""
        rng, net = np.random.default_rng(0), tenonrt.Network("block", REGISTRY)
        shape = (3, 378, self.channels) if self.rows else (3, self.channels, 21, 18)
        image: Any = net.add_input("x", shape, "float32" if self.real else self.read)
        if self.real:
            image = net.add("Quantize", [image, np.float32(IMAGE)], {"dtype": self.read})[0]
        x = net.add("Dequantize", [image, np.float32(IMAGE)], {})[0]
        window = () if self.rows else (self.window,) * 2
        filters = drawn((self.filters, self.channels, *window), FLOAT8 if self.read == FLOAT8 else "int8", 5)
        scales = (rng.uniform(0.5, 1.5, self.filters) * 0.1 / np.sqrt(filters[0].size)).astype(np.float32)
        bias = rng.uniform(-9, 9, self.filters).astype(np.float32)
        w = net.add("Dequantize", [filters, scales], {"axis": 0})[0]
        margin = (self.window // 2,) * 2
        attrs = {"stride": (self.stride,) * 2, "pre_padding": margin, "post_padding": margin}
        kind, attrs = ("FullyConnected", {}) if self.rows else ("Convolution", attrs)
        y = net.add(kind, [x, w, bias], attrs)[0]
        if self.added:
            z = net.add("Dequantize", [net.add_input("z", y.type.shape, self.added), np.float32(OTHER)], {})[0]
            y = net.add_elementwise(y, z, operation="sum")
        if self.function:
            limits = {"alpha": 0.0, "beta": 30.0} if self.function == "clip" else {}
            y = net.add_activation(y, function=self.function, **limits)
        if self.stored:
            y = net.add("Quantize", [y, np.float32(STEP)], {"dtype": self.stored})[0]
        net.mark_output(y, "y")
        anchor = next(layer for layer in net.graph.layers if layer.kind in PRODUCTS)
        region = list(kernel.regions(net.graph, anchor))[-1]
        return pose(make_region(net.graph, region), "cuda", 1).problem, filters, scales, bias

    def expected(self, x: Array, z: Array | None, filters: Array, scales: Array, bias: Array) -> Array:
        """Before anything is rounded, in steps of the result; sums are exact."""
        if self.rows:
            sums = x.astype(np.float64) @ filters.T.astype(np.float64)
            return self.finished(sums, z, scales, bias)
        margin = self.window // 2
        padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (margin, margin), (margin, margin)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (self.window,) * 2, (2, 3))
        windows = windows[:, :, :: self.stride, :: self.stride]
        sums = np.einsum("nchwrs,krsc->nkhw", windows, filters.transpose(0, 2, 3, 1).astype(np.float64), optimize=True)
        return self.finished(sums, z, scales[:, None, None], bias[:, None, None])

    def finished(self, sums: Array, z: Array | None, scales: Array, bias: Array) -> Array:
        y = sums * (np.float64(np.float32(IMAGE)) * scales) + bias.astype(np.float64)
        z = None if z is None else z.astype(np.float64)
        y = y if z is None else y + z * np.float64(np.float32(OTHER))
        y = np.maximum(y, 0) if self.function in ("relu", "clip") else y
        y = y * 0.5 * (1 + ERF(y / math.sqrt(2))) if self.function == "gelu" else y
        y = y / (1 + np.exp(-y)) if self.function == "swish" else y
        y = np.minimum(y, 30.0) if self.function == "clip" else y
        return y / np.float32(STEP) if self.stored else y


BLOCKS = [
    Block(64, 64), Block(64, 256, added="int8"), Block(64, 64, 3), Block(128, 128, 3, 2), Block(256, 512, 1, 2),
    Block(192, 96, 3, 1, "uint8", None, "uint8", "clip"), Block(16, 48, 5, 1, "int8", "uint8", "int8", None),
    Block(512, 256, 1, 1, "int8", "int8", None), Block(2048, 512),
    Block(256, 512, rows=True), Block(768, 3072, rows=True, function="gelu"),
    Block(768, 320, rows=True, stored=None, function=None), Block(128, 64, rows=True, function="swish"),
    Block(64, 256, 1, 1, FLOAT8, FLOAT8, FLOAT8), Block(64, 64, 3, 1, FLOAT8, None, FLOAT8),
    Block(128, 128, 3, 2, FLOAT8, None, None), Block(192, 96, 3, 1, FLOAT8, None, FLOAT8, "clip"),
    Block(16, 48, 5, 1, FLOAT8, FLOAT8, FLOAT8, None), Block(2048, 512, 1, 1, FLOAT8, None, FLOAT8),
    Block(768, 768, 1, 1, FLOAT8, None, None, None, rows=True), Block(3072, 768, 1, 1, FLOAT8, rows=True, stored=None),
    Block(768, 3072, 1, 1, FLOAT8, None, FLOAT8, "gelu", rows=True),
]  # fmt: skip
FORCED = ["128x64:2x1:2x4:1x{0}", "256x64:1x2:1x3:1x{0}", "64x256:1x1:2x3:1x{0}", "64x64:1x1:1x3:4x{0}"]


def drawn(shape: tuple[int, ...], dtype: str, seed: int) -> Array:
    if dtype == FLOAT8:
        return (np.random.default_rng(seed).standard_normal(shape) * 40).astype(numpy_dtype(FLOAT8))
    limits = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(limits.min, limits.max + 1, shape).astype(dtype)


def compared(kernel: Kernel, block: Block, keys: list[str]) -> None:
    """The first tactics of a block, and those forced, against integers."""
    import cupy

    with using(REGISTRY):
        problem, filters, scales, bias = block.problem(kernel)
        assert kernel.supports(problem).ok, kernel.supports(problem).why
        tactics = list(kernel.tactics(problem))
    given = {i: np.asarray(value) for i, value in constants(problem, filters, scales, bias).items()}
    types = [problem.types[i] for i in problem.activations]
    arrays = [image(block, type.concrete({}), seed) for seed, type in enumerate(types)]
    codes = quantized(block, arrays[0])
    want = block.expected(codes, arrays[1] if block.added else None, filters, scales, bias)
    stored_as = "uint8" if block.stored == FLOAT8 else block.stored or "float16"
    for tactic in [*tactics[:2], *(replace(tactics[0], key=key) for key in keys)]:
        code = kernel.compile(problem, tactic)
        packed = kernel.pack(code, Weights(tuple(given[i] for i in problem.constants), (), ()))
        executable = kernel.bind(code, [cupy.asarray(a) for a in packed])
        inputs = [cupy.asarray(plain(stored(a, f))) for a, f in zip(arrays, tactic.inputs, strict=True)]
        made = problem.types[problem.outputs[0]].concrete({})
        n, k, h, w = made if len(made) == 4 else (made[0], made[2], 1, made[1])
        out = cupy.full((n, h, w, k) if block.stored or block.rows else (n, h, w, k // 8, 8), 77, stored_as)
        executable.launch(inputs, [out], None, None)
        cupy.cuda.get_current_stream().synchronize()
        found = cupy.asnumpy(out).view(numpy_dtype(block.stored or "float16")).reshape(n, h, w, k)
        judged(block, found.reshape(made) if block.rows else found.transpose(0, 3, 1, 2), want, tactic)


def constants(problem: Problem, filters: Array, scales: Array, bias: Array) -> dict[int, Array]:
    """By their places in the problem: scales of one tensor are known by the layer that reads them."""
    found: dict[int, Array] = {}
    for layer in problem.layers:
        if layer.kind in PRODUCTS:
            found[layer.inputs[2]] = bias
        elif layer.kind == "Quantize":
            real = layer.inputs[0] in problem.activations
            found[layer.inputs[1]] = np.float32(IMAGE if real else STEP)
        elif layer.kind == "Dequantize" and layer.inputs[0] in problem.constants:
            found[layer.inputs[0]], found[layer.inputs[1]] = filters, scales
        elif layer.kind == "Dequantize":
            product = next(i for i in problem.layers if i.kind in PRODUCTS)
            found[layer.inputs[1]] = np.float32(IMAGE if layer.outputs[0] == product.inputs[0] else OTHER)
    return found


def image(block: Block, shape: tuple[int, ...], seed: int) -> Array:
    if seed:
        return drawn(shape, block.added or "int8", seed)
    if block.real:
        return (np.random.default_rng(0).standard_normal(shape) * 4).astype(np.float32)
    return drawn(shape, block.read, 0)


def quantized(block: Block, x: Array) -> Array:
    if not block.real:
        return x
    if block.read == FLOAT8:
        return np.clip(x / np.float32(IMAGE), -448, 448).astype(numpy_dtype(FLOAT8))
    limits = np.iinfo(block.read)
    return np.clip(np.rint(x / np.float32(IMAGE)), limits.min, limits.max)


def stored(array: Array, format: Any) -> Array:
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if format == NHWC else array


def plain(array: Array) -> Array:
    """CuPy copies no floats of 8 bits."""
    return array.view(np.uint8) if array.dtype == numpy_dtype(FLOAT8) else array


def judged(block: Block, found: Array, want: Array, tactic: Tactic) -> None:
    if block.stored == FLOAT8:
        assert np.abs(want).max() > 16
        want = np.clip(want, -448, 448)
        np.testing.assert_allclose(found.astype(np.float64), want, 2**-4 + 2**-9, 2**-10 + 2e-3 * np.abs(want).max())
        return
    if block.stored is None:
        # An instruction sums 32 products, and keeps 14 bits of what it adds them to.
        bits = max(1e-3, block.channels * block.window**2 / 32 * 2.0**-14)
        size = bits * np.abs(want).max() if block.read == FLOAT8 else 1e-3
        np.testing.assert_allclose(found.astype(np.float64), want, rtol=1e-3, atol=size)
        return
    limits = np.iinfo(block.stored)
    rounded = np.clip(np.rint(want), limits.min, limits.max)
    differs = found != rounded
    assert np.abs(found - rounded).max() <= 1, tactic.key
    near = 0.1 if block.function in ("gelu", "swish") else 1e-4  # curves are good to 2^-11
    assert np.all(np.abs(np.abs(want - np.floor(want)) - 0.5)[differs] < near), tactic.key
    assert (rounded != rounded.min()).mean() > 0.02  # there is something to be right about


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_products(block: Block) -> None:
    depth = 64 if -block.channels % 128 >= 64 else 128
    compared(ByteProductKernel(), block, [key.format(depth) for key in FORCED])


@pytest.mark.parametrize(
    "block",
    [
        Block(3, 64, 7, 2, real=True), Block(3, 64, 7, 2), Block(1, 16, 3, 1, "uint8", None, "uint8", "clip", True),
        Block(4, 48, 5, 1, "int8", None, "int8", None),
        Block(3, 64, 7, 2, FLOAT8, None, FLOAT8, "relu", True), Block(2, 48, 3, 1, FLOAT8, None, FLOAT8, "clip"),
    ],
    ids=str,
)  # fmt: skip
def test_first_convolutions(block: Block) -> None:
    compared(FirstBytesKernel(), block, [])
