"""Resize: elements repeated, or sums of a few of them by weights from tables, along any axes.

A thread has neighbours of an axis that stays as it is, 8 channels of a pixel above all, or one element.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from tenonrt.contracts import LINEAR, NHWC, Array, Code, Problem, ResizedAxis, Tactic, TensorType, Weights

from tenonrt_kernel_nvrtc.expressions import literal
from tenonrt_kernel_nvrtc.images.sampling_axes import Taps, axes_of, taps_of
from tenonrt_kernel_nvrtc.kernel import CudaKernel, grid
from tenonrt_kernel_nvrtc.maps import BLOCK
from tenonrt_kernel_nvrtc.storage import C_TYPES, Axes, Narrow, is_real, item_bytes, read, shape_of, stored, write

_WIDEST = 16  # bytes that a thread writes at once
_MOST_TAPS = 64  # elements that are read for one: more are another kernel's


class ResizeKernel(CudaKernel):
    """Nearest elements of any type; linear and cubic sums of float32, also stretched over axes that shrink."""

    def refuses(self, problem: Problem) -> str:
        attrs, type = problem.layer.attrs, problem.types[problem.layer.inputs[0]]
        if len(problem.layers) != 1 or problem.activations != (problem.layer.inputs[0],):
            return "more layers, or another input that is computed"
        if (attrs.mode != "nearest" or attrs.coordinate_transformation == "tf_crop_and_resize") and (
            type.dtype != "float32"
        ):
            return f"{attrs.mode} of {type.dtype}"
        if not type.size or not problem.types[problem.outputs[0]].size:
            return "nothing to compute"
        axes = axes_of(problem)
        if isinstance(axes, str):
            return axes
        taps = prod(taps_of(axis, attrs).count for axis in axes)
        return "" if taps <= _MOST_TAPS else f"{taps} elements make one"

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        type = problem.types[problem.outputs[0]]
        found = [Tactic("linear", (LINEAR,), (LINEAR,))]
        images = type.rank == 4 and all(axis.axis != 1 for axis in _axes(problem))
        if not is_real(type.dtype):
            return [*found, Tactic("channels", (NHWC,), (NHWC,))] if images else found
        for n in narrow:
            found.append(Tactic(n.key("half"), (n.rows,), (n.rows,), n.dtype))
            if images:
                pixels = (n.channels_8,)
                found.append(
                    Tactic(n.key("channels"), pixels, pixels, n.dtype, reads_strided=(0,), writes_strided=(0,))
                )
        return found

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        sizes = [problem.types[i].nbytes for i in (problem.layer.inputs[0], problem.outputs[0])]
        return 2e-6 + sum(size for size in sizes if isinstance(size, int)) / (
            3e12 if shape_of(tactic) == "channels" else 1e12
        )

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Of each axis: elements [resized, taps], where outside -1, and weights likewise where there are several."""
        attrs, packed = code.problem.layer.attrs, list[Array]()
        for axis in _axes(code.problem):
            taps = taps_of(axis, attrs)
            packed.append(np.where(taps.outside[:, None], np.int32(-1), taps.elements))
            if attrs.mode != "nearest":
                packed.append(taps.weights)
        return packed

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        source = problem.types[problem.layer.inputs[0]].stored_as(tactic.input_format(0))
        result = problem.types[problem.outputs[0]].stored_as(tactic.output_format(0))
        pitched = bool(tactic.writes_strided)
        writer = _Writer(problem, source, result, pitched)
        ctype = C_TYPES[stored(result)]
        tables = [
            f"const {kind} *{name}{axis.axis}"
            for axis in writer.axes
            for kind, name in (("int", "element"), *([] if writer.copies else [("float", "weight")]))
        ]
        pitches = ["int out_pitch", "int x_pitch"] if pitched else []
        parameters = ", ".join([f"{ctype} *out", f"const {ctype} *x", *tables, *pitches])
        body = "\n    ".join(writer.lines())
        return f'extern "C" __global__ void kernel({parameters}) {{\n    {body}\n}}\n', {
            "grid": grid(writer.threads, BLOCK), "block": (BLOCK,), "pitches": (0, 1) if pitched else (),
        }  # fmt: skip


def _axes(problem: Problem) -> list[ResizedAxis]:
    found = axes_of(problem)
    assert not isinstance(found, str), found
    return found


