"""What a tensor is: shape, element type, storage format, place and range. Values only; nothing here runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from tenonrt.containers import contents, is_container, ranked
from tenonrt.dims import Dim, Dimension, bounds, evaluate, product, substitute, symbols

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
else:
    Array = np.ndarray  # to import `numpy.typing` takes a millisecond of each load
Shape = tuple[Dimension, ...]
Place = Literal["device", "host"]

# Element types by the names NumPy and ml_dtypes use. "string" is a NumPy object array of str and lives on the host.
NUMPY_TYPES = frozenset(
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128".split()
)
EXTENDED_TYPES = frozenset(
    "bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu "
    "float4_e2m1fn int4 uint4 int2 uint2".split()
)


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype of an element type name; `ValueError` lists the known names."""
    if name in NUMPY_TYPES:
        return np.dtype(name)
    if name in EXTENDED_TYPES:
        import ml_dtypes  # 10 ms that most networks never need

        extended: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return extended
    if name == "string":
        return np.dtype(object)
    if is_container(name):
        for part in contents(name)[1]:
            numpy_dtype(part if is_container(part) else ranked(part)[0])
        return np.dtype(object)
    known = ", ".join(sorted(NUMPY_TYPES | EXTENDED_TYPES | {"string"}))
    raise ValueError(f"unknown element type {name!r}; known are {known}")


def is_float(name: str) -> bool:
    """Whether an element type holds real numbers with a fraction."""
    return name.startswith(("float", "bfloat"))


def rounded_as(precision: str) -> str:
    """The element type that has as many bits of a fraction as what a tactic computes in.

    That is the precision itself, but for tf32, which is no type to store: operands of products are float32 of which
    tensor cores read the first 10 bits of the fraction, as many as float16 has (NVIDIA, "A100 architecture", 2020).
    """
    return "float16" if precision == "tf32" else precision


def dtype_name(dtype: np.dtype[Any] | type) -> str:
    """The element type name of a NumPy dtype."""
    dtype = np.dtype(dtype)
    return "string" if dtype.kind in "OUST" else dtype.name


class Quant(msgspec.Struct, frozen=True):
    """A linear quantization scheme: real = (stored - zero_point) * scale.

    axis None: one scale for the tensor. block: that many consecutive elements along axis share one.
    zero_point_dtype None: symmetric. The scales are constants bound with a step's weights, not part of the type.
    """

    axis: int | None = None
    block: int | None = None
    zero_point_dtype: str | None = None


class Format(msgspec.Struct, frozen=True):
    """How logical values are laid out in memory.

    order: axes from outermost to innermost; empty is row-major of any rank.
    blocks: ``(axis, size)`` inner blocks appended innermost, the axis padded with zeros to a multiple of size.
    dtype: stored element type where it differs from the tensor's (int8 for a quantized float tensor).
    NCHW is ``Format()``, NHWC ``Format((0, 2, 3, 1))``, NCHW16c ``Format(blocks=((1, 16),))``.
    """

    order: tuple[int, ...] = ()
    blocks: tuple[tuple[int, int], ...] = ()
    dtype: str | None = None
    quant: Quant | None = None

    def fits(self, rank: int) -> bool:
        """Whether a tensor of this rank can be stored so."""
        ordered = not self.order or sorted(self.order) == list(range(rank))
        quant = self.quant is None or self.quant.axis is None or 0 <= self.quant.axis < rank
        return ordered and quant and all(0 <= axis < rank and size > 0 for axis, size in self.blocks)

    def __str__(self) -> str:
        text = "".join("NCHWD"[a] if a < 5 else f"[{a}]" for a in self.order) or "linear"
        text += "".join(f"{size}{'nchwd'[axis] if axis < 5 else f'[{axis}]'}" for axis, size in self.blocks)
        return text + (f":{self.dtype}" if self.dtype else "") + ("q" if self.quant else "")


LINEAR = Format()
NHWC = Format((0, 2, 3, 1))
NCHW16C = Format(blocks=((1, 16),))


