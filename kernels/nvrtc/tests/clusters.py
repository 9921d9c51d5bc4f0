"""Recurrent kernels on the processor: what the instructions of `recurrent.source` do, once more in C++.

It is written from the PTX manual; an address in shared memory has the number of its block in its upper bits.
"""

from __future__ import annotations

from collections.abc import Sequence

from nvrtc_emulation import PRELUDE, compiled
from nvrtc_fibers import FIBERS, PRODUCT, run, runner
from tenonrt.contracts import Array
from tenonrt_kernel_nvrtc.storage import Narrow

_CLUSTER = r"""
struct float4 { float x, y, z, w; };
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

struct Barrier { short arrivals, phase; int bytes; };
static const int SHIFT = 20, MASK = (1 << 20) - 1;

static unsigned char *byte_at(unsigned at) { return blocks[at >> SHIFT].memory + (at & MASK); }
static unsigned own_shared() { return current->block << SHIFT; }
static unsigned in_block(unsigned at, int rank) { return (at & MASK) | block_of(rank) << SHIFT; }
static void begin() {} static void next_may_begin() {}
static void wait_for_others() {} static void barriers_are_set() {}
static void set_up(unsigned at) { *(Barrier *)byte_at(at) = {1, 0, 0}; }
static void complete(Barrier &b) { if (!b.arrivals && !b.bytes) { ++b.phase; b.arrivals = 1; progress = true; } }
static void expect(unsigned at, int bytes) {
    Barrier &b = *(Barrier *)byte_at(at); if (!b.arrivals) abort(); --b.arrivals; b.bytes += bytes; complete(b);
}
static void await(unsigned at, int parity) {
    while ((((Barrier *)byte_at(at))->phase & 1) == parity) give_way();
    progress = true;
}
static void tell(unsigned at, unsigned barrier, uint4 v) {
    if (at % 16 || at >> SHIFT != barrier >> SHIFT) abort();
    memcpy(byte_at(at), &v, 16); Barrier &b = *(Barrier *)byte_at(barrier); b.bytes -= 16; complete(b);
}
static void block_sync() { __syncthreads(); }
static void pair_sync(int pair) { if (pair > 14) abort(); meet(own().pairs[pair]); }
static void leave(unsigned at, float4 v) { memcpy(byte_at(at), &v, 16); }
static float4 left(unsigned at) { float4 v; memcpy(&v, byte_at(at), 16); return v; }
static void set_eight(unsigned at, uint4 v) { memcpy(byte_at(at), &v, 16); }
static uint4 seen(const uint4 *from) { return *from; }
static uint2 seen(const uint2 *from) { return *from; }
static void show(uint4 *to, uint4 v) { *to = v; progress = true; }
static void show(uint2 *to, uint2 v) { *to = v; progress = true; }
static void look_again() { give_way(); }
static uint4 weight(const narrow_t *from) { uint4 v; memcpy(&v, from, 16); return v; }
static uint4 states(unsigned at) {
    Warp &w = warp(); const int lane = current->t % 32; unsigned v[4];
    w.slots[lane][0] = at; meet(w.met);
    for (int m = 0; m < 4; ++m) memcpy(v + m, byte_at(w.slots[m * 8 + lane / 4][0]) + lane % 4 * 4, 4);
    meet(w.met); return {v[0], v[1], v[2], v[3]};
}
static float power(float x) { return exp2f(x); }
static float inverse(float x) { return 1.f / x; }
"""

_MEMORY = 1 << 17  # bytes of a block


class Cluster:
    """A kernel's source without its instructions, compiled; ``types``: of its parameters, pointers."""

    def __init__(self, source: str, types: Sequence[str], narrow: Narrow) -> None:
        call = ", ".join(f"({type})operands[{i}]" for i, type in enumerate(types))
        text = (
            "#include <math.h>\n"
            + PRELUDE
            + FIBERS
            + narrow.declared
            + PRODUCT
            + _CLUSTER
            + source
            + runner(f"kernel({call})")
        )
        self._library = compiled(text, "-O1")

    def run(self, arrays: Sequence[Array], grid: int, cluster: int, block: int) -> None:
        """All clusters at once, for some tell others what they found."""
        run(self._library, arrays, (), (grid,), block, cluster, grid, _MEMORY)
