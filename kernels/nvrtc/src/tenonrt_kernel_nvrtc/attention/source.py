"""The source of attention: keys and values are copied into shared memory, scores and results stay in registers.

A block has ``rows`` times ``parts`` warps: a warp has 16 queries and one of ``parts`` shares of the keys of a tile, and
what the shares found is put together at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tenonrt_kernel_nvrtc.attention.graph import Attention, Operand
from tenonrt_kernel_nvrtc.expressions import literal
from tenonrt_kernel_nvrtc.quantizing import Quantizing

INSTRUCTIONS = r"""
__device__ __forceinline__ void multiply_add(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32." NARROW "." NARROW ".f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ unsigned pair(float low, float high) {
    unsigned r; asm("cvt.rn." NARROW "x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low)); return r;
}
__device__ __forceinline__ void copy16(const narrow_t *to, const narrow_t *from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"((unsigned)__cvta_generic_to_shared(to)),
        "l"(from), "r"(there ? 16 : 0) : "memory");
}
__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
__device__ __forceinline__ void columns(unsigned &b0, unsigned &b1, const narrow_t *p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];" : "=r"(b0), "=r"(b1)
        : "r"((unsigned)__cvta_generic_to_shared(p)));
}
"""


@dataclass(frozen=True)
class Shape:
    """How a block is divided: warps along the queries, shares of the keys, keys of a tile."""

    rows: int
    parts: int
    tile: int

    @classmethod
    def parsed(cls, key: str) -> Shape:
        return cls(*(int(text) for text in key.split("x")))

    @property
    def key(self) -> str:
        return f"{self.rows}x{self.parts}x{self.tile}"

    @property
    def threads(self) -> int:
        return 32 * self.rows * self.parts

    def shared(self, depth: int) -> int:
        """Bytes of keys and values."""
        return 4 * self.tile * (depth + 8)

    def merging(self, depth: int) -> int:
        """Bytes for what the shares found, which takes the place of keys and values."""
        return 4 * self.parts * self.rows * 16 * (depth + 4) if self.parts > 1 else 0


def body(a: Attention, shape: Shape, to: Quantizing | None) -> str:
    """What stands between the braces of the kernel."""
    return f"""{to.once if to else ""}{_start(a, shape)}
    for (int start = 0; start < {a.keys}; start += {shape.tile}) {{
        if (start) __syncthreads();
        {_copies(a, shape)}
        if (!start) {{ {_queries(a)} }}
        {_masks(a, shape)}
        asm volatile("cp.async.wait_group 1;" ::: "memory"); __syncthreads();
        {_scores(a, shape)}
        {_softmax(shape)}
        asm volatile("cp.async.wait_group 0;" ::: "memory"); __syncthreads();
        {_results(a, shape)}
    }}
    for (int h = 0; h < 2; ++h) {{
        sum[h] += __shfl_xor_sync(~0u, sum[h], 1); sum[h] += __shfl_xor_sync(~0u, sum[h], 2);
    }}
    {_merged(a, shape, to) if shape.parts > 1 else _stored(a, to)}"""


def at(operand: Operand | Sequence[int]) -> str:
    """Where the block's head begins in an operand."""
    strides = operand.strides if isinstance(operand, Operand) else operand
    return f"(long long)blockIdx.z * {strides[0]} + (long long)blockIdx.y * {strides[1]}"


def _start(a: Attention, shape: Shape) -> str:
    pitch = a.depth + 8
    return f"""
    __shared__ alignas(16) narrow_t memory[{2 * shape.tile * pitch}];
    narrow_t *const keys = memory, *const values = memory + {shape.tile * pitch};
    const int warp = threadIdx.x / 32, share = warp / {shape.rows}, lane = threadIdx.x % 32, g = lane / 4, l = lane % 4;
    const int own = warp % {shape.rows} * 16 + g, row = blockIdx.x * {16 * shape.rows} + own;
    const narrow_t *q = x{a.query.number} + {at(a.query)};
    const narrow_t *k = x{a.key.number} + {at(a.key)};
    const narrow_t *v = x{a.value.number} + {at(a.value)};
    unsigned fragments[{a.depth // 16}][4];
    float result[{a.depth // 8}][4] = {{}}, most[2] = {{-infinity(), -infinity()}}, sum[2] = {{0.f, 0.f}};"""


