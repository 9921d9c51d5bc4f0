"""The source of a product whose tiles are copied by tensor maps: a warp copies, warpgroups multiply.

NVIDIA, "PTX ISA": cp.async.bulk.tensor, mbarrier, asynchronous warpgroup level matrix instructions. Each stage of
shared memory has two barriers: one completes when its bytes are there, the other when all who read it are done. A
block copies its share of the tiles that blocks of its cluster have in common, to all of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tenonrt_kernel_nvrtc.products.mapped_tiles import Tile
from tenonrt_kernel_nvrtc.products.problem import Geometry

_INSTRUCTIONS = r"""
typedef unsigned long long descriptor_t;
struct alignas(64) TensorMap { unsigned char bytes[128]; };
__device__ __forceinline__ unsigned shared_at(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }
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
template <int N> __device__ __forceinline__ void settled(int (&d)[N]) {
    _Pragma("unroll") for (int i = 0; i < N; ++i) asm volatile("" : "+r"(d[i]) :: "memory");
}
"""
# Rows are pixels that a window visits, wherever an image or its border begins: so far from the pixel of its corner.
_GATHER = r"""
__device__ __forceinline__ void gather(
    unsigned to, const TensorMap &map, int k, int x, int y, int image, unsigned barrier, unsigned short right,
    unsigned short below) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%2, %3, %4, %5}], [%6], {%7, %8};" :: "r"(to), "l"(&map), "r"(k), "r"(x), "r"(y), "r"(image),
        "r"(barrier), "h"(right), "h"(below) : "memory");
}
__device__ __forceinline__ void gather(
    unsigned to, const TensorMap &map, int k, int x, int y, int image, unsigned barrier, unsigned short right,
    unsigned short below, unsigned short blocks) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes"
        ".multicast::cluster [%0], [%1, {%2, %3, %4, %5}], [%6], {%7, %8}, %9;" :: "r"(to), "l"(&map), "r"(k), "r"(x),
        "r"(y), "r"(image), "r"(barrier), "h"(right), "h"(below), "h"(blocks) : "memory");
}
"""
# Nothing but the barriers themselves has to be seen by other blocks: a release to the cluster would wait for memory,
# about 700 cycles, here as where stages are given back.
_CLUSTER_SYNC = 'asm volatile("barrier.cluster.arrive.relaxed.aligned;\\n barrier.cluster.wait.aligned;" ::: "memory");'
_WAIT = 'asm volatile("griddepcontrol.wait;" ::: "memory");'


@dataclass(frozen=True)
class Operands:
    """What is multiplied: ``depth`` elements of k in a stage, ``step`` in an instruction of ``types``.

    sums: their type in C. immediates: what else the instruction has. m: rows of the product, columns: its columns.
    gathered: where rows are not pixels one by one, how they lie.
    """

    m: int
    columns: int
    stages: int
    depth: int
    step: int
    types: str
    sums: str
    immediates: str = ""
    gathered: Geometry | None = None


class Finishing(Protocol):
    """What follows the product of a tile, as parts of the source."""

    normalizes: bool  # whether blocks of a cluster tell each other of their rows
    lane_columns: int  # that a thread of a quad has in a row

    def parameters(self) -> list[str]: ...
    def pitches(self) -> str: ...
    def functions(self) -> str: ...
    def once(self) -> str: ...
    def early(self) -> str: ...
    def ahead(self) -> str: ...
    def body(self) -> str: ...


def source(o: Operands, tile: Tile, finish: Finishing) -> str:
    """The instructions and the function ``kernel``."""
    cluster = f"__cluster_dims__({tile.cluster}, 1, 1) " if tile.cluster > 1 else ""
    bounds = f"__launch_bounds__({tile.threads}, {tile.resident})"
    maps = "const __grid_constant__ TensorMap rows, const __grid_constant__ TensorMap matrix"
    head = f'extern "C" __global__ void {cluster}{bounds} kernel({maps}, {", ".join(finish.parameters())})'
    body = f"""{finish.pitches()}{_start(tile, o, finish)}
    if (t >= {tile.consumers}) {{
        {_registers("dec", 40) if tile.trades else ""}
        if (t == {tile.consumers}) {{ {_producer(tile, o, finish)} }}
        __syncwarp();
    }} else {{
        {_registers("inc", 232) if tile.trades else ""}
        {_consumer(tile, o, finish)}
    }}"""
    instructions = f"{_INSTRUCTIONS}{_GATHER if o.gathered else ''}{_described(tile)}{_multiply(tile.columns, o)}"
    return f"{instructions}{finish.functions()}{head} {{{body}\n}}\n"


def _registers(change: str, count: int) -> str:
    return f'asm volatile("setmaxnreg.{change}.sync.aligned.u32 {count};");'


def _described(tile: Tile) -> str:
    """Eight rows of shared memory are a unit of the swizzle, which is as wide as a row."""
    swizzle = {128: 1, 64: 2}[tile.row_bytes]
    return f"""
