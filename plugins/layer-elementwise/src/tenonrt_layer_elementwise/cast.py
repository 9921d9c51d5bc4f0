"""The Cast layer: conversion to another element type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    Dimension,
    LayerType,
    Run,
    TensorInfo,
    TensorType,
    draw,
    numpy_dtype,
    required,
)

from tenonrt_layer_elementwise.conversion import convert, convert_known


class CastAttributes(Attributes, frozen=True):
    """to: an element type. saturate: float8 results out of range become the largest value, else NaN or infinity."""

    to: str
    saturate: bool = True


class CastLayer(LayerType):
    """y = x in another element type, by the rules of the ONNX operator Cast (strings included)."""

    Attrs = CastAttributes
    pattern = "pointwise"
    shape_arithmetic = True

    def infer(self, attrs: CastAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (x,) = required(inputs, 1)
        numpy_dtype(attrs.to)  # names the known types when this is none of them
        if attrs.to.startswith("complex") or x.dtype.startswith("complex"):
            raise ValueError(f"Cast does not convert complex numbers, found {x.type} to {attrs.to}")
        if attrs.to == "string":
            return [TensorInfo(TensorType(x.shape, "string"), "host")]
        if x.dtype == "string":
            return [TensorInfo(TensorType(x.shape, attrs.to))]
        return [x.like(dtype=attrs.to)]

    def reference(self, attrs: CastAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (x,) = required(arrays, 1)
        if x.dtype == object and x.size and not all(isinstance(v, str) for v in x.flat):
            return [convert_known(x, attrs.to)]
        return [convert(x, attrs.to, saturate=attrs.saturate)]

    def sample(
        self, attrs: CastAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        (given,) = required(types, 1)
        if given.dtype == "string":
            return [rng.choice(np.array(["0", "1", "2"], object), given.concrete({}))]
        x = draw(given, rng)
        return [np.abs(x) if attrs.to.startswith("uint") else x]

    def flops(
        self, attrs: CastAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> Dimension:
        return 0

    def cases(self) -> Iterable[Case]:
        names = ("float32", "float16", "bfloat16", "float64", "int8", "uint8", "int32", "int64", "bool")
        for source in names:
            for target in names:
                yield Case(CastAttributes(target), (TensorType((3, 17), source),), f"{source} to {target}")
        for float8 in ("float8_e4m3fn", "float8_e5m2"):
            for saturate in (True, False):
                attrs = CastAttributes(float8, saturate)
                yield Case(attrs, (TensorType((5, 7)),), f"float32 to {float8}, saturate {saturate}")
        yield Case(CastAttributes("string"), (TensorType((2, 3), "int64"),), "int64 to string")
        yield Case(CastAttributes("int64"), (TensorType((2, 3), "string"),), "string to int64")
        for shape in ((), (0, 2), (1,)):
            yield Case(CastAttributes("int32"), (TensorType(shape),), f"shape {shape}")
