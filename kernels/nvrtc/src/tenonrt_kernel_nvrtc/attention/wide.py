"""The source of attention on Hopper: a warpgroup multiplies 64 queries by 128 keys at a time, and probabilities, which
never leave registers, by the values.

NVIDIA, "PTX ISA", asynchronous warpgroup level matrix instructions: rows of 64 elements are 128 bytes, whose 16-byte
pieces are swizzled by the row's number. Keys have what is summed over innermost, values the result's columns.

A thread's scores are pairs of columns, eight apart. Keys and values lie in an order in which its pairs are of keys that
follow each other, so that it reads the mask of eight keys at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from tenonrt_kernel_nvrtc.attention.graph import Attention, Operand
from tenonrt_kernel_nvrtc.attention.source import at, masked_nowhere
from tenonrt_kernel_nvrtc.expressions import literal
from tenonrt_kernel_nvrtc.quads import EXCHANGES, SWAP
from tenonrt_kernel_nvrtc.quantizing import Quantizing

DEPTH, _KEYS = 64, 128  # columns of a head; keys of a tile
# The key in a row of a tile: bits of the row's number and how far they move. Two of its bits change places with two.
ORDER = ((~30, 0), (6, 2), (24, -2))
_KEY = " | ".join(f"((r & {bits}) {'<<' if by >= 0 else '>>'} {abs(by)})" for bits, by in ORDER)

INSTRUCTIONS = r"""
typedef unsigned long long descriptor_t;
__device__ __forceinline__ unsigned shared_at(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }
__device__ __forceinline__ descriptor_t described(unsigned at) {
    return (descriptor_t)((at & 0x3ffff) >> 4) | (1ull << 16) | (64ull << 32) | (1ull << 62);
}
__device__ __forceinline__ void copy16(unsigned to, const narrow_t *from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}
template <int N> __device__ __forceinline__ void settled(float (&d)[N]) {
    _Pragma("unroll") for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d[i]) :: "memory");
}
"""


@dataclass(frozen=True)
class Wide:
    """Warpgroups of a block, each with 64 queries, and blocks that a multiprocessor shall have room for."""

    warpgroups: int
    resident: int

    @property
    def key(self) -> str:
        return f"wide{self.warpgroups}x{self.resident}"

    @classmethod
    def parsed(cls, key: str) -> Wide:
        return cls(*(int(text) for text in key.removeprefix("wide").split("x")))

    @property
    def rows(self) -> int:
        return 64 * self.warpgroups

    @property
    def threads(self) -> int:
        return 128 * self.warpgroups


def functions() -> str:
    """The instructions with their registers: scores = q k^T, result += p v."""
    scores = ", ".join(f"%{i}" for i in range(_KEYS // 2))
    kept = ", ".join(f'"+f"(d[{i}])' for i in range(_KEYS // 2))
    result = ", ".join(f"%{i}" for i in range(DEPTH // 2))
    added = ", ".join(f'"+f"(d[{i}])' for i in range(DEPTH // 2))
    n, r = _KEYS // 2, DEPTH // 2
    return f"""{INSTRUCTIONS}{SWAP}