__device__ __forceinline__ descriptor_t described(unsigned at) {{
    return (descriptor_t)((at & 0x3ffff) >> 4) | (1ull << 16) | ({tile.row_bytes // 2}ull << 32) | ({swizzle}ull << 62);
}}
"""


def _multiply(columns: int, o: Operands) -> str:
    """wgmma of 64 rows and so many columns; the first of a tile does not add to the sums."""
    count = columns // 2
    places = ", ".join(f"%{i}" for i in range(count))
    sums = ", ".join(f'"+{"f" if o.sums == "float" else "r"}"(d[{i}])' for i in range(count))
    return f"""
__device__ __forceinline__ void multiply({o.sums} (&d)[{count}], descriptor_t a, descriptor_t b, int add) {{
    asm volatile("{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{count + 2}, 0;\\n"
        "wgmma.mma_async.sync.aligned.m64n{columns}k{o.step}.{o.types} "
        "{{{places}}}, %{count}, %{count + 1}, p{o.immediates};\\n}}" : {sums} : "l"(a), "l"(b), "r"(add));
}}
"""


def _start(tile: Tile, o: Operands, finish: Finishing) -> str:
    """Where a block is in its cluster, and its barriers: full, empty, then two for what is known of rows.

    total: stages that the block fills and reads, one after the other.
    """
    readers = 4 * tile.warpgroups * (tile.down + tile.across - 1)
    down, across = tile.sizes(o.m, o.columns)
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
    const int tiles = {down * across}, total = (tiles - first + step - 1) / step * {o.stages};
    if (t == 0) {{
        for (int i = 0; i < {tile.stages}; ++i) {{ set_up(full + 8 * i, 1); set_up(empty + 8 * i, {readers}); }}
        {told if finish.normalizes else ""}
        {turns if tile.teams > 1 else ""}
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }}
    {together}
    auto row_of = [&](int tile) {{ return (tile / {across} * {tile.down} + down) * {tile.rows}; }};
    auto column_of = [&](int tile) {{ return (tile % {across} * {tile.across} + across) * {tile.columns}; }};"""


def _producer(tile: Tile, o: Operands, finish: Finishing) -> str:
    """One thread copies. Weights, which nobody writes, are on their way before earlier kernels are waited for."""
    columns, blocks = tile.columns // tile.down, o.stages
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
                const int at = i / {blocks};
                {ahead}
                {_copied_rows(tile, o)}
            }};
            auto copy_columns = [&](int i, int stage) {{
                const int at = i / {blocks}, k = i % {blocks} * {o.depth};
                const unsigned to = base + stage * {tile.stage_bytes} + {tile.rows * tile.row_bytes};
                copy(to + down * {columns * tile.row_bytes}, matrix, k,
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


def _copied_rows(tile: Tile, o: Operands) -> str:
    """A block's share of the rows of stage i: pixels as they lie, or those that a tap of the window meets."""
    rows = tile.rows // tile.across
    blocks = f", (unsigned short)({(1 << tile.across) - 1} << down * {tile.across})" if tile.across > 1 else ""
    to = f"base + stage * {tile.stage_bytes} + across * {rows * tile.row_bytes}"
    row = f"row_of(first + at * step) + across * {rows}"
    if o.gathered is None:
        return f"copy({to}, rows, i % {o.stages} * {o.depth}, {row}, full + 8 * stage{blocks});"
    y, x = o.gathered.rows, o.gathered.columns
    parts = -(-o.gathered.channels // o.depth)
    return f"""const int m = {row}, block = i % {o.stages}, tap = block / {parts}, k = block % {parts} * {o.depth};
                const int across_image = m % {x.positions}, line = m / {x.positions};
                gather({to}, rows, k, across_image * {x.stride} - {x.before},
                    line % {y.positions} * {y.stride} - {y.before}, line / {y.positions}, full + 8 * stage,
                    (unsigned short)(tap % {x.window} * {x.dilation}),
                    (unsigned short)(tap / {x.window} * {y.dilation}){blocks});"""


def _consumer(tile: Tile, o: Operands, finish: Finishing) -> str:
    """A team's tiles: products over k, then what follows."""
    blocks = o.stages
    others = (tile.teams - 1) * blocks
    skipped = f"stage += {others % tile.stages}; parity ^= {others // tile.stages % 2};"
    skipped += f" if (stage >= {tile.stages}) {{ stage -= {tile.stages}; parity ^= 1; }}"
    settled = "".join(f"settled(sums[{r}]); " for r in range(tile.heights))
    return f"""{_places(tile)}
        const int position = team * {blocks}; int stage = position % {tile.stages};
        int parity = position / {tile.stages} % 2;
        {o.sums} sums[{tile.heights}][{tile.columns // 2}];
        {finish.once()}
        {_WAIT}
        for (int tile = first + team * step, turn = 0; tile < tiles; tile += {tile.teams} * step, ++turn) {{
            const int m0 = row_of(tile) + above + warp * 16 + g, n0 = column_of(tile) + l * {finish.lane_columns};
            const int use = (team + turn * {tile.teams}) * {blocks};
            {finish.early()}
            {_products(tile, o)}
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


def _products(tile: Tile, o: Operands) -> str:
    """Over k. A stage is given back when its products have ended.

    Two teams take turns at multiplying: a barrier is waited for by the parity of its phase, so that nobody may be two
    phases ahead.
    """
    blocks, height = o.stages, 4 * tile.row_bytes  # of 64 rows, in 16 bytes
    multiplied = " ".join(
        f"multiply(sums[{r}], a + {height * r + 2 * k}, b + {2 * k}, {'block' if k == 0 else '1'});"
        for k in range(o.depth // o.step) for r in range(tile.heights)
    )  # fmt: skip
    turn = "if (team + turn) await(turns + 8 * team, (turn - 1 + team) & 1);"
    done = "if (lane == 0) arrive(in_block(turns + 8 - 8 * team, rank));"
    return f"""
            {turn if tile.teams > 1 else ""}
            int before = 0;
            for (int block = 0; block < {blocks}; ++block) {{
                await(full + 8 * stage, parity);
                const unsigned at = base + stage * {tile.stage_bytes};
                const descriptor_t a = described(at + above * {tile.row_bytes});
                const descriptor_t b = described(at + {tile.rows * tile.row_bytes});
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
