"""The Bitcast layer: the same bits read as another element type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tenonrt.contracts import Array, Attributes, Case, LayerType, Run, TensorInfo, TensorType, numpy_dtype, required


class BitcastAttributes(Attributes, frozen=True):
    """to: the element type of the result, as wide as the input's."""

    to: str


class BitcastLayer(LayerType):
    """y has x's bits, read as another type of the same width (ONNX BitCast)."""

    Attrs = BitcastAttributes
    pattern = "pointwise"

    def infer(self, attrs: BitcastAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (x,) = required(inputs, 1)
        old, new = x.type.numpy, numpy_dtype(attrs.to)
        if old.hasobject or new.hasobject or old.itemsize != new.itemsize:
            raise ValueError(f"{x.dtype} and {attrs.to} must be numbers of one width")
        return [x.like(dtype=attrs.to)]

    def reference(self, attrs: BitcastAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (x,) = required(arrays, 1)
        return [x.view(numpy_dtype(attrs.to))]

    def cases(self) -> Iterable[Case]:
        for old, new in (("float32", "int32"), ("int64", "float64"), ("uint8", "int8"), ("float16", "bfloat16")):
            yield Case(BitcastAttributes(new), (TensorType((3, 5), old),), f"{old} as {new}")