template <int ADD> __device__ __forceinline__ void scored(float (&d)[{n}], descriptor_t a, descriptor_t b) {{
    asm volatile("{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{n + 2}, 0;\\n"
        "wgmma.mma_async.sync.aligned.m64n{_KEYS}k16.f32." NARROW "." NARROW " "
        "{{{scores}}}, %{n}, %{n + 1}, p, 1, 1, 0, 0;\\n}}"
        : {kept} : "l"(a), "l"(b), "n"(ADD));
}}
template <int ADD> __device__ __forceinline__ void weighed(float (&d)[{r}], const unsigned *a, descriptor_t b) {{
    asm volatile("{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{r + 5}, 0;\\n"
        "wgmma.mma_async.sync.aligned.m64n{DEPTH}k16.f32." NARROW "." NARROW " {{{result}}}, "
        "{{%{r}, %{r + 1}, %{r + 2}, %{r + 3}}}, %{r + 4}, p, 1, 1, 1;\\n}}"
        : {added} : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(ADD));
}}
"""


def body(a: Attention, wide: Wide, to: Quantizing | None) -> str:
    """What stands between the braces of the kernel."""
    return f"""{to.once if to else ""}{_start(a, wide)}
    for (int start = 0; start < {a.keys}; start += {_KEYS}) {{
        if (start) __syncthreads();
        else {{ {_copied("q", a.query, wide.rows, a.rows, f"blockIdx.x * {wide.rows}", wide)} }}
        {_copied("k", a.key, _KEYS, a.keys, "start", wide, f"({_KEY})")}
        asm volatile("cp.async.commit_group;" ::: "memory");
        {_copied("v", a.value, _KEYS, a.keys, "start", wide, f"({_KEY})")}
        asm volatile("cp.async.commit_group;" ::: "memory");
        {_masks(a)}
        {_arrived(1)}
        {_scores(a)}
        {_softmax()}
        {_arrived(0)}
        {_results(a)}
    }}
    {stored_result(a, to)}"""


def _start(a: Attention, wide: Wide) -> str:
    zeros = f'_Pragma("unroll") for (int i = 0; i < {DEPTH // 2}; ++i) result[i] = 0.f;'
    return f"""
    __shared__ alignas(1024) unsigned char memory[{(wide.rows + 2 * _KEYS) * 2 * DEPTH}];
    const unsigned k_at = shared_at(memory), v_at = k_at + {_KEYS * 2 * DEPTH}, q_at = v_at + {_KEYS * 2 * DEPTH};
    const int t = threadIdx.x, wg = t / 128, warp = t / 32 % 4, lane = t % 32, g = lane / 4, l = lane % 4;
    const int row = blockIdx.x * {wide.rows} + wg * 64 + warp * 16 + g;
    const narrow_t *q = x{a.query.number} + {at(a.query)};
    const narrow_t *k = x{a.key.number} + {at(a.key)};
    const narrow_t *v = x{a.value.number} + {at(a.value)};
    float result[{DEPTH // 2}], most[2] = {{-infinity(), -infinity()}}, sum[2] = {{0.f, 0.f}};
    {zeros if a.keys > _KEYS else ""}"""


def _copied(name: str, operand: Operand, rows: int, most: int, first: str, wide: Wide, key: str = "r") -> str:
    return f"""_Pragma("unroll") for (int i = 0; i < {rows * 8 // wide.threads}; ++i) {{
            const int r = i * {wide.threads // 8} + t / 8, c = t % 8, at = {first} + {key};
            const narrow_t *from = at < {most} ? {name} + (long long)at * {operand.strides[2]} + c * 8 : {name};
            copy16({name}_at + r * {2 * DEPTH} + ((c ^ r % 8) << 4), from, at < {most});
        }}"""


def _masks(a: Attention) -> str:
    """What is added to the scores of eight keys, read at once where they lie so."""
    if a.mask is None:
        return ""
    m = a.mask
    whole = m.strides[3] == 1 and a.keys % 8 == 0 and not any(stride % 8 for stride in m.strides[:3])
    place = f"{at(m)} + (long long)r * {m.strides[2]} + (long long)column * {m.strides[3]}"
    one = f"column + j < {a.keys} ? from[(long long)j * {m.strides[3]}] : (narrow_t)0"
    each = f"for (int j = 0; j < 8; ++j) mask[q][h].e[j] = {one};"
    return f"""Vec<narrow_t, 8> mask[{_KEYS // 32}][2];
        _Pragma("unroll") for (int q = 0; q < {_KEYS // 32}; ++q) _Pragma("unroll") for (int h = 0; h < 2; ++h) {{
            const int r = row + h * 8, column = start + q * 32 + l * 8;
            const narrow_t *from = x{m.number} + {place};
            mask[q][h] = Vec<narrow_t, 8>{{}};
            if (r < {a.rows} && column < {a.keys}) {{ {"mask[q][h] = fetch<narrow_t, 8>(from);" if whole else each} }}
        }}"""


def _arrived(left: int) -> str:
    return (
        f'asm volatile("cp.async.wait_group {left};" ::: "memory"); '
        'asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); __syncthreads();'
    )


def _multiplied(products: str, sums: str) -> str:
    return f"""asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
        {products}
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
        settled({sums});"""


def _scores(a: Attention) -> str:
    """Scores, scaled and masked, and the largest of a row so far."""
    products = " ".join(f"scored<{int(s > 0)}>(scores, of_q + {2 * s}, of_k + {2 * s});" for s in range(DEPTH // 16))
    added = "s += to_float(mask[n / 4][i / 2].e[n % 4 * 2 + i % 2]);" if a.mask is not None else ""
    key = "start + n / 4 * 32 + l * 8 + n % 4 * 2 + i % 2"
    inside = "" if a.keys % _KEYS == 0 else f"s = {key} < {a.keys} ? s : -infinity();"
    return f"""float scores[{_KEYS // 2}];
        const descriptor_t of_q = described(q_at + wg * {64 * 2 * DEPTH}), of_k = described(k_at);
        {_multiplied(products, "scores")}
        float high[2] = {{most[0], most[1]}};
        _Pragma("unroll") for (int n = 0; n < {_KEYS // 8}; ++n) _Pragma("unroll") for (int i = 0; i < 4; ++i) {{
            float s = scores[4 * n + i] * {literal(a.factor)};
            {added} {inside}
            scores[4 * n + i] = s; high[i / 2] = larger(high[i / 2], s);
        }}"""


def _softmax() -> str:
    return f"""float scale[2];
        _Pragma("unroll") for (int h = 0; h < 2; ++h) {{
            high[h] = larger(high[h], __shfl_xor_sync(~0u, high[h], 1));
            high[h] = larger(high[h], __shfl_xor_sync(~0u, high[h], 2));
            const float base = high[h] == -infinity() ? 0.f : high[h];
            scale[h] = __expf(most[h] - base); sum[h] *= scale[h]; most[h] = high[h]; high[h] = base;
        }}
        unsigned p[{_KEYS // 4}];
        _Pragma("unroll") for (int n = 0; n < {_KEYS // 8}; ++n) {{
            _Pragma("unroll") for (int i = 0; i < 4; ++i) {{
                scores[4 * n + i] = __expf(scores[4 * n + i] - high[i / 2]); sum[i / 2] += scores[4 * n + i];
            }}
            p[2 * n] = pair(scores[4 * n], scores[4 * n + 1]);
            p[2 * n + 1] = pair(scores[4 * n + 2], scores[4 * n + 3]);
        }}"""


def _results(a: Attention) -> str:
    """Added to what earlier keys gave, which is scaled by how much less it counts now."""
    several = a.keys > _KEYS
    scaled = f'_Pragma("unroll") for (int i = 0; i < {DEPTH // 2}; ++i) result[i] *= scale[i / 2 % 2];'
    products = " ".join(
        f"weighed<{int(several or s > 0)}>(result, p + {4 * s}, of_v + {128 * s});" for s in range(_KEYS // 16)
    )
    return f"""const descriptor_t of_v = described(v_at);
        {scaled if several else ""}
        {_multiplied(products, "result")}"""


def stored_result(a: Attention, kept: Quantizing | None) -> str:
    """A quad exchanges pairs of columns, of 16 bits or of bytes, so that each thread stores 8."""
    two, eight = "pair(low, up)", "*(uint4 *)(out + to) = make_uint4(o[0], o[1], o[2], o[3]);"
    if kept is not None:
        two = f"{kept.bits('low')} | {kept.bits('up')} << 8"
        eight = "*(uint2 *)(out + to) = make_uint2(o[0] | o[1] << 16, o[2] | o[3] << 16);"
    exchanged = " ".join(f"swap(o[{a}], o[{b}], l & {distance}, {distance});" for a, b, distance in EXCHANGES)
    return f"""_Pragma("unroll") for (int h = 0; h < 2; ++h) {{
        sum[h] += __shfl_xor_sync(~0u, sum[h], 1); sum[h] += __shfl_xor_sync(~0u, sum[h], 2);
        const bool none = !(sum[h] > 0.f);
        const float inverse = 1.f / sum[h];
        _Pragma("unroll") for (int q = 0; q < {DEPTH // 32}; ++q) {{
            unsigned o[4];
            _Pragma("unroll") for (int j = 0; j < 4; ++j) {{
                const int s = 16 * q + 4 * j + 2 * h;
                float low = result[s] * inverse, up = result[s + 1] * inverse;
                if (none) low = up = {masked_nowhere(a)};
                o[j] = {two};
            }}
            {exchanged}
            const long long to = {at(a.result)} + (long long)(row + h * 8) * {a.result[2]} + q * 32 + l * 8;
            if (row + h * 8 < {a.rows}) {eight}
        }}
    }}"""
