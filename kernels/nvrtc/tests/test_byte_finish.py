"""What follows a product of bytes, on the processor: sums in the order of threads' registers, as results in memory."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from nvrtc_emulation import PRELUDE, REGISTRY, compiled, needs_compiler, problem_of
from tenonrt.builder.sampling import TrialRun
from tenonrt.contracts import FLOAT8, Array, numpy_dtype
from tenonrt_kernel_nvrtc.curves import CURVES, curve_function
from tenonrt_kernel_nvrtc.quantized.finish import ByteFinish, order
from tenonrt_kernel_nvrtc.quantized.tiles import GROUP, ByteTile

pytestmark = needs_compiler
# The instructions, in C++; what is read and stored is as wide as there.
INSTRUCTIONS = r"""
extern "C" { float fmaf(float, float, float); float fminf(float, float); float ldexpf(float, int); }
struct uint4 { unsigned x, y, z, w; };
static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static float __fdividef(float a, float b) { return a / b; }
static float __expf(float a) { return expf(a); }
static int nearest(float f) { return (int)rintf(f); }
template <bool SIGNED> unsigned bytes(int a, int b, int c, int d) {
    const int given[4] = {a, b, c, d}, low = SIGNED ? -128 : 0, high = SIGNED ? 127 : 255; unsigned all = 0;
    for (int i = 0; i < 4; ++i) {
        const int v = given[i] < low ? low : given[i] > high ? high : given[i];
        all |= (unsigned)(unsigned char)v << 8 * i;
    }
    return all;
}
static unsigned halves(float a, float b) { return (unsigned)to_half(b) << 16 | to_half(a); }
static unsigned narrow(float a, float b, float c, float d) {
    return to_e4m3(d).bits << 24 | to_e4m3(c).bits << 16 | to_e4m3(b).bits << 8 | to_e4m3(a).bits;
}
template <typename T> float byte_of(unsigned word, int c) { return (float)(T)(word >> 8 * c); }
template <> float byte_of<e4m3_t>(unsigned word, int c) { return to_float(e4m3_t{(unsigned char)(word >> 8 * c)}); }
struct Words { unsigned e[4]; };
static Words words(const void *p) { const unsigned *w = (const unsigned *)p; return {w[0], w[1], w[2], w[3]}; }
"""
THREAD = r"""
extern "C" void run(OUTPUTS, const ADDED *ADDED_NAME, const float *factors, const SUM *product, int pitch) {
    ONCE
    for (int t = 0; t < 128; ++t) for (int m1 = 0; m1 < ROWS; m1 += 64 * HEIGHTS)
    for (int n1 = 0; n1 < pitch; n1 += WIDE) {
        const int warp = t / 32, lane = t % 32, g = lane / 4, l = lane % 4, m0 = m1 + warp * 16 + g, n0 = n1 + 16 * l;
        SUM sums[HEIGHTS][WIDE / 2];
        for (int r = 0; r < HEIGHTS; ++r) for (int i = 0; i < WIDE / 2; ++i) {
            const int m = m0 + r * 64 + i / 2 % 2 * 8, n = n1 + i / 4 * 8 + 2 * l + i % 2;
            sums[r][i] = m < ROWS && n < pitch ? product[m * pitch + n] : 0;
        }
        EARLY
        BODY
    }
}
"""


def finished(finish: ByteFinish, product: Array, factors: Array, added: Array | None) -> Array:
    """Of products [rows, packed columns] the result [rows, columns], by the code that a GPU would run."""
    tile, rows = finish.tile, finish.m
    floats = product.dtype.kind == "f"
    named = {
        "EARLY": finish.early(), "BODY": finish.body(), "ONCE": finish.once(), "SUM": "float" if floats else "int",
        "HEIGHTS": str(tile.heights), "WIDE": str(tile.columns), "ROWS": str(rows),
        "ADDED_NAME": "none" if finish.added is None else f"x{finish.added[0]}",
        "ADDED": C_TYPES["int8" if finish.added is None else finish.added[1]],
        "OUTPUTS": ", ".join(p.replace("__restrict__ ", "") for p in finish.parameters()[: len(finish.parts)]),
    }  # fmt: skip
    text = THREAD
    for name, value in named.items():
        text = text.replace(name, value)
    curve = "" if finish.curve is None else curve_function(finish.curve)
    curve = curve.replace('float y; asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(u));', "const float y = tanhf(u);")
    library = compiled(PRELUDE + INSTRUCTIONS + curve + text)
    found = [np.zeros((rows, columns), numpy_dtype(finish.stored)) for columns in finish.parts]
    arrays = [*found, np.zeros(1) if added is None else added, factors, product]
    library.run(*(ctypes.c_void_p(a.ctypes.data) for a in arrays), product.shape[1])
    return np.concatenate(found, axis=1)


C_TYPES = {"int8": "signed char", "uint8": "unsigned char", FLOAT8: "e4m3_t", "float16": "half_t"}
TILES = [
    ByteTile(64, 64, 1, 1, 1, 3, 1, 64),
    ByteTile(256, 64, 1, 1, 1, 3, 1, 128),
    ByteTile(64, 192, 1, 1, 2, 3, 1, 64),
]


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from(["int8", "uint8", FLOAT8]), st.booleans(), st.booleans(), st.integers(1, 130),
    st.sampled_from([16, 64, 80, 208]), st.sampled_from(TILES), st.sampled_from(["", "relu", "clip", *sorted(CURVES)]),
)  # fmt: skip
def test_sums_become_results(
    dtype: str, real: bool, adds: bool, rows: int, columns: int, tile: ByteTile, function: str
) -> None:
    """Against float64: columns where they belong, nothing written beside them, limits, curves, rounding once."""
    activation = problem_of(lambda net: net.add_activation(net.add_input("x", (1,)), function=function or "relu"))
    curve = activation.layer if function in CURVES else None
    parts = (columns - 48, 16, 32) if columns > 64 and not adds else (columns,)
    added = (1, dtype) if adds else None
    stored = "float16" if real else dtype
    finish = ByteFinish(
        activation, tile, rows, parts, stored, added, function in ("relu", "clip"), function == "clip", curve
    )
    rng, packed = np.random.default_rng(rows), -(-columns // GROUP) * GROUP
    product = rng.integers(-3000, 3000, (rows, packed)).astype(np.float32 if dtype == FLOAT8 else np.int32)
    factors = rng.uniform(0.01, 0.03, 2 * columns + 3).astype(np.float32)
    factors[2 * columns :] = 0.5, 20.0, 3.0
    other = drawn(rng, dtype, (rows, columns)) if adds else None
    found = finished(finish, product, factors, other)
    wanted = np.zeros((rows, columns))
    places = order(columns)
    wanted[:, [p for p in places if p >= 0]] = product[:, [k for k, p in enumerate(places) if p >= 0]]
    wanted = wanted * factors[:columns].astype(np.float64) + factors[columns : 2 * columns]
    wanted = wanted if other is None else wanted + 0.5 * other.astype(np.float64)
    wanted = np.maximum(wanted, 0) if function in ("relu", "clip") else wanted
    wanted = np.minimum(wanted, 20) if function == "clip" else wanted
    if curve is not None:
        (wanted,) = REGISTRY.layer_type("Activation").reference(curve.attrs, [wanted], TrialRun())
        wanted = wanted * (1 if real else 3.0)
    judged(found, wanted, stored)


def drawn(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Any:
    return (rng.standard_normal(shape) * 20).clip(0 if dtype == "uint8" else None).astype(numpy_dtype(dtype))


def judged(found: Array, wanted: Array, stored: str) -> None:
    """Half of the last place, and what single precision and the fitted curves lose: 3e-5 of the argument."""
    if stored in ("int8", "uint8"):
        limits = np.iinfo(stored)
        wanted = wanted.clip(limits.min, limits.max)
        np.testing.assert_allclose(found.astype(np.float64), wanted, atol=0.5 + 1e-2, rtol=0)
    elif stored == FLOAT8:
        np.testing.assert_allclose(found.astype(np.float64), wanted.clip(-448, 448), rtol=2**-4 + 1e-4, atol=2**-9)
    else:
        np.testing.assert_allclose(found.astype(np.float64), wanted, rtol=2**-11 + 1e-5, atol=1e-3)
