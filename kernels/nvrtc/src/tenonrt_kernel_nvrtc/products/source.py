"""The source of a product: tiles are copied into swizzled shared memory ahead, and multiplied by wgmma.

NVIDIA, "PTX ISA", asynchronous warpgroup level matrix instructions: both operands have k innermost in rows of 128
bytes, whose 16-byte pieces are swizzled by the row's number. Blocks of a cluster share k; each adds up a part of the
tile from the shared memory of all.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from tenonrt.contracts import Problem

from tenonrt_kernel_nvrtc.expressions import QUICK
from tenonrt_kernel_nvrtc.pointwise import chain
from tenonrt_kernel_nvrtc.products.problem import Branch, Geometry, others
from tenonrt_kernel_nvrtc.products.tiles import DEPTH, Tile, blocks_of

_INSTRUCTIONS = r"""
typedef unsigned long long descriptor_t;
__device__ __forceinline__ unsigned shared_at(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }
__device__ __forceinline__ void copy16(unsigned to, const narrow_t *from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}
__device__ __forceinline__ unsigned times(unsigned a, unsigned b) {
    unsigned r; asm("mul.rn." NARROW "x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b)); return r;
}
__device__ __forceinline__ void scale16(unsigned at, uint4 by) {
    unsigned a, b, c, d;
    asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(a), "=r"(b), "=r"(c), "=r"(d) : "r"(at) : "memory");
    asm volatile("st.shared.v4.u32 [%0], {%1,%2,%3,%4};"
        :: "r"(at), "r"(times(a, by.x)), "r"(times(b, by.y)), "r"(times(c, by.z)), "r"(times(d, by.w)) : "memory");
}
__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
__device__ __forceinline__ descriptor_t described(unsigned at) {
    return (descriptor_t)((at & 0x3ffff) >> 4) | (1ull << 16) | (64ull << 32) | (1ull << 62);
}
__device__ __forceinline__ void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release.aligned;\n barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ __forceinline__ void add_peer(float (&v)[8], unsigned at, int rank) {
    unsigned there; float a, b, c, d;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(at), "r"(rank));
    asm volatile("ld.shared::cluster.v4.f32 {%0,%1,%2,%3}, [%4];" : "=f"(a), "=f"(b), "=f"(c), "=f"(d) : "r"(there));
    v[0] += a; v[1] += b; v[2] += c; v[3] += d;
    asm volatile("ld.shared::cluster.v4.f32 {%0,%1,%2,%3}, [%4+16];" : "=f"(a), "=f"(b), "=f"(c), "=f"(d) : "r"(there));
    v[4] += a; v[5] += b; v[6] += c; v[7] += d;
}
"""


def source(problem: Problem, parts: Sequence[Branch], g: Geometry, tile: Tile, factors: str = "") -> str:
    """The instructions and the function ``kernel``; ``factors``: see `scaling`."""
    images = problem.layer.kind == "Convolution"
    outputs = [f"narrow_t *out{k}" for k in range(len(parts))]
    inputs = [f"const narrow_t *x{i}" for i in problem.activations]
    pitches = [f"int out{k}_pitch" for k in range(len(parts))] + [f"int x{i}_pitch" for i in problem.activations]
    names = [*outputs, *inputs, "const narrow_t *weights", "const float *bias", *(pitches if images else ())]
    cluster = f"__cluster_dims__({tile.split}, 1, 1) " if tile.split > 1 else ""
    head = f'extern "C" __global__ void {cluster}__launch_bounds__({tile.threads}) kernel({", ".join(names)})'
    columns = sum(part.columns for part in parts)
    fixed = "" if images else "".join(
        f"const int {name}_pitch = {size};"
        for name, size in ([(f"out{k}", part.columns) for k, part in enumerate(parts)]
                           + [(f"x{i}", problem.types[i].concrete({})[-1]) for i in problem.activations])
    )  # fmt: skip
    loads = _loads(g, columns, tile, f"x{problem.layer.inputs[0]}") + (scaling(g, tile, factors) if factors else "")
    body = f"{fixed}{_start(tile, g, columns)}{loads}{_main(tile, g, bool(factors))}"
    return f"{_INSTRUCTIONS}{_multiply(tile.columns)}{head} {{{body}{_finish(problem, parts, g, tile, columns)}\n}}\n"


def _multiply(columns: int) -> str:
    """wgmma of 64 rows and so many columns, 16 elements of k."""
    count = columns // 2
    places = ", ".join(f"%{i}" for i in range(count))
    sums = ", ".join(f'"+f"(d[{i}])' for i in range(count))
    return f"""
