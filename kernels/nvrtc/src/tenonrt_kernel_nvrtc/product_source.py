"""The source of a product: tiles are copied into swizzled shared memory ahead, and multiplied by wgmma.

NVIDIA, "PTX ISA", asynchronous warpgroup level matrix instructions: both operands have k innermost in rows of 128
bytes, whose 16-byte pieces are swizzled by the row's number. Threads that multiply also gather pixels; weights, which
are packed as they lie in shared memory, are copied in bulk by a warp of its own. Blocks of a cluster share k, and each
adds up a part of the tile from the shared memory of all; or they share weights, of which each copies a part to all.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from tenonrt.contracts import Problem

from tenonrt_kernel_nvrtc.pointwise import chain
from tenonrt_kernel_nvrtc.product_problem import Branch, Geometry, others
from tenonrt_kernel_nvrtc.product_tiles import DEPTH, Tile, blocks_of

_INSTRUCTIONS = r"""
typedef unsigned long long descriptor_t;
__device__ __forceinline__ unsigned shared_at(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }
__device__ __forceinline__ void copy16(unsigned to, const half_t *from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}
__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
__device__ __forceinline__ descriptor_t described(unsigned at) {
    return (descriptor_t)((at & 0x3ffff) >> 4) | (1ull << 16) | (64ull << 32) | (1ull << 62);
}
__device__ __forceinline__ void prepare(unsigned barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(barrier), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void expect(unsigned barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(barrier), "r"(bytes) : "memory");
}
__device__ __forceinline__ void await(unsigned barrier, unsigned parity) {
    unsigned passed;
    do asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
        : "=r"(passed) : "r"(barrier), "r"(parity) : "memory"); while (!passed);
}
__device__ __forceinline__ void arrive(unsigned barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(barrier) : "memory");
}
__device__ __forceinline__ void arrive_at(unsigned barrier, int rank) {
    asm volatile("{ .reg .b32 there; mapa.shared::cluster.u32 there, %0, %1;"
        " mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there]; }" :: "r"(barrier), "r"(rank) : "memory");
}
__device__ __forceinline__ void copy_bulk(unsigned to, const void *from, int bytes, unsigned barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
        :: "r"(to), "l"(from), "r"(bytes), "r"(barrier) : "memory");
}
__device__ __forceinline__ void copy_to_all(
    unsigned to, const void *from, int bytes, unsigned barrier, unsigned short mask
) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
        " [%0], [%1], %2, [%3], %4;" :: "r"(to), "l"(from), "r"(bytes), "r"(barrier), "h"(mask) : "memory");
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


def source(problem: Problem, parts: Sequence[Branch], g: Geometry, tile: Tile) -> str:
    """The instructions and the function ``kernel``."""
    images = problem.layer.kind == "Convolution"
    outputs = [f"half_t *out{k}" for k in range(len(parts))]
    inputs = [f"const half_t *x{i}" for i in problem.activations]
    pitches = [f"int out{k}_pitch" for k in range(len(parts))] + [f"int x{i}_pitch" for i in problem.activations]
    names = [*outputs, *inputs, "const half_t *weights", "const float *bias", *(pitches if images else ())]
    cluster = tile.split * tile.mates
    shape = f"__cluster_dims__({cluster}, 1, 1) " if cluster > 1 else ""
    head = f'extern "C" __global__ void {shape}__launch_bounds__({tile.threads}) kernel({", ".join(names)})'
    columns = sum(part.columns for part in parts)
    image = f"x{problem.layer.inputs[0]}"
    body = "".join((
        "" if images else _pitches(problem, parts), _start(tile, g, columns), _weights(tile, columns),
        _pixels(g, tile, image), _main(tile), _finish(problem, parts, g, tile, columns),
    ))  # fmt: skip
    return f"{_INSTRUCTIONS}{_multiply(tile)}{head} {{{body}\n}}\n"


def _pitches(problem: Problem, parts: Sequence[Branch]) -> str:
    """Rows of fully connected layers follow each other."""
    sizes = {f"out{k}": part.columns for k, part in enumerate(parts)}
    sizes |= {f"x{i}": problem.types[i].concrete({})[-1] for i in problem.activations}
    return "".join(f"const int {name}_pitch = {size}; " for name, size in sizes.items())


def _multiply(tile: Tile) -> str:
    """wgmma of 64 rows and a tile's columns, 16 elements of k; a barrier of the threads that multiply."""
    columns, count = tile.columns, tile.columns // 2
    places = ", ".join(f"%{i}" for i in range(count))
    sums = ", ".join(f'"+f"(d[{i}])' for i in range(count))
    return f"""
__device__ __forceinline__ void multiply(float (&d)[{count}], descriptor_t a, descriptor_t b) {{
    asm volatile("wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.f16.f16 "
        "{{{places}}}, %{count}, %{count + 1}, 1, 1, 1, 0, 0;" : {sums} : "l"(a), "l"(b));
}}
__device__ __forceinline__ void meet() {{ asm volatile("bar.sync 1, {tile.working};" ::: "memory"); }}
"""


