"""What a thread of a depthwise convolution does: 8 channels of a few positions, and what follows them.

Positions of several rows share what their windows have in common: for two by two of them and windows of 3 by 3 a thread
reads and converts 16 pixels and 9 weights, for four of a row 18 and 9, for one of a row 9 and 9. All weights are in
registers then, of which large windows have too few.
"""

from __future__ import annotations

from dataclasses import dataclass

from tenonrt.contracts import Problem

from tenonrt_kernel_nvrtc.tails import tail
from tenonrt_kernel_nvrtc.windows import Window, windows


@dataclass(frozen=True)
class Strip:
    """``positions`` beside each other in ``heights`` rows; an image has ``count`` strips of each of its ``groups`` of 8
    channels."""

    problem: Problem
    positions: int
    heights: int
    rows: Window
    columns: Window
    images: int
    groups: int

    @classmethod
    def of(cls, problem: Problem, positions: int, heights: int = 1) -> Strip:
        rows, columns = windows(problem, problem.types[problem.layer.inputs[1]].concrete({})[2:])
        images, channels = problem.types[problem.layer.outputs[0]].concrete({})[:2]
        return cls(problem, positions, heights, rows, columns, images, -(-channels // 8))

    @property
    def across(self) -> int:
        """Strips of a row."""
        return -(-self.columns.positions // self.positions)

    @property
    def count(self) -> int:
        return -(-self.rows.positions // self.heights) * self.across

    @property
    def span(self) -> int:
        """Columns that the windows of a strip read."""
        return _span(self.columns, self.positions)

    @property
    def instructions(self) -> int:
        """For a strip: products, and to read and convert what is multiplied."""
        read = 14 * self.span + 10 * self.columns.window
        return self.rows.window * (8 * self.positions * self.columns.window + read) + 64 * self.positions

    def lines(self, also: str = "") -> str:
        """C++ for the strip ``strip`` of image ``n``, channels ``c`` and after; ``also``: for each result ``o``."""
        rows, columns, positions, image = self.rows, self.columns, self.positions, self.problem.layer.inputs[0]
        return f"""const int q0 = strip % {self.across} * {positions}, p0 = strip / {self.across} * {self.heights};
    float a[{self.heights}][{positions}][8];
    #pragma unroll
    for (int h = 0; h < {self.heights}; ++h)
        for (int k = 0; k < {positions}; ++k) for (int j = 0; j < 8; ++j) a[h][k][j] = bias[c + j];
    {self._weights("0", rows.window) if self.heights > 1 else ""}
    #pragma unroll
    for (int d0 = 0; d0 < {_span(rows, self.heights)}; ++d0) {{
        {self._one_row_of_weights() if self.heights == 1 else ""}
        const int y = p0 * {rows.stride} - {rows.before} + d0, left = q0 * {columns.stride} - {columns.before};
        const bool inside = (unsigned)y < {rows.size}u;
        const narrow_t *const line =
            x{image} + ((long long)(n * {rows.size} + y) * {columns.size} + left) * x{image}_pitch + c;
        #pragma unroll
        for (int u = 0; u < {self.span}; ++u) {{
            Vec<unsigned, 4> e{{}};
            if (inside && (unsigned)(left + u) < {columns.size}u)
                e = fetch<unsigned, 4>((const unsigned *)(line + u * x{image}_pitch));
            float v[8];
            for (int j = 0; j < 8; ++j) v[j] = to_float((narrow_t)(j % 2 ? e.e[j / 2] >> 16 : e.e[j / 2]));
            #pragma unroll
            for (int h = 0; h < {self.heights}; ++h) {{
                const int s0 = d0 - h * {rows.stride}, r = {f"s0 / {rows.dilation}" if self.heights > 1 else "0"};
                if (s0 < 0 || s0 % {rows.dilation} || s0 / {rows.dilation} >= {rows.window}) continue;
                #pragma unroll
                for (int k = 0; k < {positions}; ++k) {{
                    const int d = u - k * {columns.stride};
                    if (d < 0 || d % {columns.dilation} || d / {columns.dilation} >= {columns.window}) continue;
                    for (int j = 0; j < 8; ++j) a[h][k][j] += v[j] * w[r][d / {columns.dilation}][j];
                }}
            }}
        }}
    }}
    {self._stored(also)}"""

    def _weights(self, first: str, rows: int) -> str:
        """So many rows of the window's, from the first on."""
        columns = self.columns.window
        return f"""float w[{rows}][{columns}][8];
        #pragma unroll
        for (int r = 0; r < {rows}; ++r) for (int s = 0; s < {columns}; ++s) {{
            const auto v = fetch<narrow_t, 8>(weights + (({first} + r) * {columns} + s) * {self.groups * 8} + c);
            for (int j = 0; j < 8; ++j) w[r][s][j] = to_float(v.e[j]);
        }}"""

    def _one_row_of_weights(self) -> str:
        """That of a row of the image, where it has one."""
        skip = f"if (d0 % {self.rows.dilation}) continue;" if self.rows.dilation > 1 else ""
        return f"{skip} {self._weights(f'd0 / {self.rows.dilation}', 1)}"

    def _stored(self, also: str) -> str:
        problem, rows, columns = self.problem, self.rows, self.columns
        others = [f"x{n}" for n in problem.activations if n != problem.layer.inputs[0]]
        lines, value = tail(problem, {other: f"{other}_v" for other in others}, half=True)
        loads = " ".join(f"const auto {o}_p = fetch<narrow_t, 8>({o} + at * {o}_pitch + c);" for o in others)
        reads = " ".join(f"const float {o}_v = to_float({o}_p.e[j]);" for o in others)
        return f"""#pragma unroll
    for (int i = 0; i < {self.heights * self.positions}; ++i) {{
        const int h = i / {self.positions}, k = i % {self.positions};
        if (p0 + h >= {rows.positions} || q0 + k >= {columns.positions}) continue;
        const long long at = (long long)(n * {rows.positions} + p0 + h) * {columns.positions} + q0 + k;
        Vec<narrow_t, 8> o; {loads}
        #pragma unroll
        for (int j = 0; j < 8; ++j) {{
            {reads} float y{problem.layer.outputs[0]} = a[h][k][j]; {" ".join(lines)} o.e[j] = to_narrow({value});
        }}
        put(out + at * out_pitch + c, o);
        {also}
    }}"""


def _span(window: Window, positions: int) -> int:
    """Elements of an axis that the windows of so many positions read."""
    return (positions - 1) * window.stride + (window.window - 1) * window.dilation + 1