class _Writer:
    """Writes the lines of one kernel."""

    def __init__(self, problem: Problem, source: TensorType, result: TensorType, pitched: bool) -> None:
        self.attrs = problem.layer.attrs
        self.axes = _axes(problem)
        self.taps: dict[int, Taps] = {axis.axis: taps_of(axis, self.attrs) for axis in self.axes}
        self.copies = self.attrs.mode == "nearest"
        self.dtype, self.pitched = stored(result), pitched
        self.source, self.result = Axes.of(source), Axes.of(result)
        self.vector, self.channels = 1, result.concrete({})[1] if pitched else 0
        inner = self.result.order[-1] if self.result.order else None
        if inner is not None and inner not in self.taps:
            self.vector = _WIDEST // item_bytes(self.dtype)
            while self.result.sizes[-1] % self.vector:
                self.vector //= 2

    @property
    def threads(self) -> int:
        return prod(self.result.sizes) // self.vector

    def lines(self) -> list[str]:
        ctype, v = C_TYPES[self.dtype], self.vector
        lines = ["int t = blockIdx.x * blockDim.x + threadIdx.x;", f"if (t >= {self.threads}) return;"]
        lines += self._coordinates()
        outside = [f"element{n}[c{n} * {taps.count}] < 0" for n, taps in self.taps.items() if taps.outside.any()]
        loop = '_Pragma("unroll") for (int'
        at = f"fetch<{ctype}, {v}>(x + {self._source_offset()})"
        if self.copies:
            taking = [f"const int i{n} = element{n}[c{n}];" for n in self.taps] + [f"o = {at};"]
        else:
            taking = [f"float a[{v}] = {{}};"]
            for n, taps in self.taps.items():
                taking.append(f"{loop} k{n} = 0; k{n} < {taps.count}; ++k{n}) {{")
                taking.append(f"const int i{n} = element{n}[c{n} * {taps.count} + k{n}];")
            weight = " * ".join(f"weight{n}[c{n} * {taps.count} + k{n}]" for n, taps in self.taps.items()) or "1.f"
            taking.append(f"const float w = {weight}; const auto e = {at};")
            taking.append(f"{loop} j = 0; j < {v}; ++j) a[j] += {read(self.dtype, 'e.e[j]')} * w;")
            taking.append("}" * len(self.taps))
            taking.append(f"{loop} j = 0; j < {v}; ++j) o.e[j] = {write(self.dtype, 'a[j]')};")
        lines.append(f"Vec<{ctype}, {v}> o;")
        if outside:
            fill = write(self.dtype, literal(self.attrs.extrapolation))
            there = f"c1 + j < {self.channels} ? {fill} : 0" if self.pitched else fill
            lines += [f"if ({' || '.join(outside)}) {{", f"{loop} j = 0; j < {v}; ++j) o.e[j] = {there};", "} else {"]
        return [*lines, *taking, *(["}"] if outside else []), f"put(out + {self._result_offset()}, o);"]

    def _coordinates(self) -> list[str]:
        """c0, c1, ...: where a thread's first element is; ``pixel``: which pixel of all that is, channels innermost."""
        order, sizes = self.result.order, self.result.sizes
        lines = [] if order else ["const int at = 0;"]
        for position in range(len(order) - 1, -1, -1):
            size = sizes[position]
            inner = position == len(order) - 1
            count, scale = (size // self.vector, f" * {self.vector}") if inner else (size, "")
            if inner:
                lines.append(f"const int c{order[position]} = t % {count}{scale}; t /= {count}; const int pixel = t;")
            else:
                lines.append(f"const int c{order[position]} = {f't % {count}; t /= {count};' if position else 't;'}")
        return lines

    def _result_offset(self) -> str:
        if not self.result.order:
            return "0"
        inner = self.result.order[-1]
        width = "out_pitch" if self.pitched else str(self.result.sizes[-1])
        return f"(long long)pixel * {width} + c{inner}"

    def _source_offset(self) -> str:
        """Sums over the axes; of a pitched source in pixels first."""
        if not self.source.order:
            return "0"
        inner, width = self.source.order[-1], self.source.sizes[-1]
        index = {axis: f"i{axis}" if axis in self.taps else f"c{axis}" for axis in self.source.order}
        pixels = [f"{index[axis]} * {self.source.strides[axis] // width}" for axis in self.source.order[:-1]]
        pixel = f"({' + '.join(pixels) or '0'})"
        return f"(long long){pixel} * {'x_pitch' if self.pitched else width} + {index[inner]}"
