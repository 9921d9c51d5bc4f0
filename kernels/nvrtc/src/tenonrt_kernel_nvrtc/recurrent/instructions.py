"""Instructions and functions of the steps of recurrent layers.

NVIDIA, "PTX ISA": ldmatrix, st.async, mbarrier, mapa. Tests have the first part in C++.
"""

from __future__ import annotations

from tenonrt_kernel_nvrtc.tensor_cores import MULTIPLY

INSTRUCTIONS = (
    MULTIPLY
    + r"""
__device__ __forceinline__ unsigned own_shared() {
    extern __shared__ __align__(128) unsigned char raw[];
    return (unsigned)__cvta_generic_to_shared(raw);
}
__device__ __forceinline__ unsigned in_block(unsigned at, int rank) {
    unsigned there; asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(at), "r"(rank));
    return there;
}
__device__ __forceinline__ void next_may_begin() { asm volatile("griddepcontrol.launch_dependents;"); }
__device__ __forceinline__ void wait_for_others() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
__device__ __forceinline__ void set_up(unsigned barrier) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" :: "r"(barrier) : "memory");
}
__device__ __forceinline__ void barriers_are_set() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release.aligned;\n barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ __forceinline__ void expect(unsigned barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(barrier), "r"(bytes) : "memory");
}
__device__ __forceinline__ void await(unsigned barrier, int parity) {
    asm volatile("{\n.reg .pred p;\nAGAIN:\nmbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%0], %1;\n"
        "@p bra DONE;\nbra AGAIN;\nDONE:\n}" :: "r"(barrier), "r"(parity) : "memory");
}
__device__ __forceinline__ void tell(unsigned at, unsigned barrier, uint4 v) {
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];"
        :: "r"(at), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "r"(barrier) : "memory");
}
__device__ __forceinline__ void pair_sync(int pair) {
    asm volatile("barrier.sync %0, 64;" :: "r"(pair + 1) : "memory");
}
__device__ __forceinline__ void block_sync() { asm volatile("barrier.sync 0;" ::: "memory"); }
__device__ __forceinline__ void leave(unsigned at, float4 v) {
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" :: "r"(at), "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w)
        : "memory");
}
__device__ __forceinline__ float4 left(unsigned at) {
    float4 v; asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
        : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(at) : "memory");
    return v;
}
__device__ __forceinline__ void set_eight(unsigned at, uint4 v) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" :: "r"(at), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
        : "memory");
}
__device__ __forceinline__ uint4 seen(const uint4 *from) {
    uint4 v; asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from) : "memory");
    return v;
}
__device__ __forceinline__ uint2 seen(const uint2 *from) {
    uint2 v; asm volatile("ld.relaxed.gpu.global.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(from) : "memory");
    return v;
}
__device__ __forceinline__ void show(uint4 *to, uint4 v) {
    asm volatile("st.relaxed.gpu.global.v4.u32 [%0], {%1, %2, %3, %4};"
        :: "l"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}
__device__ __forceinline__ void show(uint2 *to, uint2 v) {
    asm volatile("st.relaxed.gpu.global.v2.u32 [%0], {%1, %2};" :: "l"(to), "r"(v.x), "r"(v.y) : "memory");
}
__device__ __forceinline__ void look_again() {}
__device__ __forceinline__ uint4 weight(const narrow_t *from) {
    uint4 v; asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from));
    return v;
}
__device__ __forceinline__ uint4 states(unsigned at) {
    uint4 v; asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(at));
    return v;
}
__device__ __forceinline__ unsigned from_lane(unsigned v, int distance) { return __shfl_xor_sync(~0u, v, distance); }
__device__ __forceinline__ float power(float x) {
    float y; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y;
}
__device__ __forceinline__ float inverse(float x) {
    float y; asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y;
}
"""
)
# By powers of two and an inverse, good to about 1e-7; too large a power is infinite, its inverse 0, as it should be.
FUNCTIONS = r"""
__device__ __forceinline__ float sigmoid(float x) { return inverse(1.f + power(-1.4426950408889634f * x)); }
__device__ __forceinline__ float hyperbolic(float x) {
    return 1.f - 2.f * inverse(1.f + power(2.8853900817779268f * x));
}
// Whether a part is still what was there before the kernel: no conversion makes a float of 16 bits of ones.
__device__ __forceinline__ bool stale(uint2 v) { return v.x == ~0u || v.y == ~0u; }
__device__ __forceinline__ bool stale(uint4 v) { return v.x == ~0u || v.y == ~0u || v.z == ~0u || v.w == ~0u; }
// Of eight lanes, four apart, the values of all, in their order: 16 bytes for each of the eight.
__device__ __forceinline__ uint4 gathered(narrow_t v, int g) {
    const unsigned own = v, other = from_lane(own, 4);
    const unsigned two = g & 1 ? other | own << 16 : own | other << 16;
    const unsigned next = from_lane(two, 8), a = g & 2 ? next : two, b = g & 2 ? two : next;
    const unsigned c = from_lane(a, 16), d = from_lane(b, 16);
    uint4 all;
    all.x = g & 4 ? c : a; all.y = g & 4 ? d : b; all.z = g & 4 ? a : c; all.w = g & 4 ? b : d;
    return all;
}
"""
