"""Finding attention in graphs and reading its layout; compiling it where NVRTC is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from nvrtc_emulation import REGISTRY, Emulated, needs_compiler, problem_of
from tenonrt.builder.regions import make_region, pose
from tenonrt.contracts import FLOAT8, LINEAR, Code, Problem, Tactic, UnsupportedError, numpy_dtype
from tenonrt_kernel_nvrtc.attention.graph import Attention, Operand, read_attention
from tenonrt_kernel_nvrtc.attention.kernel import AttentionKernel
from tenonrt_kernel_nvrtc.attention.wide import ORDER, stored_result
from tenonrt_kernel_nvrtc.compiler import compile_cubin, library
from tenonrt_kernel_nvrtc.quantizing import Quantizing
from tenonrt_kernel_nvrtc.storage import NARROW, prelude


def attention(
    batch: int, length: int, heads: int, depth: int, masked: bool = True, quantized: str | None = None
) -> Problem:
    """As PyTorch's exporter writes it: keys are merged with the heads, transposed, and taken apart again.

    quantized: to these bytes, before the result is moved, as passes leave it.
    """
    net = tenonrt.Network("attention", REGISTRY)
    width = heads * depth
    q, k, v = (net.add_input(name, (batch, length, width)) for name in "qkv")

    def shaped(x: Any, *shape: int) -> Any:
        return net.add("Reshape", [x, np.array(shape)], {})[0]

    def turned(x: Any, *order: int) -> Any:
        return net.add("Transpose", [x], {"permutation": order})[0]

    def scaled(x: Any) -> Any:
        return net.add("Elementwise", [x, np.float32(depth**-0.25)], {"operation": "prod"})[0]

    q, k, v = (turned(shaped(x, batch, length, heads, depth), 0, 2, 1, 3) for x in (q, k, v))
    k = shaped(turned(shaped(k, batch * heads, length, depth), 0, 2, 1), batch, heads, depth, length)
    scores = net.add("MatrixMultiply", [scaled(q), scaled(k)], {})[0]
    if masked:
        mask = net.add_input("mask", (batch, 1, length, length))
        scores = net.add("Elementwise", [scores, mask], {"operation": "sum"})[0]
    y = net.add("MatrixMultiply", [net.add("Softmax", [scores], {"axis": -1})[0], v], {})[0]
    if quantized:
        y = net.add("Quantize", [y, np.float32(0.02)], {"dtype": quantized})[0]
    net.mark_output(shaped(turned(y, 0, 2, 1, 3), batch, length, width), "y")
    first = next(layer for layer in net.graph.layers if layer.kind == "MatrixMultiply")
    *_, widest = AttentionKernel().regions(net.graph, first)
    assert len(widest) == len(net.graph.layers)
    return pose(make_region(net.graph, widest), "cuda", 1).problem


def strided(values: Any, operand: Operand | tuple[int, ...], shape: tuple[int, ...]) -> Any:
    strides = operand.strides if isinstance(operand, Operand) else operand
    return np.lib.stride_tricks.as_strided(values, shape, [s * values.itemsize for s in strides])


def test_scores_of_a_thread_are_of_keys_that_follow_each_other() -> None:
    """A thread l of a quad has the columns 8 n + 2 l and the next; the keys there are those whose masks it reads."""
    key = [sum(int((r & bits) * 2**by) for bits, by in ORDER) for r in range(128)]
    assert sorted(key) == list(range(128))
    for lane in range(4):
        for q in range(4):
            columns = [32 * q + 8 * n + 2 * lane + c for n in range(4) for c in range(2)]
            assert [key[column] for column in columns] == [32 * q + 8 * lane + j for j in range(8)]


@settings(max_examples=15)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 4), st.sampled_from([16, 32]), st.booleans())
def test_the_layout_is_what_the_layers_compute(batch: int, length: int, heads: int, depth: int, masked: bool) -> None:
    """softmax(factor q k^T + mask) v through the strides that were read, against the layers' references."""
    from tenonrt.builder.sampling import draw_inputs, reference_outputs

    problem = attention(batch, length, heads, depth, masked)
    found = read_attention(problem)
    assert isinstance(found, Attention), found
    inputs = [np.asarray(a, np.float64) for a in draw_inputs(problem, REGISTRY.layer_type, 0)]
    (expected,) = reference_outputs(problem, REGISTRY.layer_type, inputs)
    four = (batch, heads, length, depth)
    q, k, v = (strided(inputs[o.number], o, four) for o in (found.query, found.key, found.value))
    scores = found.factor * (q @ k.swapaxes(-1, -2))
    if found.mask is not None:
        scores = scores + strided(inputs[found.mask.number], found.mask, scores.shape)
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    result = np.zeros_like(expected)
    strided(result, found.result, four)[...] = powers / powers.sum(-1, keepdims=True) @ v
    assert masked == (found.mask is not None)
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["int8", FLOAT8])
def test_a_result_may_be_quantized_before_it_is_moved(dtype: str) -> None:
    problem = attention(2, 8, 2, 16, quantized=dtype)
    found, real = read_attention(problem), read_attention(attention(2, 8, 2, 16))
    assert isinstance(found, Attention), found
    assert isinstance(real, Attention)
    assert found.result == real.result
    assert found.quantize is not None
    assert AttentionKernel().supports(problem).ok
    for tactic in AttentionKernel().tactics(problem):
        assert tactic.output_format(0) == LINEAR


