"""The source of a product whose tiles are copied by tensor maps: a warp copies, warpgroups multiply.

NVIDIA, "PTX ISA": cp.async.bulk.tensor, mbarrier, asynchronous warpgroup level matrix instructions. Each stage of
shared memory has two barriers: one completes when its bytes are there, the other when all who read it are done. A
block copies its share of the tiles that blocks of its cluster have in common, to all of them at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt.contracts import Problem, ProblemLayer

from tenonrt_kernel_nvrtc.mapped_finish import Finish
from tenonrt_kernel_nvrtc.mapped_tiles import DEPTH, Tile
from tenonrt_kernel_nvrtc.product_problem import Branch, Geometry

_INSTRUCTIONS = r"""
typedef unsigned long long descriptor_t;
struct alignas(64) TensorMap { unsigned char bytes[128]; };
__device__ __forceinline__ unsigned shared_at(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }
__device__ __forceinline__ descriptor_t described(unsigned at) {
    return (descriptor_t)((at & 0x3ffff) >> 4) | (1ull << 16) | (64ull << 32) | (1ull << 62);
}
__device__ __forceinline__ unsigned in_block(unsigned at, int rank) {
    unsigned there; asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(at), "r"(rank));
    return there;
}
__device__ __forceinline__ void set_up(unsigned barrier, int count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(barrier), "r"(count) : "memory");
}
__device__ __forceinline__ void expect(unsigned barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(barrier), "r"(bytes) : "memory");
}
__device__ __forceinline__ void arrive(unsigned barrier) {
    asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" :: "r"(barrier) : "memory");
}
__device__ __forceinline__ void await(unsigned barrier, int parity) {
    asm volatile("{\n.reg .pred p;\nAGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
        "@p bra DONE;\nbra AGAIN;\nDONE:\n}" :: "r"(barrier), "r"(parity) : "memory");
}
__device__ __forceinline__ void prefetch(const TensorMap &map) {
    asm volatile("prefetch.tensormap [%0];" :: "l"(&map) : "memory");
}
__device__ __forceinline__ void copy(unsigned to, const TensorMap &map, int k, int row, unsigned barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%2, %3}], [%4];" :: "r"(to), "l"(&map), "r"(k), "r"(row), "r"(barrier) : "memory");
}
__device__ __forceinline__ void copy(
    unsigned to, const TensorMap &map, int k, int row, unsigned barrier, unsigned short blocks) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
        "[%0], [%1, {%2, %3}], [%4], %5;"
        :: "r"(to), "l"(&map), "r"(k), "r"(row), "r"(barrier), "h"(blocks) : "memory");
}
template <int N> __device__ __forceinline__ void settled(float (&d)[N]) {
    _Pragma("unroll") for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d[i]) :: "memory");
}
"""
# Nothing but the barriers themselves has to be seen by other blocks: a release to the cluster would wait for memory,
# about 700 cycles, here as where stages are given back.
_CLUSTER_SYNC = 'asm volatile("barrier.cluster.arrive.relaxed.aligned;\\n barrier.cluster.wait.aligned;" ::: "memory");'
_WAIT = 'asm volatile("griddepcontrol.wait;" ::: "memory");'


def source(problem: Problem, parts: Sequence[Branch], g: Geometry, tile: Tile, norm: ProblemLayer | None) -> str:
    """The instructions and the function ``kernel``."""
    columns, blocks = sum(part.columns for part in parts), -(-g.channels // DEPTH)
    finish = Finish(problem, parts, g.m, columns, tile, norm)
    cluster = f"__cluster_dims__({tile.cluster}, 1, 1) " if tile.cluster > 1 else ""
    bounds = f"__launch_bounds__({tile.threads}, {tile.resident})"
    maps = "const __grid_constant__ TensorMap rows, const __grid_constant__ TensorMap matrix"
    head = f'extern "C" __global__ void {cluster}{bounds} kernel({maps}, {", ".join(finish.parameters())})'
    body = f"""{finish.pitches()}{_start(tile, g.m, columns, blocks, finish)}
    if (t >= {tile.consumers}) {{
        {_registers("dec", 40) if tile.trades else ""}
        if (t == {tile.consumers}) {{ {_producer(tile, blocks, finish)} }}
        __syncwarp();
    }} else {{
        {_registers("inc", 232) if tile.trades else ""}
        {_consumer(tile, blocks, finish)}
    }}"""
    return f"{_INSTRUCTIONS}{_multiply(tile.columns)}{finish.functions()}{head} {{{body}\n}}\n"


def _registers(change: str, count: int) -> str:
    return f'asm volatile("setmaxnreg.{change}.sync.aligned.u32 {count};");'


def _multiply(columns: int) -> str:
    """wgmma of 64 rows and so many columns, 16 elements of k; the first of a tile does not add to the sums."""
    count = columns // 2
    places = ", ".join(f"%{i}" for i in range(count))
    sums = ", ".join(f'"+f"(d[{i}])' for i in range(count))
    return f"""