def _copies(a: Attention, shape: Shape) -> str:
    """Keys, then values: scores are computed while values are on their way."""
    pieces, pitch = a.depth // 8, a.depth + 8

    def copied(name: str, operand: Operand) -> str:
        return f"""for (int t = threadIdx.x; t < {shape.tile * pieces}; t += {shape.threads}) {{
            const int r = t / {pieces}, c = t % {pieces} * 8; const bool there = start + r < {a.keys};
            const narrow_t *from = there ? {name[0]} + (long long)(start + r) * {operand.strides[2]} + c : {name[0]};
            copy16({name} + r * {pitch} + c, from, there);
        }} commit();"""

    return f"{copied('keys', a.key)} {copied('values', a.value)}"


def _queries(a: Attention) -> str:
    return f"""for (int s = 0; s < {a.depth // 16}; ++s) for (int i = 0; i < 4; ++i) {{
            const int r = row + (i % 2) * 8, c = s * 16 + l * 2 + (i / 2) * 8;
            fragments[s][i] = r < {a.rows} ? *(const unsigned *)(q + (long long)r * {a.query.strides[2]} + c) : 0u;
        }}"""


def _masks(a: Attention, shape: Shape) -> str:
    """What is added to the scores, two columns at once where they lie so."""
    if a.mask is None:
        return ""
    m, tiles = a.mask, shape.tile // 8 // shape.parts
    place = f"{at(m)} + (long long)r * {m.strides[2]} + (long long)column * {m.strides[3]}"
    inside = f"r < {a.rows} && column < {a.keys}"
    if m.strides[3] == 1 and a.keys % 2 == 0 and not any(stride % 2 for stride in m.strides[:3]):
        read = f"{inside} ? *(const unsigned *)(x{m.number} + {place}) : 0u"
    else:
        second = f"column + 1 < {a.keys} ? x{m.number}[{place} + {m.strides[3]}] : 0"
        read = f"{inside} ? x{m.number}[{place}] | (unsigned)({second}) << 16 : 0u"
    return f"""unsigned mask[{tiles}][2];
        _Pragma("unroll") for (int n = 0; n < {tiles}; ++n) for (int h = 0; h < 2; ++h) {{
            const int r = row + h * 8, column = start + share * {shape.tile // shape.parts} + n * 8 + l * 2;
            mask[n][h] = {read};
        }}"""


def _scores(a: Attention, shape: Shape) -> str:
    tiles, steps, pitch, width = shape.tile // 8 // shape.parts, a.depth // 16, a.depth + 8, shape.tile // shape.parts
    added = "s += to_float((narrow_t)(mask[n][i / 2] >> i % 2 * 16));" if a.mask is not None else ""
    return f"""float scores[{tiles}][4] = {{}};
        _Pragma("unroll") for (int s = 0; s < {steps}; ++s) _Pragma("unroll") for (int n = 0; n < {tiles}; ++n) {{
            const narrow_t *p = keys + (share * {width} + n * 8 + g) * {pitch} + s * 16 + l * 2;
            multiply_add(scores[n], fragments[s], *(const unsigned *)p, *(const unsigned *)(p + 8));
        }}
        float high[2] = {{most[0], most[1]}};
        _Pragma("unroll") for (int n = 0; n < {tiles}; ++n) _Pragma("unroll") for (int i = 0; i < 4; ++i) {{
            const int column = start + share * {width} + n * 8 + l * 2 + i % 2;
            float s = scores[n][i] * {literal(a.factor)};
            {added}
            s = column < {a.keys} ? s : -infinity();
            scores[n][i] = s; high[i / 2] = larger(high[i / 2], s);
        }}"""


def _softmax(shape: Shape) -> str:
    tiles = shape.tile // 8 // shape.parts
    return f"""float scale[2];
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
        }}"""


