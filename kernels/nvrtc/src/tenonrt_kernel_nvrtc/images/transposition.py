"""Images between channels outermost and channels innermost: a thread turns 8 channels of 8 pixels in registers.

Lanes lie so that what a warp reads or writes at once are whole sectors of 32 bytes, whichever side is innermost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenonrt.contracts import LINEAR, Format, Problem, Tactic, TensorType

from tenonrt_kernel_nvrtc.kernel import CudaKernel, grid
from tenonrt_kernel_nvrtc.storage import C_TYPES, NARROW, ROUNDING, Narrow, read, stored, write

_BLOCK, _SIDE = 128, 8
_BESIDE = 4  # groups of channels that neighbouring threads have, before the next pixels come


class TranspositionKernel(CudaKernel):
    """Between rows, narrow or in single precision, and narrow channels innermost, whose images may be slices."""

    def refuses(self, problem: Problem) -> str:
        if problem.layer.kind != "Reformat" or len(problem.layers) != 1:
            return "no change of format"
        attrs, type = problem.layer.attrs, problem.types[problem.layer.inputs[0]]
        narrow = next((n for n in NARROW if n.channels_8 in (attrs.source, attrs.target)), None)
        if narrow is None or type.dtype != "float32" or _rows(attrs, narrow) not in (LINEAR, narrow.rows):
            return "other formats or element types"
        shape = type.concrete({})
        if len(shape) != 4 or not type.size or shape[2] * shape[3] % _SIDE:
            return "images of a number of pixels that is no multiple of 8"
        return ""

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        attrs = problem.layer.attrs
        reads, writes = ((0,), ()) if attrs.source.blocks else ((), (0,))
        return [
            Tactic("turned", (attrs.source,), (attrs.target,), n.dtype, reads_strided=reads, writes_strided=writes)
            for n in narrow
            if n.channels_8 in (attrs.source, attrs.target)
        ]

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        size = problem.types[problem.layer.inputs[0]].nbytes
        return 2e-6 + (size if isinstance(size, int) else 0) / 3e12

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        outwards = bool(tactic.input_format(0).blocks)
        source = problem.types[problem.layer.inputs[0]].stored_as(tactic.input_format(0))
        result = problem.types[problem.outputs[0]].stored_as(tactic.output_format(0))
        images, channels, height, width = source.concrete({})
        pixels, groups = height * width, -(-channels // _SIDE)
        beside = min(_BESIDE, groups)
        count = images * -(-groups // beside) * (pixels // _SIDE) * beside
        place = [
            "int t = blockIdx.x * blockDim.x + threadIdx.x;",
            f"if (t >= {count}) return;",
            f"const int near = t % {beside}; t /= {beside};",
            f"const int pixel = t % {pixels // _SIDE} * {_SIDE}; t /= {pixels // _SIDE};",
            f"const int c = (t % {-(-groups // beside)} * {beside} + near) * {_SIDE}, n = t / {-(-groups // beside)};",
            f"if (c >= {groups * _SIDE}) return;",
        ]
        work = _outwards(result, channels, pixels) if outwards else _inwards(source, channels, pixels)
        body = "\n    ".join([*place, *work])
        pitch = "x_pitch" if outwards else "out_pitch"
        head = f"{C_TYPES[stored(result)]} *out, const {C_TYPES[stored(source)]} *x, int {pitch}"
        return f'extern "C" __global__ void kernel({head}) {{\n    {body}\n}}\n', {
            "grid": grid(count, _BLOCK), "block": (_BLOCK,), "pitches": (1 if outwards else 0,),
        }  # fmt: skip


def _rows(attrs: Any, narrow: Narrow) -> Format:
    """The format of the two that has channels outermost."""
    found: Format = attrs.target if attrs.source == narrow.channels_8 else attrs.source
    return found


def _each(name: str, body: str) -> str:
    return f'_Pragma("unroll") for (int {name} = 0; {name} < {_SIDE}; ++{name}) {{ {body} }}'


def _outwards(result: TensorType, channels: int, pixels: int) -> list[str]:
    """To rows: what is read of a pixel are 16 bytes, what is written of a channel 8 pixels."""
    dtype = stored(result)
    element = "e[j].e[k]" if dtype in ROUNDING else write(dtype, "to_float(e[j].e[k])")
    return [
        f"Vec<narrow_t, {_SIDE}> e[{_SIDE}];",
        _each("j", f"e[j] = fetch<narrow_t, {_SIDE}>(x + (long long)(n * {pixels} + pixel + j) * x_pitch + c);"),
        _each("k", f"if (c + k < {channels}) {{ Vec<{C_TYPES[dtype]}, {_SIDE}> o; {_each('j', f'o.e[j] = {element};')} "
                   f"put(out + ((long long)n * {channels} + c + k) * {pixels} + pixel, o); }}"),
    ]  # fmt: skip


def _inwards(source: TensorType, channels: int, pixels: int) -> list[str]:
    """From rows; channels that are not there are zero."""
    dtype = stored(source)
    ctype = C_TYPES[dtype]
    element = "e[k].e[j]" if dtype in ROUNDING else f"to_narrow({read(dtype, 'e[k].e[j]')})"
    row = f"x + ((long long)n * {channels} + c + k) * {pixels} + pixel"
    return [
        f"Vec<{ctype}, {_SIDE}> e[{_SIDE}];",
        _each("k", f"e[k] = c + k < {channels} ? fetch<{ctype}, {_SIDE}>({row}) : Vec<{ctype}, {_SIDE}>{{}};"),
        _each("j", f"Vec<narrow_t, {_SIDE}> o; {_each('k', f'o.e[k] = {element};')} "
                   f"put(out + (long long)(n * {pixels} + pixel + j) * out_pitch + c, o);"),
    ]  # fmt: skip