__device__ __forceinline__ void multiply(float (&d)[{count}], descriptor_t a, descriptor_t b, int add) {{
    asm volatile("{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{count + 2}, 0;\\n"
        "wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.f16.f16 "
        "{{{places}}}, %{count}, %{count + 1}, p, 1, 1, 0, 0;\\n}}" : {sums} : "l"(a), "l"(b), "r"(add));
}}
"""


def _start(tile: Tile, m: int, columns: int, blocks: int, finish: Finish) -> str:
    """Where a block is in its cluster, and its barriers: full, empty, then two for what is known of rows.

    total: stages that the block fills and reads, one after the other.
    """
    readers = 4 * tile.warpgroups * (tile.down + tile.across - 1)
    down, across = tile.sizes(m, columns)
    turns = "set_up(turns, 4); set_up(turns + 8, 4);"
    told = f"for (int i = 0; i < {2 * tile.teams}; ++i) set_up(told + 8 * i, 1);"
    together = _CLUSTER_SYNC if tile.cluster > 1 else "__syncthreads();"
    return f"""
    extern __shared__ unsigned char raw[];
    asm volatile("griddepcontrol.launch_dependents;");
    const unsigned base = (shared_at(raw) + 1023) & ~1023u;
    const unsigned full = base + {tile.stages * tile.stage_bytes}, empty = full + {8 * tile.stages};
    const unsigned told = empty + {8 * tile.stages}, turns = told + 32, facts = full + 1024;
    const int t = threadIdx.x, rank = blockIdx.x % {tile.cluster}, down = rank / {tile.across};
    const int across = rank % {tile.across}, first = blockIdx.x / {tile.cluster}, step = gridDim.x / {tile.cluster};
    const int tiles = {down * across}, total = (tiles - first + step - 1) / step * {blocks};
    if (t == 0) {{
        for (int i = 0; i < {tile.stages}; ++i) {{ set_up(full + 8 * i, 1); set_up(empty + 8 * i, {readers}); }}
        {told if finish.normalizes else ""}
        {turns if tile.teams > 1 else ""}
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }}
    {together}
    auto row_of = [&](int tile) {{ return (tile / {across} * {tile.down} + down) * {tile.rows}; }};
    auto column_of = [&](int tile) {{ return (tile % {across} * {tile.across} + across) * {tile.columns}; }};"""


def _producer(tile: Tile, blocks: int, finish: Finish) -> str:
    """One thread copies. Weights, which nobody writes, are on their way before earlier kernels are waited for."""
    rows, columns = tile.rows // tile.across, tile.columns // tile.down
    of_rows = f", (unsigned short)({(1 << tile.across) - 1} << down * {tile.across})" if tile.across > 1 else ""
    column = sum(1 << i * tile.across for i in range(tile.down))
    of_columns = f", (unsigned short)({column} << across)" if tile.down > 1 else ""
    ahead = finish.ahead()
    if ahead:
        place = "const int m = row_of(first + at * step), n = column_of(first + at * step);"
        ahead = f"if (i % {blocks} == 0) {{ {place} {ahead} }}"
    return f"""
            prefetch(rows); prefetch(matrix);
            const int ahead = total < {tile.stages} ? total : {tile.stages};
            auto copy_rows = [&](int i, int stage) {{
                const int at = i / {blocks}, k = i % {blocks} * {DEPTH};
                {ahead}
                copy(base + stage * {tile.stage_bytes} + across * {rows * 2 * DEPTH}, rows, k,
                    row_of(first + at * step) + across * {rows}, full + 8 * stage{of_rows});
            }};
            auto copy_columns = [&](int i, int stage) {{
                const int at = i / {blocks}, k = i % {blocks} * {DEPTH};
                const unsigned to = base + stage * {tile.stage_bytes} + {tile.rows * 2 * DEPTH};
                copy(to + down * {columns * 2 * DEPTH}, matrix, k,
                    column_of(first + at * step) + down * {columns}, full + 8 * stage{of_columns});
            }};
            for (int i = 0; i < ahead; ++i) {{ expect(full + 8 * i, {tile.stage_bytes}); copy_columns(i, i); }}
            {_WAIT}
            for (int i = 0; i < ahead; ++i) copy_rows(i, i);
            int stage = 0, parity = 0;
            for (int i = ahead; i < total; ++i) {{
                await(empty + 8 * stage, parity);
                expect(full + 8 * stage, {tile.stage_bytes});
                copy_columns(i, stage); copy_rows(i, stage);
                if (++stage == {tile.stages}) {{ stage = 0; parity ^= 1; }}
            }}"""


def _consumer(tile: Tile, blocks: int, finish: Finish) -> str:
    """A team's tiles: products over k, then what follows."""
    others = (tile.teams - 1) * blocks
    skipped = f"stage += {others % tile.stages}; parity ^= {others // tile.stages % 2};"
    skipped += f" if (stage >= {tile.stages}) {{ stage -= {tile.stages}; parity ^= 1; }}"
    settled = "".join(f"settled(sums[{r}]); " for r in range(tile.heights))
    return f"""{_places(tile)}
        const int position = team * {blocks}; int stage = position % {tile.stages};
        int parity = position / {tile.stages} % 2;
        float sums[{tile.heights}][{tile.columns // 2}];
        {finish.once()}
        {_WAIT}
        for (int tile = first + team * step, turn = 0; tile < tiles; tile += {tile.teams} * step, ++turn) {{
            const int m0 = row_of(tile) + above + warp * 16 + g, n0 = column_of(tile) + l * 8;
            const int use = (team + turn * {tile.teams}) * {blocks};
            {finish.early()}
            {_products(tile, blocks)}
            {settled}
            give_back(before, use + {blocks - 1});
            {skipped if tile.teams > 1 else ""}
            {finish.body()}
        }}"""


