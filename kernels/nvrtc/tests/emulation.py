"""Generated kernels on the processor: the C++ that NVRTC would compile, compiled by the system's compiler.

Threads that do not exchange values run one after the other; others take turns, a cluster of blocks at a time
(`fibers.py`).
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tenonrt
from nvrtc_fibers import FIBERS, PRODUCT, run, runner
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.trial import Sample, try_tactic
from tenonrt.contracts import Array, Code, Executable, Kernel, Problem, Support, Tactic, Weights
from tenonrt.plugins.registry import Registry, using
from tenonrt_kernel_nvrtc.kernel import CudaKernel
from tenonrt_kernel_nvrtc.storage import narrow_of, shape_of
from tenonrt_kernel_nvrtc.tensor_cores import MULTIPLY

# Calls the kernel for every thread, one after the other.
_RUN = r"""
extern "C" void run(void **operands, const int *numbers, const int *grid, int block) {
    blockDim = {block, 1, 1};
    for (int z = 0; z < grid[2]; ++z) for (int y = 0; y < grid[1]; ++y) for (int x = 0; x < grid[0]; ++x)
        for (int t = 0; t < block; ++t) {
            blockIdx = {x, y, z}; threadIdx = {t, 0, 0};
            CALL;
        }
}
"""
REGISTRY = Registry()
COMPILER = shutil.which("g++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
PRELUDE = r"""
extern "C" { float expf(float); float expm1f(float); float powf(float, float); float tanhf(float); float erff(float);
    float sqrtf(float); float logf(float); float log1pf(float); float fabsf(float); float fmaxf(float, float);
    float sinf(float); float cosf(float); float rintf(float); float floorf(float); float ceilf(float); }