def _start(tile: Tile, g: Geometry, columns: int) -> str:
    """Which tile and blocks of k; barriers of stages that are filled, and that have been read."""
    blocks, across = blocks_of(g), -(-columns // tile.columns)
    cluster, warps = tile.split * tile.mates, tile.working // 32
    return f"""
    extern __shared__ unsigned char raw[];
    asm volatile("griddepcontrol.launch_dependents;");
    const unsigned base = (shared_at(raw) + 1023) & ~1023u;
    const unsigned full = base + {tile.tiles_bytes}, empty = full + {8 * tile.stages};
    const int t = threadIdx.x, rank = blockIdx.x % {cluster}, tile = blockIdx.x / {cluster};
    const int n0 = tile % {across} * {tile.columns};
    const int m0 = {f"(tile / {across} * {tile.mates} + rank)" if tile.mates > 1 else f"tile / {across}"} * {tile.rows};
    const int share = {"rank" if tile.split > 1 else "0"};
    const int first = {blocks} * share / {tile.split}, count = {blocks} * (share + 1) / {tile.split} - first;
    if (t == 0) {{
        for (int s = 0; s < {tile.stages}; ++s) {{ prepare(full + 8 * s, 1); prepare(empty + 8 * s, {warps * tile.mates}); }}
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }}
    {"cluster_sync();" if tile.mates > 1 else "__syncthreads();"}"""


def _weights(tile: Tile, columns: int) -> str:
    """One thread copies weights, which nobody writes: it does not wait for the kernels before this one."""
    part = tile.columns // tile.mates
    if tile.mates > 1:
        issue = (
            f"const int own = min(max({columns} - n0 - rank * {part}, 0), {part}) * 128;"
            f" if (own) copy_to_all(to + rank * {part * 128}, from + rank * {part * 64}, own, full + 8 * stage,"
            f" {(1 << tile.mates) - 1});"
        )
    else:
        issue = "copy_bulk(to, from, bytes, full + 8 * stage);"
    syncs = "cluster_sync(); " * (2 if tile.split > 1 else 1 if tile.mates > 1 else 0)
    return f"""
    if (t >= {tile.working}) {{
        if (t == {tile.working}) {{
            const int bytes = min({tile.columns}, {columns} - n0) * 128;
            for (int block = 0, stage = 0, parity = 1; block < count; ++block) {{
                if (block >= {tile.stages}) await(empty + 8 * stage, parity);
                const half_t *from = weights + ((long long)(first + block) * {columns} + n0) * 64;
                const unsigned to = base + stage * {tile.stage_bytes} + {tile.rows * 128};
                expect(full + 8 * stage, bytes);
                {issue}
                if (++stage == {tile.stages}) {{ stage = 0; parity ^= 1; }}
            }}
        }}
        __syncwarp();
        {syncs}
        return;
    }}"""


def _pixels(g: Geometry, tile: Tile, image: str) -> str:
    """Which pixels a thread gathers, and the copies of a block of k."""
    step = tile.working // 8
    each, inner = tile.rows // step, -(-g.channels // DEPTH)
    inside = "" if g.channels == inner * DEPTH else f" && channel < {g.channels}"
    r, c = g.rows, g.columns
    if g.whole:
        arrays, place = f"int pixel[{each}];", "pixel[i] = m;"
        bounds, shift = f"pixel[i] < {g.m}", ""
    else:
        plane = r.positions * c.positions
        arrays = f"int pixel[{each}], y[{each}], x[{each}];"
        place = (
            f"const int n = m / {plane}, p = m % {plane} / {c.positions}, q = m % {c.positions};"
            f" y[i] = m < {g.m} ? p * {r.stride} - {r.before} : -(1 << 24); x[i] = q * {c.stride} - {c.before};"
            f" pixel[i] = (n * {r.size} + p * {r.stride} - {r.before}) * {c.size} + x[i];"
        )
        bounds = f"(unsigned)(y[i] + dy) < {r.size}u && (unsigned)(x[i] + dx) < {c.size}u"
        shift = f" + dy * {c.size} + dx"
    return f"""
    const int piece = t % 8 * 8, row0 = t / 8;
    const unsigned lands = base + row0 * 128 + ((t % 8 ^ row0 % 8) << 4);
    {arrays}
    _Pragma("unroll") for (int i = 0; i < {each}; ++i) {{ const int m = m0 + row0 + i * {step}; {place} }}
    auto load_pixels = [&](int block, int stage) {{
        const int tap = block / {inner}, channel = (block - tap * {inner}) * {DEPTH} + piece;
        const int dy = tap / {c.window} * {r.dilation}, dx = tap % {c.window} * {c.dilation};
        _Pragma("unroll") for (int i = 0; i < {each}; ++i) {{
            const bool there = {bounds}{inside};
            const half_t *from = {image} + (long long)(pixel[i]{shift}) * {image}_pitch + channel;
            copy16(lands + stage * {tile.stage_bytes} + i * {step * 128}, there ? from : {image}, there);
        }}
    }};"""


def _main(tile: Tile) -> str:
    """A stage's pixels are overwritten two blocks after they were read: by then every warpgroup is done with them."""
    ahead = tile.stages - 2
    if tile.mates > 1:
        read = f"if (t % 32 < {tile.mates}) arrive_at(empty + 8 * before, t % 32);"
    else:
        read = "if (t % 32 == 0) arrive(empty + 8 * before);"
    return f"""
    asm volatile("griddepcontrol.wait;" ::: "memory");
    _Pragma("unroll") for (int s = 0; s < {ahead}; ++s) {{ if (s < count) load_pixels(first + s, s); commit(); }}
    float sums[{tile.columns // 2}];
    _Pragma("unroll") for (int i = 0; i < {tile.columns // 2}; ++i) sums[i] = 0.f;
    int stage = 0, filled = {ahead}, before = 0; unsigned parity = 0;
    for (int block = 0; block < count; ++block) {{
        asm volatile("cp.async.wait_group {ahead - 1};" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        meet();
        await(full + 8 * stage, parity);
        const unsigned at = base + stage * {tile.stage_bytes};
        const descriptor_t a = described(at + t / 128 * 8192), b = described(at + {tile.rows * 128});
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
        _Pragma("unroll") for (int k = 0; k < 4; ++k) multiply(sums, a + 2 * k, b + 2 * k);
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        if (block + {ahead} < count) load_pixels(first + block + {ahead}, filled);
        commit();
        asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
        if (block) {{ {read} }}
        before = stage; filled = filled == {tile.stages - 1} ? 0 : filled + 1;
        if (++stage == {tile.stages}) {{ stage = 0; parity ^= 1; }}
    }}
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    asm volatile("cp.async.wait_all;" ::: "memory");
    meet();"""


def _finish(problem: Problem, parts: Sequence[Branch], g: Geometry, tile: Tile, columns: int) -> str:
    """Sums go through shared memory, so that a thread has 8 columns of a row; then what follows, and the result."""
    across, pitch = tile.columns // 8, tile.pitch
    peers = "".join(f"add_peer(v, at, {k}); " for k in range(tile.split))
    own = "for (int j = 0; j < 8; ++j) v[j] += part[row * %d + col + j];" % pitch
    together = "cluster_sync();" if tile.split > 1 else "meet();"
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
    for (int i = share * {tile.working} + t; i < {tile.rows * across}; i += {tile.split * tile.working}) {{
        const int row = i / {across}, col = i % {across} * 8, m = m0 + row, n = n0 + col;
        if (m >= {g.m} || n >= {columns}) continue;
        float v[8];
        _Pragma("unroll") for (int j = 0; j < 8; ++j) v[j] = bias[n + j];
        {f"const unsigned at = base + 4 * (row * {pitch} + col); {peers}" if tile.split > 1 else own}
        {written}
    }}
    {"cluster_sync();" if tile.split * tile.mates > 1 else ""}"""


def _stored(problem: Problem, part: Branch, k: int) -> str:
    """A branch's tail on 8 elements v of row m, columns n, and their place."""
    read = others(problem, part)
    column = f"(n - {part.first})" if part.first else "n"
    loads = "".join(f"const auto p{i} = fetch<half_t, 8>(x{i} + (long long)m * x{i}_pitch + {column}); " for i in read)
    reads = "".join(f"const float x{i}_v = to_float(p{i}.e[j]); " for i in read)
    first = part.anchor.outputs[0]
    tail = msgspec.structs.replace(problem, layers=part.tail, outputs=(part.result,))
    large = frozenset(i for i in problem.constants if problem.inputs[i].value is None)
    names = {f"x{first}": f"y{first}", **{f"x{i}": f"x{i}_v" for i in read}}
    lines, value = chain(tail, names, skip=large)
    return (
        f"{loads}Vec<half_t, 8> o; _Pragma(\"unroll\") for (int j = 0; j < 8; ++j) {{ {reads}const float y{first} = v[j]; "
        f"{' '.join(lines)} o.e[j] = to_half({value}); }} put(out{k} + (long long)m * out{k}_pitch + {column}, o);"
    )
