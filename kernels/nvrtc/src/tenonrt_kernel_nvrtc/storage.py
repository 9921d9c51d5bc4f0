"""How elements are stored and what they are while computing, and where they lie in formats that kernels here know."""

from __future__ import annotations

from dataclasses import dataclass

from tenonrt.contracts import BYTES, FLOAT8, LINEAR, Array, Format, Tactic, TensorType, is_float, numpy_dtype

# Half precision and floats of 8 bits need no header: the conversions are instructions. A bfloat16 is the upper half of
# a float; it is an enumeration so that it is no half.
PRELUDE = r"""
typedef unsigned short half_t;
enum bfloat_t : unsigned short {};
__device__ __forceinline__ float to_float(half_t h) {
    float f; asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h)); return f;
}
__device__ __forceinline__ half_t to_half(float f) {
    half_t h; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f)); return h;
}
__device__ __forceinline__ unsigned larger_halves(unsigned a, unsigned b) {
    unsigned r; asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b)); return r;
}
__device__ __forceinline__ unsigned larger_bfloats(unsigned a, unsigned b) {
    unsigned r; asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b)); return r;
}
__device__ __forceinline__ float to_float(bfloat_t b) { return __uint_as_float((unsigned)b << 16); }
__device__ __forceinline__ bfloat_t to_bfloat(float f) {
    unsigned short b; asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(b) : "f"(f)); return (bfloat_t)b;
}
struct e4m3_t { unsigned char bits; };
#if __CUDA_ARCH__ >= 890
__device__ __forceinline__ float to_float(e4m3_t v) {
    unsigned pair; asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(pair) : "h"((unsigned short)v.bits));
    return to_float((half_t)pair);
}
__device__ __forceinline__ e4m3_t to_e4m3(float f) {
    unsigned short pair; asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(0.f), "f"(f));
    return {(unsigned char)pair};
}
#endif
__device__ __forceinline__ void begin() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ __forceinline__ float sigmoid_of(float x) {
    float e, y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(-1.442695041f * x));
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(1.f + e));
    return y;
}
__device__ __forceinline__ float power_of(float base, float exponent) {
    float l, y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(l) : "f"(base));
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(l * exponent));
    return y;
}
__device__ __forceinline__ float infinity() { return __int_as_float(0x7f800000); }
#if __CUDA_ARCH__ >= 800
__device__ __forceinline__ float larger(float a, float b) {
    float r; asm("max.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); return r;
}
__device__ __forceinline__ float smaller(float a, float b) {
    float r; asm("min.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); return r;
}
#else
__device__ __forceinline__ float larger(float a, float b) { return (a > b || a != a) ? a : b; }
__device__ __forceinline__ float smaller(float a, float b) { return (a < b || a != a) ? a : b; }
#endif
template <typename T, int V> struct alignas(sizeof(T) * V > 16 ? 16 : sizeof(T) * V) Vec { T e[V]; };
template <typename T, int V> __device__ __forceinline__ Vec<T, V> fetch(const T *p) { return *(const Vec<T, V> *)p; }
template <typename T, int V> __device__ __forceinline__ void put(T *p, const Vec<T, V> &v) { *(Vec<T, V> *)p = v; }
"""

C_TYPES = {
    "float32": "float", "float16": "half_t", "bfloat16": "bfloat_t", "int32": "int", "int64": "long long",
    "bool": "unsigned char", "int8": "signed char", "uint8": "unsigned char", FLOAT8: "e4m3_t",
}  # fmt: skip


@dataclass(frozen=True)
class Narrow:
    """A float of 16 bits that tensors are stored in while sums are single: its element type, its name in PTX and C.

    In a kernel's source it is ``narrow_t``, ``to_narrow`` rounds to it, and NARROW is its name in instructions.
    """

    dtype: str
    ptx: str
    rounding: str

    @property
    def rows(self) -> Format:
        """Row by row."""
        return Format(dtype=self.dtype)

    @property
    def channels_8(self) -> Format:
        """Channels innermost, padded to what a tensor core reads at once: NHWC where they are a multiple of 8."""
        return Format((0, 2, 3, 1), ((1, 8),), self.dtype)

    @property
    def channels_4(self) -> Format:
        return Format((0, 2, 3, 1), ((1, 4),), self.dtype)

    @property
    def declared(self) -> str:
        """What a source says of it, behind the prelude."""
        return f"""typedef {C_TYPES[self.dtype]} narrow_t;
#define NARROW "{self.ptx}"
__device__ __forceinline__ narrow_t to_narrow(float f) {{ return {self.rounding}(f); }}
"""

    def key(self, text: str) -> str:
        """A tactic's key, of which each type has its own."""
        return text if self is FLOAT16 else f"{text} {self.dtype}"

    def rounded(self, values: Array) -> Array:
        """Constants as they are stored."""
        return values.astype(numpy_dtype(self.dtype))


