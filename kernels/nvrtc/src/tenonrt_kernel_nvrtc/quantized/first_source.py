"""The source of a first convolution on bytes: images of at most four channels are words of shared memory.

A pixel is a word, so that a window's taps in a row are the operand of an instruction as they lie: no thread gathers
bytes. Weights stay in registers, for a block computes tile after tile. NVIDIA, "PTX ISA", mma.m16n8k32: a thread has
four bytes of k of a row, here the channels of one tap, and pairs of columns of the result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tenonrt.contracts import Array

from tenonrt_kernel_nvrtc.images.patches import PIXELS, WARPS, Patch, Pixel, read_pixels, where
from tenonrt_kernel_nvrtc.products.problem import Geometry
from tenonrt_kernel_nvrtc.quantized.finish import ByteFinish, order
from tenonrt_kernel_nvrtc.quantized.tiles import GROUP

CHANNELS, TAPS = 4, 8  # of a word, and of a window's row in an instruction

_INSTRUCTION = r"""
__device__ __forceinline__ void multiply(SUM *d, const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.TYPES {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};" : "+IN"(d[0]), "+IN"(d[1]), "+IN"(d[2]), "+IN"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
"""


def packed_filters(filters: Array) -> Array:
    """Of filters [columns, channels, R, S], of bytes, the words that threads hold, [R, 8 groups of columns, 2, 32]."""
    columns, channels, down, across = filters.shape
    spread = ((0, 1), (0, CHANNELS - channels), (0, 0), (0, TAPS - across))
    taps = np.pad(filters, spread)[order(columns)]  # a column of zeros is the last, which -1 is
    words = np.ascontiguousarray(taps.transpose(2, 0, 3, 1)).view(np.int32)  # [R, columns, taps, 1]
    lanes = words.reshape(down, GROUP // 8, 8, 2, TAPS // 2).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(lanes).reshape(down, GROUP // 8, 2, 32)


def source(finish: ByteFinish, g: Geometry, patch: Patch, kind: str, pixel: Pixel, parameters: Sequence[str]) -> str:
    """The function ``kernel``. kind: of the stored image, u8, s8 or e4m3; sums of the latter are single precision."""
    rows, columns = g.rows, g.columns
    _, across = patch.read(g)
    beside = patch.columns // PIXELS
    bounds = f"__launch_bounds__({patch.threads}, {patch.blocks})"
    words = " ".join(
        f"at[r * {across} + (g + {8 * (i % 2)}) * {columns.stride} + l + {i // 2 * 4}]{',' if i < 3 else ''}"
        for i in range(4)
    )
    sums, types, register = (
        ("float", "f32.e4m3.e4m3.f32", "f") if kind == "e4m3" else ("int", f"s32.{kind}.s8.s32", "r")
    )
    instruction = _INSTRUCTION.replace("SUM", sums).replace("TYPES", types).replace("+IN", f"+{register}")
    return f"""{instruction}{finish.functions()}
extern "C" __global__ void {bounds} kernel({", ".join(parameters)}) {{
    extern __shared__ unsigned patch[];
    asm volatile("griddepcontrol.launch_dependents;");
    const int t = threadIdx.x, warp = t / 32, lane = t % 32, g = lane / 4, l = lane % 4, n0 = l * {finish.lane_columns};
    unsigned held[{rows.window}][8][2];
    _Pragma("unroll") for (int r = 0; r < {rows.window}; ++r)
        _Pragma("unroll") for (int j = 0; j < 8; ++j)
            _Pragma("unroll") for (int h = 0; h < 2; ++h) held[r][j][h] = filters[((r * 8 + j) * 2 + h) * 32 + lane];
    {finish.once()} {pixel.once}
    asm volatile("griddepcontrol.wait;" ::: "memory");
    for (int tile = blockIdx.x; tile < {patch.tiles(g)}; tile += gridDim.x) {{
        {where(g, patch)}
        __syncthreads();
        {read_pixels(g, patch, pixel)}
        __syncthreads();
        _Pragma("unroll 1") for (int part = warp; part < {patch.rows * beside}; part += {WARPS}) {{
            const int p = part / {beside}, q = part % {beside} * {PIXELS};
            const unsigned *at = patch + p * {rows.stride * across} + q * {columns.stride};
            {sums} sums[1][32] = {{}};
            _Pragma("unroll") for (int r = 0; r < {rows.window}; ++r) {{
                const unsigned a[4] = {{{words}}};
                _Pragma("unroll") for (int j = 0; j < 8; ++j) multiply(sums[0] + 4 * j, a, held[r][j]);
            }}
            auto row_of = [&](int h) {{
                const int across = q0 + q + g + 8 * h;
                const bool there = p0 + p < {rows.positions} && across < {columns.positions};
                return there ? (image * {rows.positions} + p0 + p) * {columns.positions} + across : {g.m};
            }};
            {finish.body()}
        }}
    }}
}}
"""