def _results(a: Attention, shape: Shape) -> str:
    steps, pitch, width = shape.tile // 16 // shape.parts, a.depth + 8, shape.tile // shape.parts
    return f"""_Pragma("unroll") for (int d = 0; d < {a.depth // 8}; ++d)
            for (int i = 0; i < 4; ++i) result[d][i] *= scale[i / 2];
        _Pragma("unroll") for (int s = 0; s < {steps}; ++s) {{
            const unsigned f[4] = {{p[2 * s][0], p[2 * s][1], p[2 * s + 1][0], p[2 * s + 1][1]}};
            unsigned b[{a.depth // 8}][2];
            _Pragma("unroll") for (int d = 0; d < {a.depth // 8}; ++d)
                columns(b[d][0], b[d][1], values + (share * {width} + s * 16 + lane % 16) * {pitch} + d * 8);
            _Pragma("unroll") for (int d = 0; d < {a.depth // 8}; ++d) multiply_add(result[d], f, b[d][0], b[d][1]);
        }}"""


def masked_nowhere(a: Attention) -> str:
    """What a row is in which every key is masked."""
    return "0.f" if a.guarded else "__int_as_float(0x7fc00000)"


def _stored(a: Attention, kept: Quantizing | None) -> str:
    two = "*(unsigned *)(out + to) = pair(low, up);"
    if kept is not None:
        two = f"put(out + to, Vec<{kept.ctype}, 2>{{{{{kept.element('low')}, {kept.element('up')}}}}});"
    return f"""for (int h = 0; h < 2; ++h) {{
        const bool none = !(sum[h] > 0.f);
        const float inverse = 1.f / sum[h];
        if (row + h * 8 < {a.rows}) for (int d = 0; d < {a.depth // 8}; ++d) {{
            float low = result[d][2 * h] * inverse, up = result[d][2 * h + 1] * inverse;
            if (none) low = up = {masked_nowhere(a)};
            const long long to = {at(a.result)} + (long long)(row + h * 8) * {a.result[2]} + d * 8 + l * 2;
            {two}
        }}
    }}"""


def _merged(a: Attention, shape: Shape, kept: Quantizing | None) -> str:
    """The shares' results by their maxima: rows of depth elements, the maximum and the sum."""
    value = f"total > 0.f ? e[j] / total : {masked_nowhere(a)}"
    ctype, value = ("narrow_t", f"to_narrow({value})") if kept is None else (kept.ctype, kept.element(value))
    pitch, rows, pieces = a.depth + 4, 16 * shape.rows, a.depth // 8
    return f"""float *const found = (float *)memory;
    __syncthreads();
    for (int h = 0; h < 2; ++h) {{
        float *to = found + (share * {rows} + own + h * 8) * {pitch};
        for (int d = 0; d < {pieces}; ++d) {{
            to[d * 8 + l * 2] = result[d][2 * h]; to[d * 8 + l * 2 + 1] = result[d][2 * h + 1];
        }}
        if (l == 0) {{ to[{a.depth}] = most[h]; to[{a.depth + 1}] = sum[h]; }}
    }}
    __syncthreads();
    for (int t = threadIdx.x; t < {rows * pieces}; t += {shape.threads}) {{
        const int r = t / {pieces}, c = t % {pieces} * 8;
        if (blockIdx.x * {rows} + r >= {a.rows}) continue;
        float high = -infinity(), total = 0.f, e[8] = {{}};
        for (int s = 0; s < {shape.parts}; ++s) high = larger(high, found[(s * {rows} + r) * {pitch} + {a.depth}]);
        const float base = high == -infinity() ? 0.f : high;
        for (int s = 0; s < {shape.parts}; ++s) {{
            const float *from = found + (s * {rows} + r) * {pitch};
            const float weight = __expf(from[{a.depth}] - base);
            total += weight * from[{a.depth + 1}];
            for (int j = 0; j < 8; ++j) e[j] += weight * from[c + j];
        }}
        Vec<{ctype}, 8> o;
        for (int j = 0; j < 8; ++j) o.e[j] = {value};
        put(out + {at(a.result)} + (long long)(blockIdx.x * {rows} + r) * {a.result[2]} + c, o);
    }}"""
