"""The Fill layer: a tensor of one value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    Dim,
    Dimension,
    LayerType,
    Run,
    TensorInfo,
    TensorType,
    known_values,
    numpy_dtype,
    required,
    unknown,
    vector_length,
)


class FillAttributes(Attributes, frozen=True):
    """value: of every element. dtype: the output's element type."""

    value: float | int | bool = 0
    dtype: str = "float32"


class FillLayer(LayerType):
    """y has the given shape and one value everywhere (ONNX ConstantOfShape)."""

    Attrs = FillAttributes
    inputs = ("shape",)
    shape_inputs = (0,)
    pattern = "movement"
    shape_arithmetic = True

    def infer(self, attrs: FillAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (shape,) = required(inputs, 1)
        if attrs.dtype == "string":
            raise ValueError("Fill makes numbers and booleans, not strings")
        numpy_dtype(attrs.dtype)  # names the known types when this is none of them
        rank, dims = vector_length(shape, "the shape"), known_values(shape)
        if dims is None:
            dims = [unknown() for _ in range(rank)]
        negative = [d for d in dims if isinstance(d, int) and d < 0]
        if negative:
            raise ValueError(f"dimensions must not be negative, found {negative} in the shape")
        return [TensorInfo(TensorType(tuple(dims), attrs.dtype))]

    def reference(self, attrs: FillAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (shape,) = required(arrays, 1)
        if shape.dtype != object:
            return [np.full([int(d) for d in shape], attrs.value, numpy_dtype(attrs.dtype))]
        symbolic = [str(d) for d in shape if isinstance(d, Dim)]
        if symbolic:
            raise ValueError(f"the values of a tensor with symbolic dimensions {symbolic} cannot be listed")
        scalar = np.asarray(attrs.value).astype(numpy_dtype(attrs.dtype)).item()
        return [np.full([int(d) for d in shape], scalar, object)]

    def sample(
        self, attrs: FillAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        (shape,) = required(types, 1)
        return [rng.integers(1, 5, shape.concrete({})).astype(shape.numpy)]

    def flops(
        self, attrs: FillAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> Dimension:
        return 0

    def cases(self) -> Iterable[Case]:
        values: list[tuple[float | int | bool, str]] = [
            (0, "float32"), (1.5, "float16"), (-1.5, "bfloat16"), (-3, "int64"), (True, "bool"), (7, "uint8"),
        ]  # fmt: skip
        for value, dtype in values:
            yield Case(FillAttributes(value, dtype), (np.array([3, 5], np.int64),), f"{value} {dtype}")
        for shape in ([], [0, 2], [1], [2, 3, 4, 5]):
            yield Case(FillAttributes(1.0), (np.array(shape, np.int64),), f"shape {shape}")
