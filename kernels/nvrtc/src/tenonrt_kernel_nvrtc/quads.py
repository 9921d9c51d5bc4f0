"""Quads of threads, who have pairs of columns of a tensor core's result, exchange them: each then has 8 in a row.

Thread i has columns 2 i and 2 i + 1 of four groups of 8, and afterwards group i; that is the transpose of 4 by 4 pairs.
"""

from __future__ import annotations

# Two of a thread's four pairs, and how far away the thread is that one of them is exchanged with.
EXCHANGES = ((0, 1, 1), (2, 3, 1), (0, 2, 2), (1, 3, 2))

SWAP = r"""
__device__ __forceinline__ unsigned pair(float low, float high) {
    unsigned r; asm("cvt.rn." NARROW "x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low)); return r;
}
template <typename T> __device__ __forceinline__ void swap(T &even, T &odd, bool second, int distance) {
    const T other = __shfl_xor_sync(~0u, second ? even : odd, distance);
    if (second) even = other; else odd = other;
}
"""
