"""Functions of rows: a warp or a block keeps a row in registers and reduces it."""

from __future__ import annotations

from dataclasses import dataclass

from tenonrt_kernel_nvrtc.storage import C_TYPES, item_bytes

REDUCTIONS = r"""
template <int T> __device__ __forceinline__ float row_sum(float v) {
    for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(~0u, v, o);
    if constexpr (T > 32) {
        __shared__ float part[T / 32];
        __syncthreads();
        if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
        __syncthreads();
        v = 0.f;
        for (int i = 0; i < T / 32; ++i) v += part[i];
    }
    return v;
}
template <int T> __device__ __forceinline__ float row_max(float v) {
    for (int o = 16; o; o >>= 1) v = larger(v, __shfl_xor_sync(~0u, v, o));
    if constexpr (T > 32) {
        __shared__ float part[T / 32];
        __syncthreads();
        if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
        __syncthreads();
        v = part[0];
        for (int i = 1; i < T / 32; ++i) v = larger(v, part[i]);
    }
    return v;
}
"""

# Most elements of a row that a thread keeps.
_KEPT = 64


@dataclass(frozen=True)
class RowPlan:
    """``threads`` work on a row of ``length`` elements, ``vector`` at once; a block has ``rows`` of them."""

    length: int
    threads: int
    vector: int

    @property
    def rows(self) -> int:
        return max(1, 128 // self.threads)

    @property
    def pieces(self) -> int:
        """Vectors that each thread has."""
        return -(-self.length // (self.threads * self.vector))

    @property
    def fits(self) -> bool:
        return self.pieces * self.vector <= _KEPT

    def place(self, row: str = "row") -> list[str]:
        """Which row a thread works on first, and where in it."""
        return [
            f"const int {row} = blockIdx.x * {self.rows} + threadIdx.x / {self.threads};",
            f"const int lane = threadIdx.x % {self.threads};",
        ]

    def start(self, count: int) -> list[str]:
        """The rest of the last block leaves, which is whole warps."""
        return [f"if (row >= {count}) return;"]

    def each(self, body: str) -> str:
        """``body`` for every piece; ``at`` is where it begins in the row, -1 past the end."""
        inside = self.length % (self.threads * self.vector) == 0
        test = "" if inside else f"if (at < {self.length}) "
        return (
            f'_Pragma("unroll") for (int i = 0; i < {self.pieces}; ++i) {{ '
            f"const int at = (i * {self.threads} + lane) * {self.vector}; {test}{{ {body} }} }}"
        )

    def elements(self, body: str) -> str:
        """``body`` for every element j of a vector."""
        return f'_Pragma("unroll") for (int j = 0; j < {self.vector}; ++j) {{ {body} }}'


def plans(length: int, dtype: str) -> list[RowPlan]:
    """A warp to a row, then a block, as far as rows fit in registers."""
    vector = 16 // item_bytes(dtype)
    while length % vector:
        vector //= 2
    found = [RowPlan(length, threads, vector) for threads in (32, 128, 512)]
    return [plan for plan in found if plan.fits]


def fetched(name: str, dtype: str, vector: int, offset: str) -> str:
    """A vector at an offset from a pointer."""
    return f"fetch<{C_TYPES[dtype]}, {vector}>({name} + {offset})"
