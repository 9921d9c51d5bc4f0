"""What follows a product of bytes, on sums in registers: one factor and offset for each column, a sum, limits, bytes.

Columns of the packed weights lie in an order in which a thread's sums are 16 columns that follow each other: what is
read beside them and what is written are 16 bytes, and no threads exchange anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from tenonrt.contracts import FLOAT8, Problem, ProblemLayer, numpy_dtype

from tenonrt_kernel_nvrtc.curves import curve_function, curve_value
from tenonrt_kernel_nvrtc.quantized.tiles import GROUP, ByteTile
from tenonrt_kernel_nvrtc.storage import C_TYPES, ROUNDING

_LANE = 16  # columns of a thread in a group
_FUNCTIONS = r"""
__device__ __forceinline__ int nearest(float f) { return __float2int_rn(f); }
template <bool SIGNED> __device__ __forceinline__ unsigned bytes(int a, int b, int c, int d) {
    unsigned high, all;
    if (SIGNED) {
        asm("cvt.pack.sat.s8.s32.b32 %0, %1, %2, %3;" : "=r"(high) : "r"(d), "r"(c), "r"(0));
        asm("cvt.pack.sat.s8.s32.b32 %0, %1, %2, %3;" : "=r"(all) : "r"(b), "r"(a), "r"(high));
    } else {
        asm("cvt.pack.sat.u8.s32.b32 %0, %1, %2, %3;" : "=r"(high) : "r"(d), "r"(c), "r"(0));
        asm("cvt.pack.sat.u8.s32.b32 %0, %1, %2, %3;" : "=r"(all) : "r"(b), "r"(a), "r"(high));
    }
    return all;
}
__device__ __forceinline__ unsigned halves(float a, float b) {
    unsigned r; asm("cvt.rn." NARROW "x2.f32 %0, %1, %2;" : "=r"(r) : "f"(b), "f"(a)); return r;
}
template <typename T> __device__ __forceinline__ float byte_of(unsigned word, int c) {
    return (float)(T)(word >> 8 * c);
}
struct Words { unsigned e[4]; };
__device__ __forceinline__ Words words(const void *p) {
    const uint4 v = *(const uint4 *)p; return {v.x, v.y, v.z, v.w};
}
"""
_FLOAT8 = r"""
__device__ __forceinline__ unsigned narrow(float a, float b, float c, float d) {
    unsigned short low, high;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(low) : "f"(b), "f"(a));
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(high) : "f"(d), "f"(c));
    return (unsigned)high << 16 | low;
}
template <> __device__ __forceinline__ float byte_of<e4m3_t>(unsigned word, int c) {
    unsigned two; asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(two) : "h"((unsigned short)(word >> c / 2 * 16)));
    return to_float((half_t)(two >> c % 2 * 16));
}
"""


def order(columns: int) -> list[int]:
    """Which column of the result each column of the packed weights is; -1: none, in the last group of 64.

    Thread l of a quad has columns 8 j + 2 l and 8 j + 2 l + 1 of the product, for all j.
    """
    made = []
    for start in range(0, columns, GROUP):
        places = [start + _LANE * (c % 8 // 2) + c // 8 * 2 + c % 2 for c in range(GROUP)]
        made += [place if place < columns else -1 for place in places]
    return made


@dataclass(frozen=True)
class ByteFinish:
    """result = stored(limit(factor * sum + offset + added_factor * added)), in steps of the result.

    m, parts: rows of the result, and its columns, or those of each of siblings. stored: its element type, int8, uint8,
    float8_e4m3fn or a narrow float. added: the input that is added, and its element type. rectified: negative values
    are 0; limited: large ones are an upper limit. curve: an activation on real numbers instead of the limits, after
    which the result is multiplied by its inverse step. row: that of sums r and h of a thread, not below m where there
    is none.

    Packed beside the weights, in single precision: factors and offsets [columns each], added_factor, the limit; after
    a curve the inverse step.
    """

    problem: Problem
    tile: ByteTile
    m: int
    parts: tuple[int, ...]
    stored: str
    added: tuple[int, str] | None
    rectified: bool
    limited: bool
    curve: ProblemLayer | None = None
    row: str = "m0 + r * 64 + h * 8"

    normalizes = False
    lane_columns = _LANE

    @property
    def columns(self) -> int:
        return sum(self.parts)

    @property
    def _groups(self) -> int:
        return self.tile.columns // GROUP

    @property
    def reads_early(self) -> bool:
        """Whether what is added is read before the products: registers hold it for the whole tile."""
        return self.added is not None and self.tile.sums + self.tile.sums // 4 <= self.tile.registers

    def parameters(self) -> list[str]:
        types, activations = self.problem.types, self.problem.activations
        inputs = [f"const {C_TYPES[types[i].dtype]} *__restrict__ x{i}" for i in activations]
        outputs = [f"{C_TYPES[self.stored]} *__restrict__ {name}" for name in self._outputs]
        return [*outputs, *inputs, "const signed char *weights", "const float *__restrict__ factors"]

    @property
    def _outputs(self) -> list[str]:
        return ["out"] if len(self.parts) == 1 else [f"out{k}" for k in range(len(self.parts))]

    def pitches(self) -> str:
        return ""

    @property
    def _floats(self) -> bool:
        """Whether floats of 8 bits are read or written."""
        return self.stored == FLOAT8 or (self.added is not None and self.added[1] == FLOAT8)

    def functions(self) -> str:
        return (
            _FUNCTIONS
            + (_FLOAT8 if self._floats else "")
            + (curve_function(self.curve) if self.curve is not None else "")
        )

    def once(self) -> str:
        added = f"const float added_factor = factors[{2 * self.columns}];" if self.added is not None else ""
        if self.curve is not None and self.stored not in ROUNDING:
            return f"{added} const float inverse = factors[{2 * self.columns + 2}];"
        return f"{added} const float most = factors[{2 * self.columns + 1}];" if self.limited else added

    def early(self) -> str:
        if self.added is None:
            return ""
        number, _ = self.added
        place = f"x{number} + (long long)m * {self.columns} + n"
        load = f"if (m < {self.m} && n < {self.columns}) read[q][r][h] = words({place});"
        every = self._every_group("load_read(q);") if self.reads_early else ""
        return f"""Words read[{self._groups}][{self.tile.heights}][2];
            auto load_read = [&](int q) {{
                const int n = n0 + q * {GROUP};
                {self._each()} {{ const int m = {self.row}; {load} }}
            }};
            {every}"""

    def ahead(self) -> str:
        """For the thread that copies: what will be added is brought into the second-level cache."""
        tile = self.tile
        if self.added is None or self.columns % (tile.columns * tile.across):
            return ""
        return (
            f'_Pragma("unroll 4") for (int r = 0; r < {tile.rows} && m + r < {self.m}; ++r) asm volatile('
            f'"cp.async.bulk.prefetch.L2.global [%0], {tile.columns};" :: '
            f'"l"(x{self.added[0]} + (long long)(m + r) * {self.columns} + n) : "memory");'
        )

    def body(self) -> str:
        late = self.added is not None and not self.reads_early
        first = "load_read(0);" if late else ""
        later = f"if (q + 1 < {self._groups}) load_read(q + 1);" if late else ""
        return f"""{first}
            {
            self._every_group(f'''{{
                const int n = n0 + q * {GROUP};
                {later}
                if (n < {self.columns}) {{ {self._rows()} }}
            }}''')
        }"""

    def _every_group(self, body: str) -> str:
        return f'_Pragma("unroll") for (int q = 0; q < {self._groups}; ++q) {body}'

    def _each(self) -> str:
        heights = self.tile.heights
        return f'_Pragma("unroll") for (int r = 0; r < {heights}; ++r) _Pragma("unroll") for (int h = 0; h < 2; ++h)'

    def _rows(self) -> str:
        """16 columns of a thread's rows, four at a time: few factors are held at once."""
        wide = 2 if self.stored in ROUNDING else 1
        chosen, place = self._place()
        stores = " ".join(
            f"((uint4 *){place})[{k}] = make_uint4({', '.join(f'made[r][h][{4 * k + i}]' for i in range(4))});"
            for k in range(wide)
        )
        return f"""{chosen}unsigned made[{self.tile.heights}][2][{4 * wide}];
                    _Pragma("unroll") for (int w = 0; w < 4; ++w) {{
                        const auto factor = fetch<float, 4>(factors + n + 4 * w);
                        const auto offset = fetch<float, 4>(factors + {self.columns} + n + 4 * w);
                        {self._each()} {{ {self._four()} }}
                    }}
                    {self._each()} {{ const int m = {self.row}; if (m < {self.m}) {{ {stores} }} }}"""

    def _place(self) -> tuple[str, str]:
        """Where columns n of row m are: of siblings, in whose result, which is chosen first."""
        if len(self.parts) == 1:
            return "", f"(out + (long long)m * {self.columns} + n)"
        to, pitch, first = "out0 + n", str(self.parts[0]), 0
        for k, width in enumerate(self.parts[1:], 1):
            first += self.parts[k - 1]
            to, pitch = f"n >= {first} ? out{k} + n - {first} : {to}", f"n >= {first} ? {width} : {pitch}"
        return f"auto *const to = {to}; const int pitch = {pitch};\n                    ", "(to + (long long)m * pitch)"

    def _four(self) -> str:
        """Four columns of a row."""
        total = "sums[r][32 * q + 8 * w + 4 * (c / 2) + 2 * h + c % 2]"
        steps = [f"v[c] = fmaf((float){total}, factor.e[c], offset.e[c]);"]
        if self.added is not None:
            stored = C_TYPES[self.added[1]]
            steps.append(f"v[c] = fmaf(byte_of<{stored}>(read[q][r][h].e[w], c), added_factor, v[c]);")
        if self.rectified:
            steps.append("v[c] = fmaxf(v[c], 0.f);")
        if self.limited:
            steps.append("v[c] = fminf(v[c], most);")
        if self.curve is not None:
            steps.append(self._curved(self.curve))
        values = f'float v[4]; _Pragma("unroll") for (int c = 0; c < 4; ++c) {{ {" ".join(steps)} }}'
        if self.stored in ROUNDING:
            kept = " ".join(f"made[r][h][2 * w + {i}] = halves(v[{2 * i}], v[{2 * i + 1}]);" for i in range(2))
            return f"{values} {kept}"
        if self.stored == FLOAT8:
            return f"{values} made[r][h][w] = narrow(v[0], v[1], v[2], v[3]);"
        kind = "true" if numpy_dtype(self.stored).kind == "i" else "false"
        nearest = ", ".join(f"nearest(v[{c}])" for c in range(4))
        return f"{values} made[r][h][w] = bytes<{kind}>({nearest});"

    def _curved(self, curve: ProblemLayer) -> str:
        inverse = "" if self.stored in ROUNDING else " v[c] *= inverse;"
        return f"v[c] = {curve_value(curve, 'v[c]')};{inverse}"
