"""Threads that wait for each other, on the processor: every thread of some blocks is a context of its own.

They take turns where they wait: at barriers of blocks and clusters, and where the lanes of a warp exchange values. A
thread that has ended is waited for no more, and where none gets any further the run ends with those that are left.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from tenonrt.contracts import Array

# What stands before a kernel's source, behind the prelude of emulations, and what kernels of this pack call there.
FIBERS = r"""
#include <ucontext.h>
#include <stdlib.h>
#include <string.h>
#define __shared__
#define __cluster_dims__(...)
#define __launch_bounds__(...)
struct Rendezvous { int waiting, expected, round; };
struct Warp { Rendezvous met; unsigned slots[32][8]; };
struct Block { unsigned char *memory; Rendezvous all, pairs[16]; Warp warps[32]; };
struct Thread { ucontext_t context; int block, t; bool ended; };
static Block *blocks; static Thread *threads, *current; static Rendezvous *clusters; static ucontext_t scheduler;
static int blocks_of_cluster; static bool progress;
static void *const *operands; static const int *numbers;

static void give_way() { swapcontext(&current->context, &scheduler); }
static void open_if_full(Rendezvous &r) { if (r.waiting && r.waiting >= r.expected) { r.waiting = 0; ++r.round; } }
static void meet(Rendezvous &r) {
    const int round = r.round; progress = true;
    ++r.waiting; open_if_full(r);
    while (r.round == round) give_way();
}
static Block &own() { return blocks[current->block]; }
static Warp &warp() { return own().warps[current->t / 32]; }
static Rendezvous &cluster() { return clusters[current->block / blocks_of_cluster]; }
static int block_of(int rank) {
    if (rank >= blocks_of_cluster) abort();
    return current->block / blocks_of_cluster * blocks_of_cluster + rank;
}
static unsigned from_lane(unsigned v, int distance) {
    Warp &w = warp(); const int lane = current->t % 32;
    w.slots[lane][0] = v; meet(w.met); const unsigned found = w.slots[lane ^ distance][0]; meet(w.met);
    return found;
}
static void __syncthreads() { meet(own().all); }
static void cluster_sync() { meet(cluster()); }
static float __shfl_xor_sync(unsigned, float v, int distance) {
    unsigned bits; memcpy(&bits, &v, 4); bits = from_lane(bits, distance); memcpy(&v, &bits, 4); return v;
}
template <typename T> static T *peer(T *mine, int rank) {
    return (T *)((unsigned char *)mine - own().memory + blocks[block_of(rank)].memory);
}
static void begin_next() {} static void wait_before() {}
"""
# What stands behind the declaration of the narrow type: vectors, and the product of a warp from the PTX manual.
PRODUCT = r"""
struct uint2 { unsigned x, y; }; struct uint4 { unsigned x, y, z, w; };
static uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static float half_of(unsigned v, int high) { return to_float((narrow_t)(high ? v >> 16 : v & 0xffff)); }
static void multiply(float (&d)[4], const uint4 &a, unsigned b0, unsigned b1) {
    Warp &w = warp(); const int lane = current->t % 32, g = lane / 4, l = lane % 4;
    const unsigned given[6] = {a.x, a.y, a.z, a.w, b0, b1};
    memcpy(w.slots[lane], given, 24); meet(w.met);
    for (int i = 0; i < 4; ++i) for (int k = 0; k < 16; ++k) {
        const int row = i / 2, column = l * 2 + i % 2;
        const float x = half_of(w.slots[g * 4 + k % 8 / 2][k / 8 * 2 + row], k & 1);
        d[i] += x * half_of(w.slots[column * 4 + k % 8 / 2][4 + k / 8], k & 1);
    }
    meet(w.met);
}
"""
_RUN = r"""
static void body() {
    CALL;
    current->ended = progress = true;
    Rendezvous *const all[] = {&warp().met, &own().all, &cluster()};
    for (Rendezvous *r : all) { --r->expected; open_if_full(*r); }
    give_way();
}
static int take_turns(int count, const int *grid, int first) {
    int left = count;
    for (progress = true; left && progress;) {
        progress = false; left = 0;
        for (int i = count - 1; i >= 0; --i) {
            if (threads[i].ended) continue;
            current = threads + i; const int b = first + current->block;
            blockIdx = {b % grid[0], b / grid[0] % grid[1], b / grid[0] / grid[1]}; threadIdx = {current->t, 0, 0};
            swapcontext(&scheduler, &current->context); left += !current->ended;
        }
    }
    return left;
}
extern "C" int run(
    void *const *given, const int *more, const int *grid, int block, int cluster, int together, int bytes) {
    operands = given; numbers = more; blocks_of_cluster = cluster; blockDim = {block, 1, 1};
    const int count = together * block, size = 1 << 16, memory = bytes + 31 & ~15; int left = 0;
    blocks = (Block *)calloc(together, sizeof(Block)); threads = (Thread *)calloc(count, sizeof(Thread));
    clusters = (Rendezvous *)calloc(together / cluster, sizeof(Rendezvous));
    char *const stacks = (char *)malloc((size_t)count * size);
    unsigned char *const memories = (unsigned char *)aligned_alloc(16, (size_t)together * memory);
    for (int first = 0; !left && first < grid[0] * grid[1] * grid[2]; first += together) {
        memset(memories, 255, (size_t)together * memory);
        for (int b = 0; b < together; ++b) {
            blocks[b].memory = memories + (size_t)b * memory; blocks[b].all = {0, block, 0};
            for (Rendezvous &pair : blocks[b].pairs) pair = {0, 64, 0};
            for (Warp &w : blocks[b].warps) w.met = {0, 32, 0};
        }
        for (int c = 0; c < together / cluster; ++c) clusters[c] = {0, cluster * block, 0};
        for (int i = 0; i < count; ++i) {
            Thread &t = threads[i]; t.block = i / block; t.t = i % block; t.ended = false; getcontext(&t.context);
            t.context.uc_stack.ss_sp = stacks + (size_t)i * size; t.context.uc_stack.ss_size = size;
            t.context.uc_link = &scheduler; makecontext(&t.context, body, 0);
        }
        left = take_turns(count, grid, first);
    }
    free(blocks); free(threads); free(clusters); free(stacks); free(memories);
    return left;
}
"""


def runner(call: str) -> str:
    """What stands behind a kernel's source; ``call``: of the kernel, with ``operands`` and ``numbers``."""
    return _RUN.replace("CALL", call)


def run(
    library: ctypes.CDLL, arrays: Sequence[Array], numbers: Sequence[int], grid: Sequence[int], block: int,
    cluster: int = 1, together: int = 0, shared: int = 0,
) -> None:  # fmt: skip
    """Launch a kernel of a library; fails where threads wait for each other for ever.

    together: blocks that run at once, those of a cluster by default. shared: bytes of a block.
    """
    pointers = (ctypes.c_void_p * len(arrays))(*[a.ctypes.data for a in arrays])
    given = (ctypes.c_int * max(1, len(numbers)))(*numbers)
    sizes = (ctypes.c_int * 3)(*(*grid, 1, 1)[:3])
    assert not library.run(pointers, given, sizes, block, cluster, together or cluster, shared), "threads wait for ever"
