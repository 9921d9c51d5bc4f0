"""Maxima over windows with channels innermost: a thread has 16 bytes of channels of a few positions of a row.

Bytes are compared two at once, as the upper halves of 16 bits: what lies below them decides nothing. Positions outside
of the image are those at its edge where a window reaches that, for a maximum may see an element twice.
"""

from __future__ import annotations

from math import prod
from typing import Any

from tenonrt.contracts import TensorType

from tenonrt_kernel_nvrtc.kernel import grid
from tenonrt_kernel_nvrtc.storage import C_TYPES, ROUNDING, Axes, item_bytes, stored
from tenonrt_kernel_nvrtc.windows import Window

BLOCK = 128
# The larger of pairs, which the hardware compares at once; of halves, a NaN is larger than all.
_LARGER = {"float16": "larger_halves", "bfloat16": "larger_bfloats", "int8": "__vmaxs2", "uint8": "__vmaxu2"}
_UNROLLED = 128  # elements of windows that are read without a loop
_LEAST = {"float16": "0xfc00fc00u", "bfloat16": "0xff80ff80u", "int8": "0x80808080u", "uint8": "0u"}


def vector_bytes(type: TensorType) -> int:
    """Bytes of channels that a thread has, of an image with channels innermost."""
    return 16 if Axes.of(type).sizes[-1] * item_bytes(stored(type)) % 16 == 0 else 8


def maxima(
    source: TensorType, result: TensorType, rows: Window, columns: Window, across: int, pitched: bool
) -> tuple[str, dict[str, Any]]:
    """The kernel; ``across`` positions of a row for each thread."""
    dtype, width = stored(source), Axes.of(source).sizes[-1]
    ctype, words = C_TYPES[dtype], vector_bytes(source) // 4
    vector = 4 * words // item_bytes(dtype)
    groups, strips = width // vector, -(-columns.positions // across)
    count = prod((result.concrete({})[0], rows.positions, strips, groups))
    span = (across - 1) * columns.stride + (columns.window - 1) * columns.dilation + 1
    sides, once = 1 if dtype in ROUNDING else 2, "" if rows.window * span <= _UNROLLED else " 1"
    lines = [
        *([] if pitched else [f"const int out_pitch = {width}, x_pitch = {width};"]),
        "int t = blockIdx.x * blockDim.x + threadIdx.x;",
        f"if (t >= {count}) return;",
        f"const int c = t % {groups} * {vector}; t /= {groups};",
        f"const int q0 = t % {strips} * {across}; t /= {strips};",
        f"const int p = t % {rows.positions}, n = t / {rows.positions};",
        f"unsigned m[{across}][{words}][{sides}];",
        _each("k", across, _each("w", words, _each("b", sides, f"m[k][w][b] = {_LEAST[dtype]};"))),
        f'_Pragma("unroll{once}") for (int u = 0; u < {span}; ++u) {{',
        *_column(dtype, ctype, rows, columns, words, once),
        _each("k", across, _member(columns) + _each("w", words, _each("b", sides, _taken(dtype, "m[k]", "l")))),
        "}",
        f"_Pragma(\"unroll\") for (int k = 0; k < {across}; ++k) if (q0 + k < {columns.positions}) {{",
        f"Vec<unsigned, {words}> o;",
        _each("w", words, _joined(dtype)),
        f"const long long to = (long long)(n * {rows.positions} + p) * {columns.positions} + q0 + k;",
        "put((unsigned *)(out + to * out_pitch + c), o); }",
    ]  # fmt: skip
    numbers = ", int out_pitch, int x_pitch" if pitched else ""
    body = "\n    ".join(lines)
    text = f'extern "C" __global__ void kernel({ctype} *out, const {ctype} *x{numbers}) {{\n    {body}\n}}\n'
    return text, {"grid": grid(count, BLOCK), "block": (BLOCK,), "pitches": (0, 1) if pitched else ()}


def _each(name: str, count: int, body: str, once: str = "") -> str:
    return f'_Pragma("unroll{once}") for (int {name} = 0; {name} < {count}; ++{name}) {{ {body} }}'


def _column(dtype: str, ctype: str, rows: Window, columns: Window, words: int, once: str) -> list[str]:
    """l: the largest of the elements below each other in column u of the windows."""
    sides = 1 if dtype in ROUNDING else 2
    fetched = (
        f"fetch<unsigned, {words}>((const unsigned *)(x + ((long long)(n * {rows.size} + y) * {columns.size} + s)"
        " * x_pitch + c))"
    )
    x = _place("s", f"q0 * {columns.stride} - {columns.before} + u", columns)
    y = _place("y", f"p * {rows.stride} - {rows.before} + r * {rows.dilation}", rows)
    inside = " && ".join(
        f"{name} >= 0 && {name} < {axis.size}" for name, axis in (("s", columns), ("y", rows)) if not _clamps(axis)
    )
    least = f"Vec<unsigned, {words}> e; {_each('w', words, f'e.e[w] = {_LEAST[dtype]};')}"
    load = f"{least} if ({inside}) e = {fetched};" if inside else f"const auto e = {fetched};"
    update = _each("w", words, _each("b", sides, "const unsigned v = b ? e.e[w] << 8 : e.e[w]; "
                                     f"l[w][b] = r ? {_LARGER[dtype]}(l[w][b], v) : v;"))  # fmt: skip
    return [f"unsigned l[{words}][{sides}]; {x}", _each("r", rows.window, f"{y} {load} {update}", once)]


def _clamps(axis: Window) -> bool:
    """Whether each window has the edge of the image in it wherever it is partly outside of it."""
    last = (axis.positions - 1) * axis.stride - axis.before
    return axis.dilation == 1 and axis.before < axis.window and last < axis.size


def _place(name: str, position: str, axis: Window) -> str:
    if not _clamps(axis):
        return f"const int {name} = {position};"
    return f"int {name} = {position}; {name} = {name} < 0 ? 0 : {name} >= {axis.size} ? {axis.size - 1} : {name};"


def _member(columns: Window) -> str:
    """Leaves out the columns that are not of a position's window."""
    inside = f"const int d = u - k * {columns.stride}; if (d < 0 || d / {columns.dilation} >= {columns.window}"
    return f"{inside}{f' || d % {columns.dilation}' if columns.dilation > 1 else ''}) continue; "


def _taken(dtype: str, into: str, what: str) -> str:
    return f"{into}[w][b] = {_LARGER[dtype]}({into}[w][b], {what}[w][b]);"


def _joined(dtype: str) -> str:
    if dtype in ROUNDING:
        return "o.e[w] = m[k][w][0];"
    return "o.e[w] = (m[k][w][0] & 0xff00ff00u) | (m[k][w][1] >> 8 & 0x00ff00ffu);"
