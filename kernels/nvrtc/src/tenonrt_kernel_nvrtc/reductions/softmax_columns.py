"""Softmax along an axis that others lie inside of: a thread has a few columns, and neighbours read what lies together.

Columns are kept in registers where they fit, and read three times otherwise. Images whose channels are summed over can
be written with channels innermost, as convolutions read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from tenonrt.contracts import LINEAR, Problem, Tactic

from tenonrt_kernel_nvrtc.kernel import CudaKernel, grid
from tenonrt_kernel_nvrtc.storage import C_TYPES, Narrow, read, stored, write

_BLOCK = 128
_KEPT = 128  # elements that a thread keeps
_WIDTHS = (8, 4, 2, 1)  # columns of a thread


class SoftmaxColumnsKernel(CudaKernel):
    """Any axis but the last, of any length."""

    def refuses(self, problem: Problem) -> str:
        type = problem.types[problem.layer.inputs[0]]
        if len(problem.layers) != 1 or problem.layer.attrs.log or type.dtype != "float32" or not problem.activations:
            return "another function, element type or region"
        if not type.size or problem.layer.attrs.axis % type.rank == type.rank - 1:
            return "the last axis, or nothing to compute"
        return ""

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        type, (_, length, inner) = problem.types[problem.layer.inputs[0]], _sizes(problem)
        pixels = type.rank == 4 and problem.layer.attrs.axis % type.rank == 1 and length <= _KEPT
        targets = [(LINEAR, LINEAR, "float32")]
        for n in narrow:
            targets.append((n.rows, n.rows, n.dtype))
            targets += [(rows, n.channels_8, n.dtype) for rows in (LINEAR, n.rows) if pixels]
        return [
            Tactic(f"{source}>{target}:{width}", (source,), (target,), precision,
                   inplace=((0, 0),) if source == target and length * width <= _KEPT else (),
                   writes_strided=(0,) if target.blocks else ())
            for source, target, precision in targets
            for width in _widths(length, inner, 4 if source == LINEAR else 2)
        ]  # fmt: skip

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        size = problem.types[problem.layer.inputs[0]].nbytes
        return 2e-6 + (size if isinstance(size, int) else 0) / 2e12

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        source = problem.types[problem.layer.inputs[0]].stored_as(tactic.input_format(0))
        result = problem.types[problem.outputs[0]].stored_as(tactic.output_format(0))
        outer, length, inner = _sizes(problem)
        width, pitched = int(tactic.key.rpartition(":")[2]), bool(tactic.writes_strided)
        dtype, made, count = stored(source), stored(result), outer * inner // width
        loads = f"fetch<{C_TYPES[dtype]}, {width}>(x + ((long long)o * {length} + k) * {inner} + i)"
        lines = [
            "const int t = blockIdx.x * blockDim.x + threadIdx.x;",
            f"if (t >= {count}) return;",
            f"const int i = t % {inner // width} * {width}, o = t / {inner // width};",
            f"float m[{width}], s[{width}];",
            _each("j", width, "m[j] = -infinity(); s[j] = 0.f;"),
        ]
        lines += _kept(loads, dtype, length, width) if length * width <= _KEPT else _again(loads, dtype, length, width)
        lines.append(_each("j", width, "s[j] = 1.f / s[j];"))
        lines += _as_pixels(length, width, inner) if pitched else _as_columns(length, width, inner, made, dtype, loads)
        body = "\n    ".join(lines)
        pitch = ", int out_pitch" if pitched else ""
        head = f'extern "C" __global__ void kernel({C_TYPES[made]} *out, const {C_TYPES[dtype]} *x{pitch})'
        return f"{head} {{\n    {body}\n}}\n", {
            "grid": grid(count, _BLOCK), "block": (_BLOCK,), "pitches": (0,) if pitched else (),
        }  # fmt: skip


def _sizes(problem: Problem) -> tuple[int, int, int]:
    """Elements outside of the axis, along it and inside of it."""
    shape = problem.types[problem.layer.inputs[0]].concrete({})
    axis = problem.layer.attrs.axis % len(shape)
    return prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])


def _widths(length: int, inner: int, size: int) -> list[int]:
    """Columns of a thread that divide what there is, at most 16 bytes: the most that it can keep, and one."""
    fit = [w for w in _WIDTHS if inner % w == 0 and w * size <= 16 and (w == 1 or length * w <= _KEPT)]
    return list(dict.fromkeys((fit[0], fit[len(fit) // 2], fit[-1])))


def _each(name: str, count: int, body: str, unroll: str = "") -> str:
    return f'_Pragma("unroll{unroll}") for (int {name} = 0; {name} < {count}; ++{name}) {{ {body} }}'


def _kept(loads: str, dtype: str, length: int, width: int) -> list[str]:
    element = _each("j", width, f"v[k][j] = {read(dtype, 'e.e[j]')}; m[j] = larger(m[j], v[k][j]);")
    powers = _each("j", width, "v[k][j] = expf(v[k][j] - m[j]); s[j] += v[k][j];")
    return [
        f"float v[{length}][{width}];",
        _each("k", length, f"const auto e = {loads}; {element}"),
        _each("k", length, powers),
    ]


def _again(loads: str, dtype: str, length: int, width: int) -> list[str]:
    value = read(dtype, "e.e[j]")
    return [
        _each("k", length, f"const auto e = {loads}; " + _each("j", width, f"m[j] = larger(m[j], {value});"), " 4"),
        _each("k", length, f"const auto e = {loads}; " + _each("j", width, f"s[j] += expf({value} - m[j]);"), " 4"),
    ]


def _as_columns(length: int, width: int, inner: int, made: str, dtype: str, loads: str) -> list[str]:
    """Where they were read."""
    kept = length * width <= _KEPT
    power = "v[k][j]" if kept else f"expf({read(dtype, 'e.e[j]')} - m[j])"
    element = _each("j", width, f"p.e[j] = {write(made, f'{power} * s[j]')};")
    store = f"put(out + ((long long)o * {length} + k) * {inner} + i, p);"
    again = "" if kept else f"const auto e = {loads}; "
    return [_each("k", length, f"{again}Vec<{C_TYPES[made]}, {width}> p; {element} {store}", "" if kept else " 4")]


def _as_pixels(length: int, width: int, inner: int) -> list[str]:
    """The channels of a pixel beside each other, padded with zeros."""
    element = f"p.e[l] = k + l < {length} ? to_narrow(v[k + l < {length} ? k + l : 0][j] * s[j]) : (narrow_t)0;"
    store = f"put(out + ((long long)o * {inner} + i + j) * out_pitch + k, p);"
    pieces = f'_Pragma("unroll") for (int k = 0; k < {length}; k += 8) {{ Vec<narrow_t, 8> p; {_each("l", 8, element)}'
    return [_each("j", width, f"{pieces} {store} }}")]