def test_only_heads_that_tensor_cores_take_are_supported() -> None:
    assert AttentionKernel().supports(attention(2, 8, 2, 16)).ok
    refused = AttentionKernel().supports(attention(2, 8, 2, 24))
    assert not refused.ok
    assert "24 columns" in refused.why


@pytest.mark.parametrize("quantized", [None, "uint8", FLOAT8])
def test_every_tactic_compiles_for_hopper(quantized: str | None) -> None:
    try:
        library()
    except UnsupportedError as error:
        pytest.skip(str(error))
    kernel, problem = AttentionKernel(), attention(1, 128, 2, 64, quantized=quantized)
    found = {n.dtype: kernel.tactics_within(problem, {n.dtype}.__contains__) for n in NARROW}
    assert [tactic.key for tactic in found["bfloat16"]] == [f"{tactic.key} bfloat16" for tactic in found["float16"]]
    keys = ["wide1x1", "wide2x2", "1x1x64", "2x2x64"]
    halves = [tactic for tactic in found["float16"] if tactic.key in keys]
    assert len(halves) == len(keys)
    for tactic in (*halves, *found["bfloat16"][:1], *found["bfloat16"][-1:]):
        source, info = kernel.generate(problem, tactic)
        assert compile_cubin(prelude(tactic) + source, "sm_90a").startswith(b"\x7fELF")
        assert info["grid"][1:] == (2, 1)


def test_errors_of_the_compiler_are_shown() -> None:
    try:
        library()
    except UnsupportedError as error:
        pytest.skip(str(error))
    with pytest.raises(ValueError, match="undefined_name"):
        compile_cubin('extern "C" __global__ void kernel(float *x) { x[0] = undefined_name; }', "sm_90a")


STORING = r"""
template <typename T> void swap(T &even, T &odd, bool second, int distance) {
    const T other = (T)__shfl_xor_sync(~0u, second ? even : odd, distance);  // of at most 16 bits, which floats hold
    if (second) even = other; else odd = other;
}
extern "C" void kernel(OUT *out, const float *x0, PACKED) {
    ONCE
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, l = lane % 4, row = warp * 16 + g;
    float result[32], sum[2] = {0.25f, 0.25f};
    for (int i = 0; i < 32; ++i) result[i] = x0[(row + i / 2 % 2 * 8) * 64 + i / 4 * 8 + l * 2 + i % 2];
    __syncthreads();
    STORED
}
"""


@needs_compiler
@pytest.mark.parametrize(("dtype", "zero"), [("int8", None), ("uint8", 3), (FLOAT8, None)])
def test_a_quad_stores_bytes_where_their_columns_are(dtype: str, zero: int | None) -> None:
    """Rounded once, from single precision: the exchange of a warpgroup's sums, on the processor."""
    points = [] if zero is None else [np.array(zero, dtype)]

    def define(net: tenonrt.Network) -> Any:
        return net.add("Quantize", [net.add_input("x", (50, 64)), np.float32(1), *points], {"dtype": dtype})[0]

    problem = problem_of(define)
    one = Operand(0, (0, 0, 64, 1))
    kept = Quantizing(problem, problem.layer)
    attention = Attention(1, 1, 50, 50, 64, one, one, one, one.strides, 1.0, None, False)
    source = STORING.replace("OUT", kept.ctype).replace("PACKED", ", ".join(kept.parameters))
    source = source.replace("ONCE", kept.once).replace("STORED", stored_result(attention, kept))
    code = Code(problem, Tactic(), source.encode(), {"pitches": [], "grid": (1,), "block": (128,)})
    scale = np.array(0.37, np.float32)
    x = np.zeros((64, 64), np.float32)
    x[:50] = np.random.default_rng(0).standard_normal((50, 64)) * 30
    out = np.zeros((64, 64), numpy_dtype(dtype))
    Emulated(AttentionKernel()).bind(code, [scale, *points]).launch([x], [out], None, None)
    steps = x[:50].astype(np.float64) / scale
    if dtype == FLOAT8:
        np.testing.assert_allclose(out[:50].astype(np.float64), steps.clip(-448, 448), rtol=2**-4 + 1e-6, atol=2**-10)
    else:
        limits = np.iinfo(dtype)
        wanted = (steps + (zero or 0)).clip(limits.min, limits.max)
        np.testing.assert_allclose(out[:50].astype(np.float64), wanted, rtol=0, atol=0.5 + 1e-4)
    assert not out[50:].astype(np.float64).any()