FLOAT16 = Narrow("float16", "f16", "to_half")
BFLOAT16 = Narrow("bfloat16", "bf16", "to_bfloat")
NARROW = (FLOAT16, BFLOAT16)
ROUNDING = {narrow.dtype: narrow.rounding for narrow in NARROW}
_CONVERTED = ROUNDING | {FLOAT8: "to_e4m3"}
HALF, CHANNELS_8, CHANNELS_4 = FLOAT16.rows, FLOAT16.channels_8, FLOAT16.channels_4


def narrow_of(tactic: Tactic) -> Narrow:
    """The narrow type that a tactic computes with; half precision where it computes with none."""
    return BFLOAT16 if tactic.precision == BFLOAT16.dtype else FLOAT16


def shape_of(tactic: Tactic) -> str:
    """A tactic's key without its type."""
    return tactic.key.partition(" ")[0]


def prelude(tactic: Tactic) -> str:
    """What stands before the source of a tactic."""
    return PRELUDE + narrow_of(tactic).declared


def is_real(dtype: str) -> bool:
    """Whether elements may be stored in narrow floats instead: what is quantized stays in its own type."""
    return is_float(dtype) and dtype not in BYTES


def value_type(dtype: str) -> str:
    """The C type that elements are computed in."""
    return "float" if is_float(dtype) else "bool" if dtype == "bool" else "long long"


def read(dtype: str, element: str) -> str:
    """A stored element as a value."""
    if dtype in _CONVERTED:
        return f"to_float({element})"
    return f"({element} != 0)" if dtype == "bool" else f"({value_type(dtype)}){element}"


def write(dtype: str, value: str) -> str:
    """A value as a stored element."""
    return f"{_CONVERTED.get(dtype, f'({C_TYPES[dtype]})')}({value})"


def stored(type: TensorType) -> str:
    """The element type in memory."""
    return type.format.dtype or type.dtype


def item_bytes(dtype: str) -> int:
    """Bytes of a stored element."""
    return int(numpy_dtype(dtype).itemsize)


def refusal(type: TensorType) -> str:
    """Why a tensor is none that kernels here read and write; empty when it is one."""
    if not type.static:
        return f"{type} has a size that changes at run time"
    if type.dtype not in C_TYPES:
        return f"elements of {type.dtype}"
    size = type.size
    if not isinstance(size, int) or size >= 1 << 31:
        return f"{type} has 2^31 elements or more"
    return ""


def known(format: Format) -> bool:
    """Whether offsets are sums over the axes: at most the innermost axis is blocked."""
    if format.quant is not None or format.dtype not in (None, "float32", *ROUNDING):
        return False
    return not format.blocks or (len(format.blocks) == 1 and format.order[-1:] == (format.blocks[0][0],))


@dataclass(frozen=True)
class Axes:
    """A stored tensor as axes from the outermost to the innermost: (logical axis, size in memory)."""

    order: tuple[int, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]  # elements, by logical axis

    @classmethod
    def of(cls, type: TensorType) -> Axes:
        shape = type.concrete({})
        order = type.format.order or tuple(range(type.rank))
        padded = list(shape)
        for axis, size in type.format.blocks:
            padded[axis] = -(-shape[axis] // size) * size
        strides, step = [0] * type.rank, 1
        for axis in reversed(order):
            strides[axis] = step
            step *= padded[axis]
        return cls(order, tuple(padded[axis] for axis in order), tuple(strides))


def formats_for(type: TensorType, wanted: Format) -> Format:
    """The wanted format where it fits a tensor, row by row in its element type otherwise; integers and bytes stay as
    they are."""
    if not is_real(type.dtype):
        return LINEAR if not wanted.order or type.rank != len(wanted.order) else Format(wanted.order)
    if wanted.fits(type.rank) and (not wanted.order or type.rank == len(wanted.order)):
        return wanted
    return Format(dtype=wanted.dtype)
