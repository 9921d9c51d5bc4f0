"""A product of matrices by one warp, m16n8k16 of 16-bit floats.

NVIDIA, "PTX ISA", mma.m16n8k16: of a, row by row, thread 4 g + l has elements 2 l and 2 l + 1 of row g, of row g + 8,
and both again 8 further along k; of b, column by column, those of column g, and 8 further. Sums 0 and 1 are columns 2 l
and 2 l + 1 of row g, sums 2 and 3 those of row g + 8. Tests have it in C++.
"""

MULTIPLY = r"""
__device__ __forceinline__ void multiply(float (&d)[4], const uint4 &a, unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." NARROW "." NARROW ".f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}
"""
