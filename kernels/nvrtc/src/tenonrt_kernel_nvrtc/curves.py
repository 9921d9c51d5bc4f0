"""Activations that are curves, on sums in registers: as near as a half or a byte keeps the result, and no nearer.

tanh.approx is good to 2^-11, a half's last bit.
"""

from __future__ import annotations

from tenonrt.contracts import ProblemLayer

from tenonrt_kernel_nvrtc.expressions import literal

# The argument of tanh is a polynomial fitted to the error function, to 3e-5.
FAST_GELU = r"""
__device__ __forceinline__ float fast_gelu(float x) {
    const float s = fminf(x * x, 25.f), u = x * fmaf(s, fmaf(s, -3.522862e-4f, 0.03701043f), 0.79750255f);
    float y; asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(u));
    return fmaf(0.5f * x, y, 0.5f * x);
}
"""
_FAST_GELU_TANH = r"""
__device__ __forceinline__ float fast_gelu_tanh(float x) {
    const float u = x * fmaf(0.0356774081f * x, x, 0.7978845608f);
    float y; asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(u));
    return fmaf(0.5f * x, y, 0.5f * x);
}
"""
_FAST_SWISH = r"""
__device__ __forceinline__ float fast_swish(float x, float a) { return __fdividef(x, 1.f + __expf(-a * x)); }
"""
_FUNCTIONS = {"gelu": FAST_GELU, "gelu_tanh": _FAST_GELU_TANH, "swish": _FAST_SWISH}
CURVES = frozenset(_FUNCTIONS)


def curve_function(layer: ProblemLayer) -> str:
    """The function of an activation among `CURVES`."""
    return _FUNCTIONS[layer.attrs.function]


def curve_value(layer: ProblemLayer, x: str) -> str:
    """Its result at ``x``, an expression without side effects."""
    attrs = layer.attrs
    slope = f", {literal(1.0 if attrs.alpha is None else attrs.alpha)}" if attrs.function == "swish" else ""
    return f"fast_{attrs.function}({x}{slope})"
