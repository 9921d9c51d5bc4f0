"""Kernels whose threads and blocks exchange values, on the processor: every thread of a cluster is a context.

Threads take turns where they wait for each other. What the instructions of `recurrent_source` do is written here once
more, from the PTX manual, in C++; an address in shared memory has the number of its block in its upper bits.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from nvrtc_emulation import PRELUDE, compiled
from tenonrt.contracts import Array
from tenonrt_kernel_nvrtc.storage import Narrow

_HEADERS = r"""
#include <ucontext.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#define __cluster_dims__(...)
"""
_CLUSTER = r"""
struct uint2 { unsigned x, y; }; struct uint4 { unsigned x, y, z, w; }; struct float4 { float x, y, z, w; };
static uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

struct Rendezvous { int waiting, round; };
struct Barrier { short arrivals, phase; int bytes; };
struct Warp { Rendezvous met; unsigned slots[32][8]; };
struct Block { unsigned char memory[1 << 17]; Rendezvous all, pairs[16]; Warp warps[32]; };
struct Thread { ucontext_t context; int block, t; bool ended; };
static Block *blocks; static Thread *threads, *current; static ucontext_t scheduler; static Rendezvous *everyone;
static int blocks_of_cluster, threads_of_block; static bool progress; static void *const *operands;
static const int SHIFT = 20, MASK = (1 << 20) - 1;

