"""What a quantized transformer has besides single products, on a GPU, tried as a build does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.trial import Sample, try_tactic
from tenonrt.contracts import FLOAT8, Kernel, Problem, Weights, numpy_dtype
from tenonrt.plugins.registry import Registry, using
from tenonrt_kernel_nvrtc.attention.kernel import AttentionKernel
from tenonrt_kernel_nvrtc.pointwise import PointwiseKernel
from tenonrt_kernel_nvrtc.quantized.product import ByteProductKernel
from tenonrt_kernel_nvrtc.reductions.normalization import NormalizationKernel

REGISTRY = Registry()
KINDS = [("int8", None), ("uint8", 3), (FLOAT8, None)]


def tried(kernel: Kernel, problem: Problem, every: int = 1) -> None:
    with using(REGISTRY):
        assert kernel.supports(problem).ok, kernel.supports(problem).why
        samples = [Sample.draw(problem, REGISTRY.layer_type, 2, 0)]
        for tactic in list(kernel.tactics(problem))[::every]:
            device = REGISTRY.device("cuda")
            verdict, _ = try_tactic(kernel, problem, tactic, samples, REGISTRY.layer_type, device)
            assert verdict.ok, f"{tactic.key}: {verdict.why}"


def quantized(net: tenonrt.Network, x: Any, dtype: str, zero: int | None) -> Any:
    points = [] if zero is None else [np.array(zero, dtype)]
    return net.add("Quantize", [x, np.float32(0.02), *points], {"dtype": dtype})[0]


@pytest.mark.parametrize(("dtype", "zero"), KINDS)
@pytest.mark.parametrize(("length", "read"), [(768, True), (768, False), (50, True)])
def test_normalizations(dtype: str, zero: int | None, length: int, read: bool) -> None:
    net = tenonrt.Network("rows", REGISTRY)
    x = net.add_elementwise(net.add_input("x", (3, 7, length)), net.add_input("z", (3, 7, length)), operation="sum")
    y = net.add("LayerNormalization", [x, *[np.ones(length, np.float32)] * 2], {"axis": -1})[0]
    net.mark_output(quantized(net, y, dtype, zero), "q")
    if read:
        net.mark_output(net.add_activation(y, function="relu"), "y")
    *_, region = NormalizationKernel().regions(net.graph, net.layers[0])
    tried(NormalizationKernel(), pose(make_region(net.graph, region), "cuda", 1).problem)


@pytest.mark.parametrize(("dtype", "zero"), KINDS)
@pytest.mark.parametrize("length", [128, 50])
def test_attention(dtype: str, zero: int | None, length: int) -> None:
    net, heads, depth = tenonrt.Network("attention", REGISTRY), 3, 64
    shape = np.array((2, length, heads, depth))

    def turned(x: Any) -> Any:
        return net.add("Transpose", [x], {"permutation": (0, 2, 1, 3)})[0]

    parts = (net.add_input(name, (2, length, heads * depth)) for name in "qkv")
    q, k, v = (turned(net.add("Reshape", [part, shape], {})[0]) for part in parts)
    k = net.add("Transpose", [k], {"permutation": (0, 1, 3, 2)})[0]
    scores = net.add("MatrixMultiply", [net.add_elementwise(q, np.float32(0.125), operation="prod"), k], {})[0]
    y = net.add("MatrixMultiply", [net.add("Softmax", [scores], {"axis": -1})[0], v], {})[0]
    y = turned(quantized(net, y, dtype, zero))
    net.mark_output(net.add("Reshape", [y, np.array((2, length, heads * depth))], {})[0], "y")
    first = next(layer for layer in net.layers if layer.kind == "MatrixMultiply")
    *_, region = AttentionKernel().regions(net.graph, first)
    assert len(region) == len(net.layers)
    tried(AttentionKernel(), pose(make_region(net.graph, region), "cuda", 1).problem, 3)


@pytest.mark.parametrize(("read", "stored"), [(FLOAT8, None), (FLOAT8, FLOAT8), ("int8", None), ("uint8", "int8")])
def test_siblings(read: str, stored: str | None) -> None:
    net, rng = tenonrt.Network("siblings", REGISTRY), np.random.default_rng(0)
    x = net.add_input("x", (3, 50, 384), read)
    for number, columns in enumerate((384, 48, 16)):
        weights = (rng.integers(-127, 128, (columns, 384)) / 16).astype(
            numpy_dtype(FLOAT8 if read == FLOAT8 else "int8")
        )
        w = net.add("Dequantize", [weights, rng.uniform(0.01, 0.03, columns).astype(np.float32)], {"axis": 0})[0]
        y = net.add("Dequantize", [x, np.float32(0.3)], {})[0]
        y = net.add("FullyConnected", [y, w, rng.uniform(-1, 1, columns).astype(np.float32)], {})[0]
        y = net.add("Quantize", [y, np.float32(1.9 + number)], {"dtype": stored})[0] if stored else y
        net.mark_output(y, f"y{number}")
    tried(ByteProductKernel(), pose(make_region(net.graph, net.layers), "cuda", 1).problem, 2)


@pytest.mark.parametrize("dtype", ["int8", FLOAT8])
def test_an_engine_computes_what_the_layers_mean(dtype: str) -> None:
    """Products, an activation, a residual sum and a normalization, with every kernel that competes."""

    def define() -> tenonrt.Network:
        net, rng = tenonrt.Network("block", REGISTRY), np.random.default_rng(0)
        most = 448 if dtype == FLOAT8 else 127

        def product(x: Any, columns: int, reach: float) -> Any:
            step = np.float32(reach / most)
            x = net.add_dequantize(net.add_quantize(x, step, dtype=dtype), step)
            w = rng.standard_normal((int(x.type.shape[-1]), columns)) / np.sqrt(x.type.shape[-1])
            scale = (np.abs(w).max(axis=0) / most).astype(np.float32)
            stored = w / scale if dtype == FLOAT8 else np.rint(w / scale)
            y = net.add_matrix_multiply(x, net.add_dequantize(stored.astype(numpy_dtype(dtype)), scale, axis=1))
            return net.add_elementwise(y, rng.standard_normal(columns).astype(np.float32), operation="sum")

        x = net.add_input("x", (4, 96, 128))
        y = net.add_activation(product(x, 256, 4.0), function="gelu")
        y = net.add_elementwise(product(y, 128, 4.0), x, operation="sum")
        y = net.add("LayerNormalization", [y, *[np.ones(128, np.float32)] * 2], {"axis": -1})[0]
        net.mark_output(net.add_elementwise(product(y, 64, 5.0), product(y, 64, 5.0), operation="sum"), "y")
        return net

    x = np.random.default_rng(1).standard_normal((4, 96, 128)).astype(np.float32)
    engine = tenonrt.compile(define(), device="cuda", precision="float16")
    assert any("nvrtc_bytes" in step.kernel for step in engine.report.steps)
    (found,) = engine.create_context().execute({"x": x}).values()
    (wanted,) = tenonrt.compile(define(), optimization_level=0).create_context().execute({"x": x}).values()
    assert np.sqrt(np.mean((found - wanted) ** 2)) < 0.03 * np.sqrt(np.mean(wanted**2))


def test_floats_of_8_bits_saturate_round_to_even_and_keep_nan() -> None:
    """The conversions of the GPU, against those of ml_dtypes, at every value, its neighbours and halfway between."""
    import cupy
    import ml_dtypes

    kind = np.dtype(ml_dtypes.float8_e4m3fn)
    every = np.arange(256, dtype=np.uint8).view(kind).astype(np.float32)
    finite = np.sort(every[np.isfinite(every)])
    halfway = (finite[1:] + finite[:-1]) / 2
    beside = [np.nextafter(halfway, np.float32(s) * np.float32(np.inf)) for s in (-1, 1)]
    x = np.concatenate([every, halfway, *beside, [np.inf, -np.inf, 1e30, -464, 464, 1e-9, -1e-9]]).astype(np.float32)
    net = tenonrt.Network("floats", REGISTRY)
    net.mark_output(net.add("Quantize", [net.add_input("x", x.shape), np.float32(1)], {"dtype": FLOAT8})[0], "q")
    problem, kernel = pose(make_region(net.graph, net.layers), "cuda", 1).problem, PointwiseKernel()
    code = kernel.compile(problem, kernel.tactics(problem)[0])
    packed = [cupy.asarray(a) for a in kernel.pack(code, Weights((np.float32(1),), (), ()))]
    out = cupy.zeros(x.shape, cupy.uint8)
    kernel.bind(code, packed).launch([cupy.asarray(x)], [out], None, None)
    found = cupy.asnumpy(out).view(kind).astype(np.float32)
    np.testing.assert_array_equal(found, np.clip(x, -448, 448).astype(kind).astype(np.float32))
