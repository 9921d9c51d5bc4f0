"""Attention in one kernel on tensor cores: a warp has 16 queries, a block goes through the keys 64 at a time.

Scores stay in registers; the maximum and the sum of a row are corrected as larger ones come (Milakov and Gimelshein,
"Online normalizer calculation for softmax", 2018; Dao et al., "FlashAttention", 2022).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tenonrt.contracts import GraphView, Layer, Problem, Tactic

from tenonrt_kernel_nvrtc.attention_graph import Attention, Operand, read_attention, regions
from tenonrt_kernel_nvrtc.expressions import literal
from tenonrt_kernel_nvrtc.kernel import CudaKernel
from tenonrt_kernel_nvrtc.storage import HALF

_TILES = (64, 128)  # keys at a time
_WARPS = (1, 2, 4, 8)
_SHARED = 48 << 10  # bytes that a block has without asking for more

_INSTRUCTIONS = r"""
__device__ __forceinline__ void multiply_add(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ unsigned pair(float low, float high) {
    unsigned r; asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low)); return r;
}
__device__ __forceinline__ void columns(unsigned &b0, unsigned &b1, const half_t *p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];" : "=r"(b0), "=r"(b1)
        : "r"((unsigned)__cvta_generic_to_shared(p)));
}
"""


class AttentionKernel(CudaKernel):
    """Heads of 16 to 128 columns, whose elements follow each other in memory, with a mask that is added."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        yield from regions(view, layer)

    def refuses(self, problem: Problem) -> str:
        found = read_attention(problem)
        if isinstance(found, str):
            return found
        if found.depth % 16 or found.depth > 128:
            return f"heads of {found.depth} columns"
        for operand in (found.query, found.key, found.value, Operand(0, found.result)):
            if operand.strides[3] != 1 or any(stride % 8 for stride in operand.strides[:3]):
                return "rows of heads that do not follow each other, or do not start where 16 bytes do"
        return ""

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        found = read_attention(problem)
        assert isinstance(found, Attention)
        formats = (HALF,) * len(problem.activations)
        return [
            Tactic(f"{warps}x{tile}", formats, (HALF,), "float16")
            for warps in _WARPS
            for tile in _TILES
            if (warps == 1 or 16 * warps < 2 * found.rows) and (tile == 64 or tile < found.keys + 64)
            if 4 * tile * (found.depth + 8) <= _SHARED
        ]

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        found = read_attention(problem)
        assert isinstance(found, Attention)
        warps, tile = (int(text) for text in tactic.key.split("x"))
        parameters = ["half_t *out", *(f"const half_t *x{i}" for i in problem.activations)]
        head = f'extern "C" __global__ void __launch_bounds__({32 * warps}) kernel({", ".join(parameters)})'
        source = f"{_INSTRUCTIONS}{head} {{"
        grid = (-(-found.rows // (16 * warps)), found.heads, found.batch)
        return f"{source}\n{_body(found, warps, tile)}\n}}\n", {"grid": grid, "block": (32 * warps,)}


def _at(operand: Operand | Sequence[int]) -> str:
    """Where the block's head begins in an operand."""
    strides = operand.strides if isinstance(operand, Operand) else operand
    return f"(long long)blockIdx.z * {strides[0]} + (long long)blockIdx.y * {strides[1]}"


def _body(a: Attention, warps: int, tile: int) -> str:
    pitch, steps, tiles = a.depth + 8, a.depth // 16, tile // 8
    vectors = tile * a.depth // 8
    return f"""
    __shared__ alignas(16) half_t keys[{tile}][{pitch}], values[{tile}][{pitch}];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, l = lane % 4;
    const int row = (blockIdx.x * {warps} + warp) * 16 + g;
    const half_t *q = x{a.query.number} + {_at(a.query)};
    const half_t *k = x{a.key.number} + {_at(a.key)};
    const half_t *v = x{a.value.number} + {_at(a.value)};
    unsigned fragments[{steps}][4];
    for (int s = 0; s < {steps}; ++s) for (int i = 0; i < 4; ++i) {{
        const int r = row + (i % 2) * 8, c = s * 16 + l * 2 + (i / 2) * 8;
        fragments[s][i] = r < {a.rows} ? *(const unsigned *)(q + (long long)r * {a.query.strides[2]} + c) : 0u;
    }}
    float result[{a.depth // 8}][4] = {{}}, most[2] = {{-infinity(), -infinity()}}, sum[2] = {{0.f, 0.f}};
    for (int start = 0; start < {a.keys}; start += {tile}) {{
        __syncthreads();
        for (int t = threadIdx.x; t < {vectors}; t += {32 * warps}) {{
            const int r = t / {a.depth // 8}, c = t % {a.depth // 8} * 8;
            uint4 kk = make_uint4(0, 0, 0, 0), vv = kk;
            if (start + r < {a.keys}) {{
                kk = *(const uint4 *)(k + (long long)(start + r) * {a.key.strides[2]} + c);
                vv = *(const uint4 *)(v + (long long)(start + r) * {a.value.strides[2]} + c);
            }}
            *(uint4 *)&keys[r][c] = kk; *(uint4 *)&values[r][c] = vv;
        }}
        __syncthreads();
        float scores[{tiles}][4] = {{}};
        _Pragma("unroll") for (int n = 0; n < {tiles}; ++n) _Pragma("unroll") for (int s = 0; s < {steps}; ++s) {{
            const half_t *p = &keys[n * 8 + g][s * 16 + l * 2];
            multiply_add(scores[n], fragments[s], *(const unsigned *)p, *(const unsigned *)(p + 8));
        }}
        float high[2] = {{most[0], most[1]}};
        _Pragma("unroll") for (int n = 0; n < {tiles}; ++n) _Pragma("unroll") for (int i = 0; i < 4; ++i) {{
            const int column = start + n * 8 + l * 2 + i % 2;
            float s = scores[n][i] * {literal(a.factor)};
            {_masked(a)}
            s = column < {a.keys} ? s : -infinity();
            scores[n][i] = s; high[i / 2] = larger(high[i / 2], s);
        }}
        float scale[2];
        for (int h = 0; h < 2; ++h) {{
            high[h] = larger(high[h], __shfl_xor_sync(~0u, high[h], 1));
            high[h] = larger(high[h], __shfl_xor_sync(~0u, high[h], 2));
            const float base = high[h] == -infinity() ? 0.f : high[h];
            scale[h] = __expf(most[h] - base); sum[h] *= scale[h]; most[h] = high[h]; high[h] = base;
        }}
        unsigned p[{tiles}][2];
        _Pragma("unroll") for (int n = 0; n < {tiles}; ++n) {{
            for (int i = 0; i < 4; ++i) {{
                scores[n][i] = __expf(scores[n][i] - high[i / 2]); sum[i / 2] += scores[n][i];
            }}
            p[n][0] = pair(scores[n][0], scores[n][1]); p[n][1] = pair(scores[n][2], scores[n][3]);
        }}
        _Pragma("unroll") for (int d = 0; d < {a.depth // 8}; ++d) {{
            for (int i = 0; i < 4; ++i) result[d][i] *= scale[i / 2];
            _Pragma("unroll") for (int s = 0; s < {tile // 16}; ++s) {{
                const unsigned f[4] = {{p[2 * s][0], p[2 * s][1], p[2 * s + 1][0], p[2 * s + 1][1]}};
                unsigned b0, b1;
                columns(b0, b1, &values[s * 16 + lane % 16][d * 8]);
                multiply_add(result[d], f, b0, b1);
            }}
        }}
    }}
    for (int h = 0; h < 2; ++h) {{
        sum[h] += __shfl_xor_sync(~0u, sum[h], 1); sum[h] += __shfl_xor_sync(~0u, sum[h], 2);
        const bool none = !(sum[h] > 0.f);
        const float inverse = 1.f / sum[h];
        if (row + h * 8 < {a.rows}) for (int d = 0; d < {a.depth // 8}; ++d) {{
            float low = result[d][2 * h] * inverse, up = result[d][2 * h + 1] * inverse;
            {"if (none) low = up = 0.f;" if a.guarded else "if (none) low = up = __int_as_float(0x7fc00000);"}
            const long long to = {_at(a.result)} + (long long)(row + h * 8) * {a.result[2]} + d * 8 + l * 2;
            *(unsigned *)(out + to) = pair(low, up);
        }}
    }}"""


def _masked(a: Attention) -> str:
    if a.mask is None:
        return ""
    m = a.mask
    place = f"{_at(m)} + (row + (i / 2) * 8) * {m.strides[2]} + column * {m.strides[3]}"
    return f"if (row + (i / 2) * 8 < {a.rows} && column < {a.keys}) s += to_float(x{m.number}[{place}]);"