class TensorType(msgspec.Struct, frozen=True):
    """Shape, element type and storage format of a tensor; dimensions may be symbolic."""

    shape: Shape
    dtype: str = "float32"
    format: Format = LINEAR

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Dimension:
        """Number of logical elements."""
        return product(self.shape)

    @property
    def numpy(self) -> np.dtype[Any]:
        """The dtype of the stored elements."""
        return numpy_dtype(self.format.dtype or self.dtype)

    @property
    def physical_shape(self) -> Shape:
        """Shape in memory: axes in the format's order, each blocked axis divided (rounding up), blocks innermost."""
        outer = list(self.shape)
        for axis, size in self.format.blocks:
            outer[axis] = (outer[axis] + (size - 1)) // size
        order = self.format.order or range(self.rank)
        return tuple(outer[a] for a in order) + tuple(size for _, size in self.format.blocks)

    @property
    def nbytes(self) -> Dimension:
        """Bytes in memory, block padding included."""
        return product(self.physical_shape) * self.numpy.itemsize

    @property
    def static(self) -> bool:
        """Whether every dimension is a plain integer."""
        return not any(isinstance(d, Dim) for d in self.shape)

    def symbol_names(self) -> set[str]:
        """Names of the symbols in the shape."""
        return {s.name for d in self.shape for s in symbols(d)}

    def substitute(self, values: Mapping[str, Dimension]) -> TensorType:
        """The same type with symbols replaced."""
        return self if self.static else self.reshape([substitute(d, values) for d in self.shape])

    def concrete(self, values: Mapping[str, int]) -> tuple[int, ...]:
        """The shape with every symbol's value; `KeyError` names a missing symbol."""
        return tuple(evaluate(d, values) for d in self.shape)

    def reshape(self, shape: Sequence[Dimension]) -> TensorType:
        return msgspec.structs.replace(self, shape=tuple(shape))

    def stored_as(self, format: Format) -> TensorType:
        return msgspec.structs.replace(self, format=format)

    def __str__(self) -> str:
        shape = "x".join(str(d) for d in self.shape) or "scalar"
        return f"{self.dtype}[{shape}]" + ("" if self.format == LINEAR else f" {self.format}")


class Range(msgspec.Struct, frozen=True):
    """The interval a tensor's values fall in, and who says so; its int8 scale is max(|lower|, |upper|) / 127."""

    lower: float
    upper: float
    source: Literal["qdq", "calibrator", "user"] = "user"

    @property
    def scale(self) -> float:
        return max(abs(self.lower), abs(self.upper)) / 127.0


# Shape arithmetic works on small vectors (shapes, axes, slices); a larger tensor is data, never a shape.
MAX_VALUE_ELEMENTS = 1024


# NumPy's limit on axes, and the address space of 64-bit processors: what is beyond them cannot be an array.
MAX_RANK, MAX_BYTES = 64, 2**48


def check_possible(type: TensorType) -> None:
    """`ValueError` for a tensor that no machine can hold at any value of its symbols, or whose size is no number."""
    if type.rank > MAX_RANK:
        raise ValueError(f"a tensor of {type.rank} dimensions is more than the {MAX_RANK} that arrays can have")
    limits = [bounds(dimension) for dimension in type.shape]
    if any(upper is not None and upper < 0 for _, upper in limits):
        raise ValueError(f"{type} has a negative dimension")
    least = [max(lower or 0, 0) for lower, _ in limits]
    if max(least, default=0) >= MAX_BYTES or prod(least) * type.numpy.itemsize > MAX_BYTES:
        raise ValueError(f"{type} has more than {MAX_BYTES} bytes, which no machine can hold")
    type.nbytes  # noqa: B018 - a product of symbols can itself be past what `Dim` expresses


class TensorInfo(msgspec.Struct, frozen=True, eq=False):
    """What is known of a tensor while inferring: its type, where it lives, and its value when that is small and known.

    value: an object array of ``int``/`Dim` (or other scalars) of the tensor's shape, for shape arithmetic. A constant's
    value is filled in by the graph up to 1024 elements.
    """

    type: TensorType
    place: Place = "device"
    value: Array | None = None

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def dtype(self) -> str:
        return self.type.dtype

    @property
    def rank(self) -> int:
        return self.type.rank

    def like(self, shape: Sequence[Dimension] | None = None, dtype: str | None = None) -> TensorInfo:
        """An unknown-valued tensor of this type with another shape or element type."""
        shape = self.shape if shape is None else tuple(shape)
        return TensorInfo(TensorType(shape, dtype or self.dtype), self.place)

    def integers(self) -> list[int]:
        """The known value as integers; `ValueError` when it is unknown or symbolic."""
        if self.value is None:
            raise ValueError(f"the value of this {self.type} input must be known when the network is built")
        flat = list(self.value.reshape(-1))
        if any(isinstance(v, Dim) for v in flat):
            raise ValueError(f"this {self.type} input must hold integers, not {[str(v) for v in flat]}")
        return [int(v) for v in flat]

    def with_value(self, value: Array | None) -> TensorInfo:
        return msgspec.structs.replace(self, value=value)
