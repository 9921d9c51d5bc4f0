"""The source of a first convolution: images of at most four channels are words of four floats in shared memory.

Taps of a window that follow each other in a row are the operand of an instruction as they lie: no thread gathers
elements. Weights stay in registers, for a block computes tile after tile; where these are too few for all columns,
warps have parts of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tenonrt.contracts import Array

from tenonrt_kernel_nvrtc.images.patches import PIXELS, WARPS, Patch, Pixel, read_pixels, where
from tenonrt_kernel_nvrtc.products.problem import Geometry
from tenonrt_kernel_nvrtc.storage import Narrow
from tenonrt_kernel_nvrtc.tensor_cores import MULTIPLY

CHANNELS = 4  # of a word
WORD = 2 * CHANNELS  # its bytes
TAPS = 4  # of a window's row, in an instruction
MOST_TAPS = 2 * TAPS
_WEIGHTS = 112  # registers of a thread for weights


@dataclass(frozen=True)
class Work:
    """What warps have: ``parts`` of the columns, of each so many ``groups`` of 8; ``steps`` instructions for each."""

    steps: int
    parts: int
    groups: int

    @classmethod
    def of(cls, g: Geometry, columns: int) -> Work | None:
        """None where registers do not hold the weights."""
        steps, eights = g.rows.window * (taps_of(g) // TAPS), -(-columns // 8)
        for parts in (1, 2, 4):
            groups = next((n for n in (1, 2, 4, 8) if n * parts >= eights), 0)
            if groups and 2 * groups * steps <= _WEIGHTS:
                return cls(steps, parts, groups)
        return None

    @property
    def blocks(self) -> tuple[int, ...]:
        """Blocks on a multiprocessor, whose registers they share: for weights, for sums, and to read ahead."""
        return (2, 4) if 2 * self.groups * self.steps <= _WEIGHTS // 2 else (2, 3)

    @property
    def own(self) -> int:
        """Columns of a thread, which follow each other."""
        return 2 * self.groups

    @property
    def columns(self) -> int:
        """Of all parts, those without weights included."""
        return 8 * self.groups * self.parts

    def order(self) -> list[int]:
        """Which column of a part's result each column of its products is: those of thread l are 8 j + 2 l and
        8 j + 2 l + 1, for all j."""
        return [self.own * (c % 8 // 2) + c // 8 * 2 + c % 2 for c in range(8 * self.groups)]


def taps_of(g: Geometry) -> int:
    """Of a window's row, those without weight included."""
    return -(-g.columns.window // TAPS) * TAPS


def packed_filters(filters: Array, work: Work, narrow: Narrow) -> Array:
    """Of filters [columns, channels, R, S] the words that threads hold, [parts, R, halves, groups, 2, 32] of two."""
    columns, channels, down, across = filters.shape
    spread = ((0, work.columns - columns), (0, CHANNELS - channels), (0, 0), (0, -across % TAPS))
    taps = narrow.rounded(np.pad(filters, spread)).reshape(work.parts, -1, CHANNELS, down, work.steps // down, TAPS)
    k = taps[:, work.order()].transpose(0, 3, 4, 1, 5, 2)  # parts, R, halves, columns, taps, channels
    lanes = k.reshape(*k.shape[:3], work.groups, 8, 2, 4, 2).swapaxes(4, 5)  # groups, two of k, columns, lanes, pairs
    return np.ascontiguousarray(lanes).view(np.uint32).reshape(*k.shape[:3], work.groups, 2, 32)


def source(
    g: Geometry, patch: Patch, work: Work, columns: int, tail: tuple[Sequence[str], str], parameters: Sequence[str]
) -> str:
    """The instructions and the function ``kernel``. columns: as they are stored; tail: what follows value ``v``."""
    bounds = f"__launch_bounds__({patch.threads}, {patch.blocks})"
    halves = work.steps // g.rows.window
    _, across = patch.read(g)
    return f"""{MULTIPLY}
extern "C" __global__ void {bounds} kernel({", ".join(parameters)}) {{
    extern __shared__ unsigned char raw[];
    uint2 *const patch = (uint2 *)raw;
    begin_next();
    const int t = threadIdx.x, warp = t / 32, lane = t % 32, g = lane / 4, l = lane % 4, part = warp % {work.parts};
    const int n0 = part * {8 * work.groups} + l * {work.own};
    {_held(work)}
    wait_before();
    for (int tile = blockIdx.x; tile < {patch.tiles(g)}; tile += {patch.grid(g)}) {{
        {where(g, patch)}
        __syncthreads();
        {read_pixels(g, patch, _pixel(g))}
        __syncthreads();
        _Pragma("unroll 1") for (
            int piece = warp / {work.parts}; piece < {patch.rows * (patch.columns // PIXELS)};
            piece += {WARPS // work.parts}
        ) {{
            const int p = piece / {patch.columns // PIXELS}, q = piece % {patch.columns // PIXELS} * {PIXELS};
            const uint2 *const first = patch + p * {g.rows.stride * across} + (q + g) * {g.columns.stride};
            float sums[{work.groups}][4] = {{}};
            _Pragma("unroll") for (int r = 0; r < {g.rows.window}; ++r)
                _Pragma("unroll") for (int half = 0; half < {halves}; ++half) {{
                    const unsigned *const at = (const unsigned *)(first + r * {across} + half * {TAPS}) + l;
                    const uint4 a = make_uint4(
                        at[0], at[{16 * g.columns.stride}], at[{TAPS}], at[{16 * g.columns.stride + TAPS}]);
                    _Pragma("unroll") for (int j = 0; j < {work.groups}; ++j)
                        multiply(sums[j], a, held[r * {halves} + half][j][0], held[r * {halves} + half][j][1]);
                }}
            {_written(g, work, columns, tail)}
        }}
    }}
}}
"""


def _held(work: Work) -> str:
    """Weights and bias, while earlier kernels still run."""
    return f"""unsigned held[{work.steps}][{work.groups}][2]; float added[{work.own}];
    _Pragma("unroll") for (int s = 0; s < {work.steps}; ++s)
        _Pragma("unroll") for (int j = 0; j < {work.groups}; ++j)
            _Pragma("unroll") for (int h = 0; h < 2; ++h)
                held[s][j][h] = filters[(((part * {work.steps} + s) * {work.groups} + j) * 2 + h) * 32 + lane];
    _Pragma("unroll") for (int i = 0; i < {work.own}; ++i) added[i] = bias[n0 + i];"""


def _pixel(g: Geometry) -> Pixel:
    """Four channels as two words of two."""
    values = [*(f"to_narrow(raw[b][{c}])" for c in range(g.channels)), *["0"] * (CHANNELS - g.channels)]
    words = (f"(unsigned){values[i]} | (unsigned){values[i + 1]} << 16" for i in (0, 2))
    return Pixel("float", "", f"make_uint2({', '.join(words)})", "make_uint2(0, 0)")


def _written(g: Geometry, work: Work, columns: int, tail: tuple[Sequence[str], str]) -> str:
    """The thread's columns of two pixels, up to eight at a time."""
    lines, value = tail
    wide = min(8, work.own)
    return f"""_Pragma("unroll") for (int h = 0; h < 2; ++h) {{
                const int y = p0 + p, x = q0 + q + g + 8 * h;
                if (y >= {g.rows.positions} || x >= {g.columns.positions}) continue;
                narrow_t *const to = out
                    + ((long long)(image * {g.rows.positions} + y) * {g.columns.positions} + x) * out_pitch + n0;
                _Pragma("unroll") for (int k = 0; k < {work.own}; k += {wide}) {{
                    if (n0 + k >= {columns}) break;
                    Vec<narrow_t, {wide}> o;
                    _Pragma("unroll") for (int i = k; i < k + {wide}; ++i) {{
                        const float v = sums[i / 2][2 * h + i % 2] + added[i];
                        {" ".join(lines)} o.e[i - k] = to_narrow({value});
                    }}
                    put(to + k, o);
                }}
            }}"""