static void yield() { swapcontext(&current->context, &scheduler); }
static void meet(Rendezvous &r, int count) {
    const int round = r.round; progress = true;
    if (++r.waiting == count) { r.waiting = 0; ++r.round; return; }
    while (r.round == round) yield();
}
static Block &own() { return blocks[current->block]; }
static Warp &warp() { return own().warps[current->t / 32]; }
static unsigned char *byte_at(unsigned at) { return blocks[at >> SHIFT].memory + (at & MASK); }
static unsigned own_shared() { return current->block << SHIFT; }
static unsigned in_block(unsigned at, int rank) {
    if (rank >= blocks_of_cluster) abort();
    return (at & MASK) | (current->block / blocks_of_cluster * blocks_of_cluster + rank) << SHIFT;
}
static void begin() {} static void next_may_begin() {}
static void wait_for_others() {} static void barriers_are_set() {}
static void set_up(unsigned at) { *(Barrier *)byte_at(at) = {1, 0, 0}; }
static void complete(Barrier &b) { if (!b.arrivals && !b.bytes) { ++b.phase; b.arrivals = 1; progress = true; } }
static void expect(unsigned at, int bytes) {
    Barrier &b = *(Barrier *)byte_at(at); if (!b.arrivals) abort(); --b.arrivals; b.bytes += bytes; complete(b);
}
static void await(unsigned at, int parity) {
    while ((((Barrier *)byte_at(at))->phase & 1) == parity) yield();
    progress = true;
}
static void tell(unsigned at, unsigned barrier, uint4 v) {
    if (at % 16 || at >> SHIFT != barrier >> SHIFT) abort();
    memcpy(byte_at(at), &v, 16); Barrier &b = *(Barrier *)byte_at(barrier); b.bytes -= 16; complete(b);
}
static void cluster_sync() { meet(everyone[current->block / blocks_of_cluster], blocks_of_cluster * threads_of_block); }
static void block_sync() { meet(own().all, threads_of_block); }
static void pair_sync(int pair) { if (pair > 14) abort(); meet(own().pairs[pair], 64); }
static void leave(unsigned at, float4 v) { memcpy(byte_at(at), &v, 16); }
static float4 left(unsigned at) { float4 v; memcpy(&v, byte_at(at), 16); return v; }
static void set_eight(unsigned at, uint4 v) { memcpy(byte_at(at), &v, 16); }
static uint4 seen(const uint4 *from) { return *from; }
static uint2 seen(const uint2 *from) { return *from; }
static void show(uint4 *to, uint4 v) { *to = v; progress = true; }
static void show(uint2 *to, uint2 v) { *to = v; progress = true; }
static void look_again() { yield(); }
static uint4 weight(const narrow_t *from) { uint4 v; memcpy(&v, from, 16); return v; }
static unsigned from_lane(unsigned v, int distance) {
    Warp &w = warp(); const int lane = current->t % 32;
    w.slots[lane][0] = v; meet(w.met, 32); const unsigned found = w.slots[lane ^ distance][0]; meet(w.met, 32);
    return found;
}
static uint4 states(unsigned at) {
    Warp &w = warp(); const int lane = current->t % 32; unsigned v[4];
    w.slots[lane][0] = at; meet(w.met, 32);
    for (int m = 0; m < 4; ++m) memcpy(v + m, byte_at(w.slots[m * 8 + lane / 4][0]) + lane % 4 * 4, 4);
    meet(w.met, 32); return {v[0], v[1], v[2], v[3]};
}
static float half_of(unsigned v, int high) { return to_float((narrow_t)(high ? v >> 16 : v & 0xffff)); }
static void multiply(float (&d)[4], const uint4 &a, unsigned b0, unsigned b1) {
    Warp &w = warp(); const int lane = current->t % 32, g = lane / 4, l = lane % 4;
    const unsigned given[6] = {a.x, a.y, a.z, a.w, b0, b1};
    memcpy(w.slots[lane], given, 24); meet(w.met, 32);
    for (int i = 0; i < 4; ++i) for (int k = 0; k < 16; ++k) {
        const int row = i / 2, column = l * 2 + i % 2;
        const float x = half_of(w.slots[g * 4 + k % 8 / 2][k / 8 * 2 + row], k & 1);
        d[i] += x * half_of(w.slots[column * 4 + k % 8 / 2][4 + k / 8], k & 1);
    }
    meet(w.met, 32);
}
static float power(float x) { return exp2f(x); }
static float inverse(float x) { return 1.f / x; }
"""
_RUN = r"""
static void body() { CALL; current->ended = true; progress = true; yield(); }
extern "C" int run(void *const *pointers, int grid, int cluster, int block) {
    operands = pointers; blocks_of_cluster = cluster; threads_of_block = block;
    const int count = grid * block, size = 1 << 16;
    char *stacks = (char *)malloc((size_t)count * size);
    blocks = (Block *)calloc(grid, sizeof(Block)); threads = (Thread *)calloc(count, sizeof(Thread));
    everyone = (Rendezvous *)calloc(grid / cluster, sizeof(Rendezvous));
    for (int i = 0; i < count; ++i) {
        Thread &t = threads[i]; t.block = i / block; t.t = i % block; getcontext(&t.context);
        t.context.uc_stack.ss_sp = stacks + (size_t)i * size; t.context.uc_stack.ss_size = size;
        t.context.uc_link = &scheduler; makecontext(&t.context, body, 0);
    }
    int left = count;
    for (progress = true; left && progress;) {
        progress = false; left = 0;
        for (int i = count - 1; i >= 0; --i) {
            if (threads[i].ended) continue;
            current = threads + i; blockIdx = {current->block, 0, 0}; threadIdx = {current->t, 0, 0};
            swapcontext(&scheduler, &current->context); left += !current->ended;
        }
    }
    free(blocks); free(threads); free(everyone); free(stacks);
    return left;
}
"""


class Cluster:
    """A kernel's source without its instructions, compiled; ``types``: of its parameters, pointers."""

    def __init__(self, source: str, types: Sequence[str], narrow: Narrow) -> None:
        call = ", ".join(f"({type})operands[{i}]" for i, type in enumerate(types))
        run = _RUN.replace("CALL", f"kernel({call})")
        self._library = compiled(_HEADERS + PRELUDE + narrow.declared + _CLUSTER + source + run, "-O1")

    def run(self, arrays: Sequence[Array], grid: int, cluster: int, block: int) -> None:
        """Fails where threads wait for each other for ever."""
        pointers = (ctypes.c_void_p * len(arrays))(*[a.ctypes.data for a in arrays])
        assert not self._library.run(pointers, grid, cluster, block), "threads wait for each other"
