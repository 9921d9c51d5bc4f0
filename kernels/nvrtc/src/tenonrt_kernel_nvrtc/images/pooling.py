"""Pooling of images: a thread has a few channels of one position, or one element where channels are outermost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenonrt.contracts import BYTES, INTEGERS, LINEAR, NHWC, Problem, Tactic

from tenonrt_kernel_nvrtc.images.maxima import maxima
from tenonrt_kernel_nvrtc.kernel import CudaKernel, grid
from tenonrt_kernel_nvrtc.storage import C_TYPES, Axes, Narrow, read, shape_of, stored, write
from tenonrt_kernel_nvrtc.windows import Window, windows

_BLOCK = 128
_VECTOR = 8  # channels of a thread, where they are innermost
_ACROSS = (1, 2, 4)  # positions of a row for a thread that finds maxima


class PoolingKernel(CudaKernel):
    """Maxima and averages over windows of two axes; of bytes, maxima."""

    def refuses(self, problem: Problem) -> str:
        attrs, type = problem.layer.attrs, problem.types[problem.layer.inputs[0]]
        if len(problem.layers) != 1 or attrs.with_indices or attrs.function not in ("max", "average"):
            return "another function, indices, or more layers"
        if type.dtype in BYTES and attrs.function == "max" and type.rank == 4 and type.concrete({})[1] % _VECTOR:
            return f"bytes of channels that are no multiple of {_VECTOR}"
        taken = type.dtype == "float32" or (type.dtype in BYTES and attrs.function == "max")
        if type.rank != 4 or not taken or not problem.types[problem.outputs[0]].size or not type.size:
            return f"no image, or an empty one: {type}"
        return ""

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        dtype = problem.types[problem.layer.inputs[0]].dtype
        if dtype in BYTES:  # those that are floats are no pairs of integers
            keys = [f"nhwc:{across}" for across in _ACROSS] if dtype in INTEGERS else ["nhwc"]
            return [Tactic(key, (NHWC,), (NHWC,)) for key in keys]
        keys = ["nhwc"] if problem.layer.attrs.function != "max" else [f"nhwc:{across}" for across in _ACROSS]
        images = [
            Tactic(n.key(key), (n.channels_8,), (n.channels_8,), n.dtype, reads_strided=(0,), writes_strided=(0,))
            for n in narrow
            for key in keys
        ]
        return [*images, Tactic("nchw", (LINEAR,), (LINEAR,))]

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        sizes = [problem.types[i].nbytes for i in (problem.layer.inputs[0], problem.outputs[0])]
        return 2e-6 + sum(size for size in sizes if isinstance(size, int)) / (2e12 if tactic.key == "nchw" else 4e12)

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        attrs, channels = problem.layer.attrs, shape_of(tactic) == "nhwc"
        source = problem.types[problem.layer.inputs[0]].stored_as(tactic.input_format(0))
        result = problem.types[problem.outputs[0]].stored_as(tactic.output_format(0))
        rows, columns = windows(problem, attrs.window)
        if ":" in tactic.key:
            across = int(shape_of(tactic).partition(":")[2])
            return maxima(source, result, rows, columns, across, bool(tactic.writes_strided))
        vector = _VECTOR if channels else 1
        count = (
            result.concrete({})[0]
            * rows.positions
            * columns.positions
            * (Axes.of(result).sizes[-1] // vector if channels else result.concrete({})[1])
        )
        dtype, ctype = stored(source), C_TYPES[stored(source)]
        pitched = bool(tactic.writes_strided)
        numbers = ", int out_pitch, int x_pitch" if pitched else ""
        width = Axes.of(source).sizes[-1]
        lines = [
            *([f"const int out_pitch = {width}, x_pitch = {width};"] if channels and not pitched else []),
            *_position(result, channels, rows, columns, count),
            *_window(attrs, rows, columns, dtype, vector, channels),
        ]
        body = "\n    ".join(lines)
        text = f'extern "C" __global__ void kernel({ctype} *out, const {ctype} *x{numbers}) {{\n    {body}\n}}\n'
        return text, {"grid": grid(count, _BLOCK), "block": (_BLOCK,), "pitches": (0, 1) if pitched else ()}


def _position(result: Any, channels: bool, rows: Window, columns: Window, count: int) -> list[str]:
    """Which element a thread computes: n, c, p, q, and where it is."""
    lines = ["int t = blockIdx.x * blockDim.x + threadIdx.x;", f"if (t >= {count}) return;"]
    if channels:
        groups = Axes.of(result).sizes[-1] // _VECTOR
        lines += [f"const int c = t % {groups} * {_VECTOR}; const int pixel = t / {groups};",
                  f"const int q = pixel % {columns.positions}, p = pixel / {columns.positions} % {rows.positions};",
                  f"const int n = pixel / {columns.positions * rows.positions};",
                  "const long long to = (long long)pixel * out_pitch + c;"]  # fmt: skip
    else:
        lines += [f"const int q = t % {columns.positions}, p = t / {columns.positions} % {rows.positions};",
                  f"const int n = t / {columns.positions * rows.positions}; const int to = t;"]  # fmt: skip
    return lines


def _window(attrs: Any, rows: Window, columns: Window, dtype: str, vector: int, channels: bool) -> list[str]:
    """The elements of a window, one after the other, and the result."""
    ctype, maximum = C_TYPES[dtype], attrs.function == "max"
    start = "-infinity()" if maximum else "0.f"
    at = f"((long long)(n * {rows.size} + y) * {columns.size} + x_) * x_pitch + c"
    if not channels:
        at = f"((long long)n * {rows.size} + y) * {columns.size} + x_"
    update = "(v > a[j] || v != v) ? v : a[j]" if maximum else "a[j] + v"
    unrolled = '_Pragma("unroll") for (int'
    lines = [
        f"float a[{vector}]; for (int j = 0; j < {vector}; ++j) a[j] = {start};",
        f"const int y0 = p * {rows.stride} - {rows.before}, x0 = q * {columns.stride} - {columns.before};",
        f"{unrolled} r = 0; r < {rows.window}; ++r) {{ const int y = y0 + r * {rows.dilation};",
        f"if (y < 0 || y >= {rows.size}) continue;",
        f"{unrolled} s = 0; s < {columns.window}; ++s) {{ const int x_ = x0 + s * {columns.dilation};",
        f"if (x_ < 0 || x_ >= {columns.size}) continue;",
        f"const auto e = fetch<{ctype}, {vector}>(x + {at});",
        f"for (int j = 0; j < {vector}; ++j) {{ const float v = {read(dtype, 'e.e[j]')}; a[j] = {update}; }} }} }}",
    ]
    scale = "1.f"
    if not maximum:
        lines += [_extent("h", rows, "y0", attrs), _extent("w", columns, "x0", attrs)]
        lines.append("const float scale = 1.f / (h * w);")
        scale = "scale"
    lines.append(f"Vec<{ctype}, {vector}> o;")
    lines.append(f"for (int j = 0; j < {vector}; ++j) o.e[j] = {write(dtype, f'a[j] * {scale}')};")
    return [*lines, "put(out + to, o);"]


def _extent(name: str, axis: Window, start: str, attrs: Any) -> str:
    """How many elements an average divides by along an axis: those of the window that are in the (padded) input."""
    low, high = (-axis.before, axis.size + axis.after) if attrs.count_includes_padding else (0, axis.size)
    count = " + ".join(
        f"({start} + {k * axis.dilation} >= {low} && {start} + {k * axis.dilation} < {high})"
        for k in range(axis.window)
    )
    return f"const int {name} = {count};"
