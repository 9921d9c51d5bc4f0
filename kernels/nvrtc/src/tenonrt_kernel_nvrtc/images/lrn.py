"""Local response normalization, in one pass over channels that are innermost.

Powers are the hardware's, of a logarithm: 1e-6 off at most where the base is 1 or more, and a tenth of the instructions
of an exact one, which took three times as long as memory does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenonrt.contracts import Problem, Tactic

from tenonrt_kernel_nvrtc.expressions import literal
from tenonrt_kernel_nvrtc.kernel import CudaKernel, grid
from tenonrt_kernel_nvrtc.maps import BLOCK
from tenonrt_kernel_nvrtc.storage import Narrow

_MOST_ON_A_SIDE = 8  # channels: a thread reads its group of eight and the two beside it


class LrnKernel(CudaKernel):
    """LRN of images, windows of up to 16 channels."""

    def refuses(self, problem: Problem) -> str:
        if problem.kinds != ("LRN",):
            return "no local response normalization"
        type = problem.types[problem.layer.inputs[0]]
        if type.rank != 4 or type.dtype != "float32" or not type.size or not problem.activations:
            return "no image of float32"
        window = problem.layer.attrs.window
        return "" if window // 2 <= _MOST_ON_A_SIDE else f"a window of {window} channels"

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        return [
            Tactic(n.key("nhwc"), (n.channels_8,), (n.channels_8,), n.dtype, reads_strided=(0,), writes_strided=(0,))
            for n in narrow
        ]

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        images, channels, height, width = problem.types[problem.outputs[0]].concrete({})
        groups = -(-channels // 8)
        count = images * height * width * groups
        a = problem.layer.attrs
        before, after = (a.window - 1) // 2, a.window // 2
        body = f"""
    const int t = blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= {count}) return;
    const int c = t % {groups} * 8; const long long pixel = t / {groups};
    const narrow_t *from = x + pixel * x_pitch;
    float v[24];
    #pragma unroll
    for (int g = 0; g < 3; ++g) {{
        const int at = c + (g - 1) * 8;
        Vec<narrow_t, 8> e{{}};
        if (at >= 0 && at < {groups * 8}) e = fetch<narrow_t, 8>(from + at);
        for (int j = 0; j < 8; ++j) v[g * 8 + j] = at + j < {channels} ? to_float(e.e[j]) : 0.f;
    }}
    Vec<narrow_t, 8> o;
    #pragma unroll
    for (int j = 0; j < 8; ++j) {{
        float s = 0.f;
        #pragma unroll
        for (int d = -{before}; d <= {after}; ++d) s += v[8 + j + d] * v[8 + j + d];
        o.e[j] = to_narrow(v[8 + j] * power_of({literal(a.k)} + {literal(a.alpha / a.window)} * s, {literal(-a.beta)}));
    }}
    put(out + pixel * out_pitch + c, o);
"""
        parameters = "narrow_t *out, const narrow_t *x, int out_pitch, int x_pitch"
        text = f'extern "C" __global__ void kernel({parameters}) {{{body}}}\n'
        return text, {"grid": grid(count, BLOCK), "block": (BLOCK,), "pitches": (0, 1)}
