"""What a thread of a depthwise convolution does: 8 channels of a few positions of a row, and what follows them."""

from __future__ import annotations

from dataclasses import dataclass

from tenonrt.contracts import Problem

from tenonrt_kernel_nvrtc.tails import tail
from tenonrt_kernel_nvrtc.windows import Window, windows


@dataclass(frozen=True)
class Strip:
    """``positions`` beside each other; an image has ``count`` strips of each of its ``groups`` of 8 channels."""

    problem: Problem
    positions: int
    rows: Window
    columns: Window
    images: int
    groups: int

    @classmethod
    def of(cls, problem: Problem, positions: int) -> Strip:
        rows, columns = windows(problem, problem.types[problem.layer.inputs[1]].concrete({})[2:])
        images, channels = problem.types[problem.layer.outputs[0]].concrete({})[:2]
        return cls(problem, positions, rows, columns, images, -(-channels // 8))

    @property
    def across(self) -> int:
        """Strips of a row."""
        return -(-self.columns.positions // self.positions)

    @property
    def count(self) -> int:
        return self.rows.positions * self.across

    @property
    def span(self) -> int:
        """Columns that the windows of a strip read."""
        return (self.positions - 1) * self.columns.stride + (self.columns.window - 1) * self.columns.dilation + 1

    @property
    def instructions(self) -> int:
        """For a strip: products, and to read and convert what is multiplied."""
        read = 14 * self.span + 10 * self.columns.window
        return self.rows.window * (8 * self.positions * self.columns.window + read) + 64 * self.positions

    def lines(self, also: str = "") -> str:
        """C++ for the strip ``strip`` of image ``n``, channels ``c`` and after; ``also``: for each result ``o``."""
        rows, columns, positions, image = self.rows, self.columns, self.positions, self.problem.layer.inputs[0]
        return f"""const int q0 = strip % {self.across} * {positions}, p = strip / {self.across};
    float a[{positions}][8];
    #pragma unroll
    for (int k = 0; k < {positions}; ++k) for (int j = 0; j < 8; ++j) a[k][j] = bias[c + j];
    #pragma unroll
    for (int r = 0; r < {rows.window}; ++r) {{
        const int y = p * {rows.stride} - {rows.before} + r * {rows.dilation};
        float w[{columns.window}][8];
        #pragma unroll
        for (int s = 0; s < {columns.window}; ++s) {{
            const auto v = fetch<narrow_t, 8>(weights + (r * {columns.window} + s) * {self.groups * 8} + c);
            for (int j = 0; j < 8; ++j) w[s][j] = to_float(v.e[j]);
        }}
        #pragma unroll
        for (int u = 0; u < {self.span}; ++u) {{
            const int x = q0 * {columns.stride} - {columns.before} + u;
            const bool there = (unsigned)y < {rows.size}u && (unsigned)x < {columns.size}u;
            const long long from = (long long)(n * {rows.size} + y) * {columns.size} + x;
            Vec<unsigned, 4> e{{}};
            if (there) e = fetch<unsigned, 4>((const unsigned *)(x{image} + from * x{image}_pitch + c));
            float v[8];
            for (int j = 0; j < 8; ++j) v[j] = to_float((narrow_t)(j % 2 ? e.e[j / 2] >> 16 : e.e[j / 2]));
            #pragma unroll
            for (int k = 0; k < {positions}; ++k) {{
                const int d = u - k * {columns.stride};
                if (d < 0 || d % {columns.dilation} || d / {columns.dilation} >= {columns.window}) continue;
                for (int j = 0; j < 8; ++j) a[k][j] += v[j] * w[d / {columns.dilation}][j];
            }}
        }}
    }}
    {self._stored(also)}"""

    def _stored(self, also: str) -> str:
        problem, rows, columns = self.problem, self.rows, self.columns
        others = [f"x{n}" for n in problem.activations if n != problem.layer.inputs[0]]
        lines, value = tail(problem, {other: f"{other}_v" for other in others}, half=True)
        loads = " ".join(f"const auto {o}_p = fetch<narrow_t, 8>({o} + at * {o}_pitch + c);" for o in others)
        reads = " ".join(f"const float {o}_v = to_float({o}_p.e[j]);" for o in others)
        return f"""#pragma unroll
    for (int k = 0; k < {self.positions}; ++k) if (q0 + k < {columns.positions}) {{
        const long long at = (long long)(n * {rows.positions} + p) * {columns.positions} + q0 + k;
        Vec<narrow_t, 8> o; {loads}
        #pragma unroll
        for (int j = 0; j < 8; ++j) {{
            {reads} float y{problem.layer.outputs[0]} = a[k][j]; {" ".join(lines)} o.e[j] = to_narrow({value});
        }}
        put(out + at * out_pitch + c, o);
        {also}
    }}"""