__device__ __forceinline__ void multiply(float (&d)[{count}], descriptor_t a, descriptor_t b) {{
    asm volatile("wgmma.mma_async.sync.aligned.m64n{columns}k16.f32." NARROW "." NARROW " "
        "{{{places}}}, %{count}, %{count + 1}, 1, 1, 1, 0, 0;" : {sums} : "l"(a), "l"(b));
}}
"""


def _start(tile: Tile, g: Geometry, columns: int) -> str:
    blocks = blocks_of(g)
    across = -(-columns // tile.columns)
    return f"""
    extern __shared__ unsigned char raw[];
    asm volatile("griddepcontrol.launch_dependents;");
    const unsigned base = (shared_at(raw) + 1023) & ~1023u;
    const int t = threadIdx.x, rank = blockIdx.x % {tile.split}, tile = blockIdx.x / {tile.split};
    const int n0 = tile % {across} * {tile.columns}, m0 = tile / {across} * {tile.rows};
    const int first = {blocks} * rank / {tile.split}, count = {blocks} * (rank + 1) / {tile.split} - first;
    const int piece = t % 8 * 8, row0 = t / 8;
    const unsigned lands = base + row0 * 128 + ((t % 8 ^ row0 % 8) << 4);"""


def _loads(g: Geometry, columns: int, tile: Tile, image: str) -> str:
    """Which pixels a thread copies, and the copies of a block of k."""
    step = tile.threads // 8
    deep = blocks_of(g) * DEPTH
    inside = "" if g.taps * g.channels == deep else f" && k < {g.taps * g.channels}"
    r, c = g.rows, g.columns
    if g.whole:
        place, bounds = "pixel[i] = m;", f"pixel[i] < {g.m}"
        shift, arrays = "", f"int pixel[{tile.rows // step}];"
    else:
        plane = r.positions * c.positions
        place = (
            f"const int n = m / {plane}, p = m % {plane} / {c.positions}, q = m % {c.positions};"
            f" y[i] = m < {g.m} ? p * {r.stride} - {r.before} : -(1 << 24); x[i] = q * {c.stride} - {c.before};"
            f" pixel[i] = (n * {r.size} + p * {r.stride} - {r.before}) * {c.size} + x[i];"
        )
        bounds = f"(unsigned)(y[i] + dy) < {r.size}u && (unsigned)(x[i] + dx) < {c.size}u"
        shift = f" + dy * {c.size} + dx"
        arrays = f"int pixel[{tile.rows // step}], y[{tile.rows // step}], x[{tile.rows // step}];"
    # q of a row number: m % columns is right because a plane is whole rows.
    return f"""
    {arrays}
    _Pragma("unroll") for (int i = 0; i < {tile.rows // step}; ++i) {{ const int m = m0 + row0 + i * {step}; {place} }}
    const narrow_t *const from_weights = weights + (long long)(n0 + row0) * {deep} + piece;
    auto load_pixels = [&](int block, int stage) {{
        const int k = block * {DEPTH} + piece, tap = k / {g.channels}, channel = k - tap * {g.channels};
        const int dy = tap / {c.window} * {r.dilation}, dx = tap % {c.window} * {c.dilation};
        _Pragma("unroll") for (int i = 0; i < {tile.rows // step}; ++i) {{
            const bool there = {bounds}{inside};
            const narrow_t *from = {image} + (long long)(pixel[i]{shift}) * {image}_pitch + channel;
            copy16(lands + stage * {tile.stage_bytes} + i * {step * 128}, there ? from : {image}, there);
        }}
    }};
    auto load_weights = [&](int block, int stage) {{
        _Pragma("unroll") for (int i = 0; i < {-(-tile.columns // step)}; ++i) {{
            {"" if tile.columns % step == 0 else f"if (row0 + i * {step} >= {tile.columns}) break;"}
            const bool there = n0 + row0 + i * {step} < {columns};
            const narrow_t *from = from_weights + (long long)i * {step * deep} + block * {DEPTH};
            const unsigned to = lands + stage * {tile.stage_bytes} + {tile.rows * 128} + i * {step * 128};
            copy16(to, there ? from : weights, there);
        }}
    }};"""


def scaling(g: Geometry, tile: Tile, factors: str) -> str:
    """Reads a block's factors [images, channels] for the pixels that a thread copies, and scales what it has copied.

    Both are halves, and so is what a layer that scales by itself would store.
    """
    step, plane = tile.threads // 8, g.rows.positions * g.columns.positions
    rows = f'_Pragma("unroll") for (int i = 0; i < {tile.rows // step}; ++i)'
    return f"""
    uint4 factor[{tile.rows // step}];
    auto load_factors = [&](int block) {{
        const int channel = block * {DEPTH} + piece;
        {rows} {{
            const bool there = pixel[i] < {g.m} && channel < {g.channels};
            const narrow_t *from = {factors} + (long long)(pixel[i] / {plane}) * {g.channels} + channel;
            factor[i] = there ? *(const uint4 *)from : make_uint4(0, 0, 0, 0);
        }}
    }};
    auto scale = [&](int stage) {{
        {rows} scale16(lands + stage * {tile.stage_bytes} + i * {step * 128}, factor[i]);
    }};"""


def _main(tile: Tile, g: Geometry, scaled: bool) -> str:
    """Weights, which nobody writes, are on their way before the results of earlier kernels are waited for.

    A stage is filled two blocks after it was read: by then every warpgroup has seen that its products have ended.
    """
    ahead = tile.stages - 2
    return f"""
    _Pragma("unroll") for (int s = 0; s < {ahead}; ++s) if (s < count) load_weights(first + s, s);
    asm volatile("griddepcontrol.wait;" ::: "memory");
    _Pragma("unroll") for (int s = 0; s < {ahead}; ++s) {{ if (s < count) load_pixels(first + s, s); commit(); }}
    {"load_factors(first);" if scaled else ""}
    float sums[{tile.columns // 2}];
    _Pragma("unroll") for (int i = 0; i < {tile.columns // 2}; ++i) sums[i] = 0.f;
    int stage = 0, filled = {ahead};
    for (int block = 0; block < count; ++block) {{
        asm volatile("cp.async.wait_group {ahead - 1};" ::: "memory");
        {"scale(stage); if (block + 1 < count) load_factors(first + block + 1);" if scaled else ""}
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        __syncthreads();
        const unsigned at = base + stage * {tile.stage_bytes};
        const descriptor_t a = described(at + t / 128 * 8192), b = described(at + {tile.rows * 128});
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
        _Pragma("unroll") for (int k = 0; k < 4; ++k) multiply(sums, a + 2 * k, b + 2 * k);
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        if (block + {ahead} < count) {{
            load_weights(first + block + {ahead}, filled); load_pixels(first + block + {ahead}, filled);
        }}
        commit();
        asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
        stage = stage == {tile.stages - 1} ? 0 : stage + 1; filled = filled == {tile.stages - 1} ? 0 : filled + 1;
    }}
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();"""


def _finish(problem: Problem, parts: Sequence[Branch], g: Geometry, tile: Tile, columns: int) -> str:
    """Sums go through shared memory, so that a thread has 8 columns of a row; then what follows, and the result."""
    across, pitch = tile.columns // 8, tile.pitch
    peers = "".join(f"add_peer(v, at, {k}); " for k in range(tile.split))
    own = f"for (int j = 0; j < 8; ++j) v[j] += part[row * {pitch} + col + j];"
    together = "cluster_sync();" if tile.split > 1 else "__syncthreads();"
    written = " else ".join(
        (f"if (n < {part.first + part.columns}) " if k < len(parts) - 1 else "") + f"{{ {_stored(problem, part, k)} }}"
        for k, part in enumerate(parts)
    )
    return f"""
    float *const part = (float *)(raw + (base - shared_at(raw)));
    {{
        const int row = t / 32 * 16 + t % 32 / 4, col = t % 4 * 2;
        _Pragma("unroll") for (int j = 0; j < {across}; ++j) {{
            *(float2 *)(part + row * {pitch} + j * 8 + col) = make_float2(sums[4 * j], sums[4 * j + 1]);
            *(float2 *)(part + (row + 8) * {pitch} + j * 8 + col) = make_float2(sums[4 * j + 2], sums[4 * j + 3]);
        }}
    }}
    {together}
    for (int i = rank * {tile.threads} + t; i < {tile.rows * across}; i += {tile.split * tile.threads}) {{
        const int row = i / {across}, col = i % {across} * 8, m = m0 + row, n = n0 + col;
        if (m >= {g.m} || n >= {columns}) continue;
        float v[8];
        _Pragma("unroll") for (int j = 0; j < 8; ++j) v[j] = bias[n + j];
        {f"const unsigned at = base + 4 * (row * {pitch} + col); {peers}" if tile.split > 1 else own}
        {written}
    }}
    {"cluster_sync();" if tile.split > 1 else ""}"""


def _stored(problem: Problem, part: Branch, k: int) -> str:
    """A branch's tail on 8 elements v of row m, columns n, and their place."""
    read = others(problem, part)
    column = f"(n - {part.first})" if part.first else "n"
    loads = "".join(
        f"const auto p{i} = fetch<narrow_t, 8>(x{i} + (long long)m * x{i}_pitch + {column}); " for i in read
    )
    reads = "".join(f"const float x{i}_v = to_float(p{i}.e[j]); " for i in read)
    first = part.anchor.outputs[0]
    tail = msgspec.structs.replace(problem, layers=part.tail, outputs=(part.result,))
    large = frozenset(i for i in problem.constants if problem.inputs[i].value is None)
    names = {f"x{first}": f"y{first}", **{f"x{i}": f"x{i}_v" for i in read}}
    lines, value = chain(tail, names, skip=large, instead=QUICK)
    each = f"{reads}const float y{first} = v[j]; {' '.join(lines)} o.e[j] = to_narrow({value});"
    place = f"out{k} + (long long)m * out{k}_pitch + {column}"
    return f'{loads}Vec<narrow_t, 8> o; _Pragma("unroll") for (int j = 0; j < 8; ++j) {{ {each} }} put({place}, o);'
