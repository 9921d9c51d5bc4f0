"""What follows a product, on sums in registers: bias, pointwise layers, normalization of whole rows; then the result.

A quad of threads holds pairs of columns of a row. It exchanges them, so that each thread has 8 columns in a row: 16
bytes of operands and of the result.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from tenonrt.contracts import Problem, ProblemLayer

from tenonrt_kernel_nvrtc.curves import FAST_GELU
from tenonrt_kernel_nvrtc.expressions import QUICK, literal
from tenonrt_kernel_nvrtc.pointwise import chain
from tenonrt_kernel_nvrtc.products.mapped_tiles import Tile
from tenonrt_kernel_nvrtc.products.problem import Branch, others
from tenonrt_kernel_nvrtc.quads import EXCHANGES, SWAP

BEYOND = 2048  # elements of bias that the last cluster may read past the last column: 8 tiles of 256 columns
_GROUP = 32  # columns that a quad exchanges at once
_AHEAD = 2  # groups whose operands are read ahead where registers do not hold those of the whole tile

_FUNCTIONS = (
    FAST_GELU
    + r"""__device__ __forceinline__ float of_quad(float v) {
    v += __shfl_xor_sync(~0u, v, 1); return v + __shfl_xor_sync(~0u, v, 2);
}
"""
)
_STATISTICS = r"""
__device__ __forceinline__ void tell(unsigned at, unsigned barrier, float a, float b) {
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];"
        :: "r"(at), "f"(a), "f"(b), "r"(barrier) : "memory");
}
__device__ __forceinline__ float2 known(unsigned at) {
    float2 f; asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(f.x), "=f"(f.y) : "r"(at) : "memory"); return f;
}
"""


class Finish:
    """The parts of the source that follow the product of a problem."""

    lane_columns = 8

    def __init__(
        self, problem: Problem, parts: Sequence[Branch], m: int, columns: int, tile: Tile,
        norm: ProblemLayer | None = None,
    ) -> None:  # fmt: skip
        self.problem, self.parts, self.m, self.columns, self.tile = problem, parts, m, columns, tile
        self.read = [others(problem, part) for part in parts]
        self.slots = max(len(numbers) for numbers in self.read)
        self.norm, self.normalizes = norm, norm is not None
        self.images = problem.layer.kind == "Convolution"

    @property
    def _packs(self) -> bool:
        """Whether results are exchanged in half precision: nothing else is read or kept."""
        plain = len(self.parts) == 1 or not any(part.tail for part in self.parts)
        return plain and not self.slots and not self.normalizes

    @property
    def _groups(self) -> int:
        return self.tile.columns // _GROUP

    @property
    def _sums(self) -> int:
        return self.tile.columns * self.tile.heights // 2

    @property
    def _read(self) -> int:
        """Registers for the operands of a tile."""
        return self._sums * self.slots // 2

    @property
    def reads_early(self) -> bool:
        """Whether operands of the tail are read before the products."""
        return self._sums + self._read <= self.tile.registers

    @property
    def _bias_early(self) -> bool:
        read = self._read if self.reads_early else 0
        return self._sums + read + self.tile.columns // 4 <= self.tile.registers

    def parameters(self) -> list[str]:
        outputs = [f"narrow_t *__restrict__ out{k}" for k in range(len(self.parts))]
        inputs = [f"const narrow_t *__restrict__ x{i}" for i in self.problem.activations]
        packed = ["const narrow_t *weights", "const float *__restrict__ bias"]
        names = [f"out{k}" for k in range(len(self.parts))] + [f"x{i}" for i in self.problem.activations]
        return [*outputs, *inputs, *packed, *(f"int {name}_pitch" for name in names if self.images)]

    def pitches(self) -> str:
        """Elements from a row to the next, where they are not passed."""
        if self.images:
            return ""
        sizes = {f"out{k}": part.columns for k, part in enumerate(self.parts)}
        sizes |= {f"x{i}": self.problem.types[i].concrete({})[-1] for i in self.problem.activations}
        return "".join(f"const int {name}_pitch = {size};" for name, size in sizes.items())

    def functions(self) -> str:
        return SWAP + _FUNCTIONS + (_STATISTICS if self.normalizes else "")

    def once(self) -> str:
        """Before the first tile: bias, scale and shift of a block's columns, which are the same in all of its tiles."""
        if not self.normalizes:
            return ""
        tile = self.tile
        shift = tile.statistics_bytes
        copied = " ".join(
            f"own[i + {k * tile.columns}] = bias[across * {tile.columns} + i + {offset}];"
            for k, offset in enumerate((0, self.columns + BEYOND, 2 * self.columns + BEYOND))
        )
        return f"""float *const own = (float *)(raw + (facts - shared_at(raw)) + {shift});
        for (int i = t; i < {tile.columns}; i += {tile.consumers}) {{ {copied} }}
        asm volatile("bar.sync 1, {tile.consumers};" ::: "memory");"""

    def early(self) -> str:
        """Operands of the whole tile, where registers are left: they arrive while products are computed."""
        lines = []
        if not self.normalizes:
            lines.append(f"Vec<float, 8> added[{self._groups}];")
            lines.append(f"auto load_bias = [&](int q) {{ const int n = n0 + q * {_GROUP}; {self._bias()} }};")
        if self.slots:
            lines.append(f"Vec<narrow_t, 8> read[{self._groups}][{self.tile.heights}][2][{self.slots}];")
            lines.append(f"auto load_read = [&](int q) {{ const int n = n0 + q * {_GROUP}; {self._loads()} }};")
        if self.slots and self.reads_early:
            lines.append(self._over(self._groups, "load_read(q);"))
        if not self.normalizes and self._bias_early:
            lines.append(self._over(self._groups, "load_bias(q);"))
        return "\n            ".join(lines)

    @staticmethod
    def _over(groups: int, body: str) -> str:
        return f'_Pragma("unroll") for (int q = 0; q < {groups}; ++q) {body}'

    def ahead(self) -> str:
        """For the thread that copies: what a tile reads late is brought into the second-level cache."""
        tile = self.tile
        outside = self.columns % (tile.columns * tile.across)
        if not self.slots or self.reads_early or len(self.parts) > 1 or outside:
            return ""
        return "".join(
            f"for (int r = 0; r < {tile.rows} && m + r < {self.m}; ++r) asm volatile("
            f'"cp.async.bulk.prefetch.L2.global [%0], {2 * tile.columns};" :: '
            f'"l"(x{i} + (long long)(m + r) * x{i}_pitch + n) : "memory");'
            for i in self.read[0]
        )

    def _bias(self) -> str:
        if not self._packs:
            return "added[q] = fetch<float, 8>(bias + n);"
        pair = "const auto pair = fetch<float, 2>(bias + n - l * 6 + j * 8);"
        keep = "added[q].e[2 * j] = pair.e[0]; added[q].e[2 * j + 1] = pair.e[1];"
        return f'_Pragma("unroll") for (int j = 0; j < 4; ++j) {{ {pair} {keep} }}'

    def _loads(self) -> str:
        which = " else ".join(
            f"if (n < {part.first + part.columns}) {{ "
            + "".join(
                f"read[q][r][h][{s}] = fetch<narrow_t, 8>(x{i} + (long long)m * x{i}_pitch + n - {part.first});"
                for s, i in enumerate(numbers)
            )
            + " }"
            for part, numbers in zip(self.parts, self.read, strict=True)
        )
        return f"""{self._each()} {{
                    const int m = m0 + r * 64 + h * 8;
                    for (int s = 0; s < {self.slots}; ++s) read[q][r][h][s] = Vec<narrow_t, 8>{{}};
                    if (m < {self.m}) {{ {which} }}
                }}"""

    def _each(self) -> str:
        heights = self.tile.heights
        return f'_Pragma("unroll") for (int r = 0; r < {heights}; ++r) _Pragma("unroll") for (int h = 0; h < 2; ++h)'

    def body(self) -> str:
        """After the products of a tile."""
        groups = self._groups
        late = [] if self.normalizes or self._bias_early else ["load_bias"]
        late += ["load_read"] if self.slots and not self.reads_early else []
        first = " ".join(self._over(min(_AHEAD, groups), f"{load}(q);") for load in late)
        later = " ".join(f"if (q + {_AHEAD} < {groups}) {load}(q + {_AHEAD});" for load in late)
        kept = f"float sum[{self.tile.heights}][2] = {{}};" if self.normalizes else ""
        return f"""{first} {kept}
            _Pragma("unroll") for (int q = 0; q < {groups}; ++q) {{
                const int n = n0 + q * {_GROUP};
                {later}
                {self._each()} {{
                    const int m = m0 + r * 64 + h * 8;
                    {self._packed() if self._packs else self._single()}
                }}
            }}
            {self._normalized() if self.normalizes else ""}"""

    def _single(self) -> str:
        """Sums are exchanged in single precision."""
        return f"""float v[8];
                    {self._exchanged()}
                    {self._added()}
                    {self._kept() if self.normalizes else self._written()}"""

    def _added(self) -> str:
        if not self.normalizes:
            return '_Pragma("unroll") for (int j = 0; j < 8; ++j) v[j] += added[q].e[j];'
        bias = f"const auto b = fetch<float, 8>(own + q * {_GROUP} + l * 8);"
        return f'{bias} _Pragma("unroll") for (int j = 0; j < 8; ++j) v[j] += b.e[j];'

    def _packed(self) -> str:
        """Results are exchanged in half precision, two at once."""
        lines, value = self._tail(0)
        take = "".join(f"v[{2 * j + c}] = sums[r][16 * q + {4 * j + c} + 2 * h];" for j in range(4) for c in range(2))
        exchanged = " ".join(f"swap(p[{a}], p[{b}], l & {d}, {d});" for a, b, d in EXCHANGES)
        places = " else ".join(
            f"if (n < {part.first + part.columns}) to = out{k} + (long long)m * out{k}_pitch + n - {part.first};"
            for k, part in enumerate(self.parts)
        )
        return f"""float v[8]; unsigned p[4];
                    {take}
                    _Pragma("unroll") for (int j = 0; j < 8; ++j) {{ v[j] += added[q].e[j]; {lines} v[j] = {value}; }}
                    _Pragma("unroll") for (int j = 0; j < 4; ++j) p[j] = pair(v[2 * j], v[2 * j + 1]);
                    {exchanged}
                    narrow_t *to = nullptr;
                    {places}
                    if (m < {self.m} && to) *(uint4 *)to = make_uint4(p[0], p[1], p[2], p[3]);"""

    def _exchanged(self) -> str:
        """v: the 8 columns of group l; thread i of a quad has columns 2 i and 2 i + 1 of four groups."""
        take = "".join(f"v[{2 * j + c}] = sums[r][16 * q + {4 * j + c} + 2 * h];" for j in range(4) for c in range(2))
        exchanged = " ".join(
            f"swap(v[{2 * a + c}], v[{2 * b + c}], l & {d}, {d});" for a, b, d in EXCHANGES for c in range(2)
        )
        return f"{take} {exchanged}"

    def _tail(self, k: int) -> tuple[str, str]:
        """A branch's pointwise layers on element j: statements, and the value."""
        part = self.parts[k]
        names = {f"x{part.anchor.outputs[0]}": "v[j]"}
        names |= {f"x{i}": f"to_float(read[q][r][h][{s}].e[j])" for s, i in enumerate(self.read[k])}
        tail = msgspec.structs.replace(self.problem, layers=part.tail, outputs=(part.result,))
        large = frozenset(i for i in self.problem.constants if self.problem.inputs[i].value is None)
        lines, value = chain(tail, names, skip=large, instead={**QUICK, "gelu": "fast_gelu({0})"})
        return " ".join(lines), value

    def _written(self) -> str:
        def part(k: int, branch: Branch) -> str:
            lines, value = self._tail(k)
            place = f"out{k} + (long long)m * out{k}_pitch + n - {branch.first}"
            each = f'_Pragma("unroll") for (int j = 0; j < 8; ++j) {{ {lines} o.e[j] = to_narrow({value}); }}'
            return f"if (n < {branch.first + branch.columns}) {{ Vec<narrow_t, 8> o; {each} put({place}, o); }}"

        return f"if (m < {self.m}) {{ {' else '.join(part(k, b) for k, b in enumerate(self.parts))} }}"

    def _kept(self) -> str:
        """What is normalized stays where the sums were; rows outside of the product are finite, and not written."""
        lines, value = self._tail(0)
        each = f"{lines} v[j] = {value}; sum[r][h] += v[j];"
        back = "".join(f"sums[r][16 * q + {4 * j + c} + 2 * h] = v[{2 * j + c}];" for j in range(4) for c in range(2))
        return f'_Pragma("unroll") for (int j = 0; j < 8; ++j) {{ {each} }} {back}'

    def _normalized(self) -> str:
        """Mean and squares of each block's columns, told to all blocks across, which put them together."""
        return f"""
            const int place = 2 * team + turn % 2;
            {self._told()}
            await(told + place * 8, turn / 2 % 2);
            {self._each()} {{
                const int m = m0 + r * 64 + h * 8, row = above + r * 64 + warp * 16 + g + h * 8;
                {self._together()}
                {self._scaled()}
            }}"""

    def _told(self) -> str:
        """Of this block's columns; the barrier completes when all blocks across have told."""
        tile, half = self.tile, self.tile.columns // 2
        mine = f"facts + (place * {tile.across} + across) * {8 * tile.rows}"
        return f"""
            if (t % {128 * tile.warpgroups} == 0) expect(told + place * 8, {8 * tile.rows * tile.across});
            {self._each()} {{
                const float mean = of_quad(sum[r][h]) * {1 / tile.columns!r}f;
                float q2 = 0.f;
                _Pragma("unroll") for (int i = 0; i < {half // 4}; ++i) _Pragma("unroll") for (int c = 0; c < 2; ++c) {{
                    const float d = sums[r][4 * i + 2 * h + c] - mean; q2 += d * d;
                }}
                q2 = of_quad(q2);
                const int row = above + r * 64 + warp * 16 + g + h * 8;
                for (int i = l; i < {tile.across}; i += 4)
                    tell(in_block({mine} + row * 8, down * {tile.across} + i),
                        in_block(told + place * 8, down * {tile.across} + i), mean, q2);
            }}"""

    def _together(self) -> str:
        """Mean and squares of a row, of those of parts of equal size."""
        assert self.norm is not None
        tile = self.tile
        theirs = f"facts + (place * {tile.across} + i) * {8 * tile.rows}"
        return f"""float mean = 0.f, squares = 0.f;
                _Pragma("unroll") for (int i = 0; i < {tile.across}; ++i) mean += known({theirs} + row * 8).x;
                mean *= {1 / tile.across!r}f;
                _Pragma("unroll") for (int i = 0; i < {tile.across}; ++i) {{
                    const float2 f = known({theirs} + row * 8);
                    squares += f.y + {float(tile.columns)}f * (f.x - mean) * (f.x - mean);
                }}
                const float inverse = rsqrtf(squares * {1 / self.columns!r}f + {literal(self.norm.attrs.epsilon)});"""

    def _scaled(self) -> str:
        """The row of this block's columns, normalized and written."""
        tile = self.tile
        scale, shift = (f"own + {k * tile.columns} + q * {_GROUP} + l * 8" for k in (1, 2))
        return f"""_Pragma("unroll") for (int q = 0; q < {self._groups}; ++q) {{
                    const int n = n0 + q * {_GROUP};
                    const auto scaled = fetch<float, 8>({scale}), shifted = fetch<float, 8>({shift});
                    Vec<narrow_t, 8> o;
                    _Pragma("unroll") for (int j = 0; j < 8; ++j) {{
                        const float v = sums[r][16 * q + j / 2 * 4 + j % 2 + 2 * h];
                        o.e[j] = to_narrow((v - mean) * inverse * scaled.e[j] + shifted.e[j]);
                    }}
                    if (m < {self.m}) put(out0 + (long long)m * out0_pitch + n, o);
                }}"""
