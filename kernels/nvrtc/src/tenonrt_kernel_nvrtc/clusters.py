"""Blocks of a cluster: what they wait for together, and shared memory of others.

NVIDIA, "PTX ISA": mapa, barrier.cluster.
"""

from __future__ import annotations

CLUSTERS = r"""
__device__ __forceinline__ void begin_next() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}
__device__ __forceinline__ void wait_before() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ __forceinline__ void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release.aligned;\n barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
template <typename T> __device__ __forceinline__ T *peer(T *own, int rank) {
    unsigned long long there;
    asm volatile("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"((unsigned long long)own), "r"(rank));
    return (T *)there;
}
"""


def dimensions(blocks: int) -> str:
    """The attribute of a kernel whose clusters have so many blocks; one alone is no cluster."""
    return f"__cluster_dims__({blocks}, 1, 1) " if blocks > 1 else ""


def together(blocks: int) -> str:
    """The statement at which all threads of a cluster wait for each other."""
    return "cluster_sync();" if blocks > 1 else "__syncthreads();"