def _places(tile: Tile) -> str:
    """Where a thread is, and the blocks that its warp tells when it has read a stage: those who copy into it.

    They are told only where they will copy once more. They wait for that, so that no block is told anything when it has
    ended, which is an error; without it the blocks of a cluster would have to wait for each other at the end.
    """
    team = f"wg / {tile.warpgroups}" if tile.teams > 1 else "0"
    tellers = tile.down + tile.across - 1
    return f"""
        const int wg = t / 128, team = {team}, warp = t / 32 % 4, lane = t % 32, g = lane / 4, l = lane % 4;
        const int above = wg % {tile.warpgroups} * {64 * tile.heights};
        int target = down * {tile.across} + lane;
        if (lane >= {tile.across}) {{
            const int other = lane - {tile.across};
            target = (other + (other >= down)) * {tile.across} + across;
        }}
        const unsigned given_back = in_block(empty, lane < {tellers} ? target : rank);
        auto give_back = [&](int stage, int use) {{
            if (lane < {tellers} && use + {tile.stages} < total) arrive(given_back + 8 * stage);
        }};"""


def _products(tile: Tile, blocks: int) -> str:
    """Over k. A stage is given back when its products have ended.

    Two teams take turns at multiplying: a barrier is waited for by the parity of its phase, so that nobody may be two
    phases ahead.
    """
    multiplied = " ".join(
        f"multiply(sums[{r}], a + {512 * r + 2 * k}, b + {2 * k}, {'block' if k == 0 else '1'});"
        for k in range(DEPTH // 16) for r in range(tile.heights)
    )  # fmt: skip
    turn = "if (team + turn) await(turns + 8 * team, (turn - 1 + team) & 1);"
    done = "if (lane == 0) arrive(in_block(turns + 8 - 8 * team, rank));"
    return f"""
            {turn if tile.teams > 1 else ""}
            int before = 0;
            for (int block = 0; block < {blocks}; ++block) {{
                await(full + 8 * stage, parity);
                const unsigned at = base + stage * {tile.stage_bytes};
                const descriptor_t a = described(at + above * {2 * DEPTH}), b = described(at + {tile.rows * 2 * DEPTH});
                asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
                {multiplied}
                asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
                asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
                if (block) give_back(before, use + block - 1);
                before = stage;
                if (++stage == {tile.stages}) {{ stage = 0; parity ^= 1; }}
            }}
            {done if tile.teams > 1 else ""}
            asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");"""