#define __device__
#define __global__
#define __launch_bounds__(...)
#define __forceinline__ inline
struct Index { int x, y, z; };
static Index threadIdx, blockIdx, blockDim;
typedef unsigned short half_t;
static inline float to_float(half_t h) { _Float16 v; __builtin_memcpy(&v, &h, 2); return (float)v; }
static inline half_t to_half(float f) { _Float16 v = (_Float16)f; half_t h; __builtin_memcpy(&h, &v, 2); return h; }
enum bfloat_t : unsigned short {};
static inline float to_float(bfloat_t b) {
    unsigned u = (unsigned)b << 16; float f; __builtin_memcpy(&f, &u, 4); return f;
}
static inline bfloat_t to_bfloat(float f) {
    unsigned u; __builtin_memcpy(&u, &f, 4);
    return (bfloat_t)(f != f ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16);
}
struct e4m3_t { unsigned char bits; };
static inline float to_float(e4m3_t v) {
    const int e = v.bits >> 3 & 15, m = v.bits & 7;
    float f = e == 15 && m == 7 ? __builtin_nanf("") : (e ? 8 + m : m) * 0x1p-9f;
    for (int i = 1; i < e; ++i) f *= 2;
    return v.bits & 128 ? -f : f;
}
static inline e4m3_t to_e4m3(float f) {
    const unsigned char sign = __builtin_signbit(f) ? 128 : 0;
    if (f != f) return {(unsigned char)(sign | 127)};
    const float size = __builtin_fabsf(f);
    int best = 0;  // the nearest of all, at ties the even one
    for (int i = 1; i < 127; ++i) {
        const float old = __builtin_fabsf(size - to_float(e4m3_t{(unsigned char)best}));
        const float d = __builtin_fabsf(size - to_float(e4m3_t{(unsigned char)i}));
        if (d < old || (d == old && i % 2 == 0)) best = i;
    }
    return {(unsigned char)(sign | (__builtin_isinf(size) ? 126 : best))};
}
static inline float __int_as_float(int i) { float f; __builtin_memcpy(&f, &i, 4); return f; }
static inline float sigmoid_of(float x) { return 1.f / (1.f + expf(-x)); }
static inline float power_of(float base, float exponent) { return powf(base, exponent); }
static inline float infinity() { return __builtin_inff(); }
static inline int min(int a, int b) { return a < b ? a : b; }
static inline float larger(float a, float b) { return (a > b || a != a) ? a : b; }
static inline float smaller(float a, float b) { return (a < b || a != a) ? a : b; }
static inline unsigned larger_halves(unsigned a, unsigned b) {
    unsigned r = 0;
    for (int i = 0; i < 32; i += 16) {
        const float x = to_float((half_t)(a >> i & 65535)), y = to_float((half_t)(b >> i & 65535));
        r |= (unsigned)to_half(x != x || x > y ? x : y) << i;
    }
    return r;
}
static inline unsigned larger_bfloats(unsigned a, unsigned b) {
    unsigned r = 0;
    for (int i = 0; i < 32; i += 16) {
        const float x = to_float((bfloat_t)(a >> i & 65535)), y = to_float((bfloat_t)(b >> i & 65535));
        r |= (unsigned)to_bfloat(x != x || x > y ? x : y) << i;
    }
    return r;
}
template <typename T> static inline unsigned larger_pairs(unsigned a, unsigned b) {
    T x[2], y[2]; __builtin_memcpy(x, &a, 4); __builtin_memcpy(y, &b, 4);
    for (int i = 0; i < 2; ++i) x[i] = x[i] > y[i] ? x[i] : y[i];
    __builtin_memcpy(&a, x, 4); return a;
}
static inline unsigned __vmaxs2(unsigned a, unsigned b) { return larger_pairs<short>(a, b); }
static inline unsigned __vmaxu2(unsigned a, unsigned b) { return larger_pairs<unsigned short>(a, b); }
template <typename T, int V> struct alignas(sizeof(T) * V > 16 ? 16 : sizeof(T) * V) Vec { T e[V]; };
template <typename T, int V> Vec<T, V> fetch(const T *p) { return *(const Vec<T, V> *)p; }
template <typename T, int V> void put(T *p, const Vec<T, V> &v) { *(Vec<T, V> *)p = v; }
"""


def problem_of(define: Callable[[tenonrt.Network], Any]) -> Problem:
    """The problem of a network whose layers are one region; ``define`` returns its output, or all of them."""
    network = tenonrt.Network("problem", REGISTRY)
    made = define(network)
    for number, tensor in enumerate(made if isinstance(made, list | tuple) else [made]):
        network.mark_output(tensor, f"y{number}")
    return pose(make_region(network.graph, network.graph.layers), "cuda", 1).problem


# Deviations from float64, in units of the largest result: operands and results are rounded, sums are not.
_ROUNDINGS = {"float16": 2.0**-9, "bfloat16": 2.0**-6}


def judge(
    kernel: CudaKernel,
    problem: Problem,
    keys: Sequence[str] | None = None,
    stored: str = "float16",
    allowed: float = 1.0,
) -> list[str]:
    """Try tactics as a build does (canaries, slices, in place, against float64); the keys of those that were tried.

    stored: the narrow float that the build permits. allowed: times what one product may be off by.
    """
    with using(REGISTRY):
        support = kernel.supports(problem)
        assert support.ok, support.why
        samples = [Sample.draw(problem, REGISTRY.layer_type, 2, seed) for seed in range(2)]
        offered = kernel.tactics_within(problem, {"float32", stored}.__contains__)
        tactics = [t for t in offered if keys is None or shape_of(t) in keys]
        assert tactics
        for tactic in tactics:
            device = REGISTRY.device("cpu")
            verdict, _ = try_tactic(Emulated(kernel), problem, tactic, samples, REGISTRY.layer_type, device)
            assert verdict.ok, f"{tactic.key}: {verdict.why}"
            most = allowed * _ROUNDINGS.get(tactic.precision, 1.0)
            assert verdict.error <= most, f"{tactic.key}: {verdict.error}"
    return [tactic.key for tactic in tactics]


class Emulated(Kernel):
    """The kernel, compiled for the processor."""

    def __init__(self, kernel: CudaKernel) -> None:
        self.kernel = kernel

    def supports(self, problem: Problem) -> Support:
        return self.kernel.supports(problem)

    def compile(self, problem: Problem, tactic: Tactic) -> Code:
        source, info = self.kernel.generate(problem, tactic)
        return Code(problem, tactic, source.encode(), {**info, "pitches": list(info.get("pitches", ()))})

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        return self.kernel.pack(code, weights)

    def bind(self, code: Code, packed: Sequence[Array]) -> Executable:
        return _Launched(code, packed)


class _Launched:
    def __init__(self, code: Code, packed: Sequence[Array]) -> None:
        info, source = code.info, code.blob.decode()
        self._packed, self._pitches = packed, info["pitches"]
        self._grid, self._block = (*info["grid"], 1, 1)[:3], info["block"][0]
        self._cluster, self._shared = _cluster_of(source), info.get("shared", 0)
        count = len(code.problem.outputs) + len(code.problem.activations) + len(packed)
        call = _call(source, count, len(self._pitches))
        self._waits = "__syncthreads()" in source or "cluster_sync()" in source
        if self._waits:
            source = source.replace(
                "extern __shared__ unsigned char raw[];", "unsigned char *const raw = own().memory;"
            )
        before, product, behind = (
            (FIBERS, PRODUCT, runner(call)) if self._waits else ("", "", _RUN.replace("CALL", call))
        )
        declared = narrow_of(code.tactic).declared
        self._library = compiled(PRELUDE + before + declared + product + source.replace(MULTIPLY, "") + behind)

    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any | None, stream: Any | None) -> None:
        operands = [*outputs, *inputs]
        numbers = [operands[i].strides[-3] // operands[i].itemsize for i in self._pitches]
        arrays = [*operands, *self._packed]
        if self._waits:
            run(self._library, arrays, numbers, self._grid, self._block, self._cluster, shared=self._shared)
            return
        pointers = (ctypes.c_void_p * len(arrays))(*[a.ctypes.data for a in arrays])
        given = (ctypes.c_int * max(1, len(numbers)))(*numbers)
        self._library.run(pointers, given, (ctypes.c_int * 3)(*self._grid), self._block)


def _cluster_of(source: str) -> int:
    """How many blocks a cluster of the kernel has."""
    found = re.search(r"__cluster_dims__\((\d+), 1, 1\)", source)
    return int(found.group(1)) if found else 1


def compiled(text: str, level: str = "-O0") -> ctypes.CDLL:
    """C++ as a library, by the system's compiler; what runs for long gains by being optimized."""
    assert COMPILER is not None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kernel.cpp").write_text(text)
        options = [level, "-fpermissive", "-w", "-shared", "-fPIC", "-std=c++17"]
        command = [COMPILER, *options, "-o", str(folder / "kernel.so"), str(folder / "kernel.cpp")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr
        return ctypes.CDLL(str(folder / "kernel.so"))


def _call(source: str, count: int, numbers: int) -> str:
    """A call of the kernel; operands are pointers, then come numbers."""
    head = source[source.index(" kernel(") + len(" kernel(") :]
    types = [p.rsplit(" ", 1)[0] + ("*" if "*" in p else "") for p in head[: head.index(")")].split(", ")]
    given = [f"({t})operands[{i}]" for i, t in enumerate(types[:count])]
    return f"kernel({', '.join(given + [f'(int)numbers[{i}]' for i in range(numbers)])})"
