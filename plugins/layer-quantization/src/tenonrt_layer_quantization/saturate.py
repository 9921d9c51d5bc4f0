"""Saturate: real numbers kept within the range of quantized ones, but not rounded."""

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
    is_float,
    optional,
    required,
)

from tenonrt_layer_quantization.granularity import QUANTIZED, check_zero_point
from tenonrt_layer_quantization.rounding import limits, wide


class SaturateAttributes(Attributes, frozen=True):
    """dtype: the integers whose range it is."""

    dtype: str = "int8"


class SaturateLayer(LayerType):
    """``clip(x, (least - zero_point) * scale, (greatest - zero_point) * scale)``, one scale for the tensor.

    What Quantize and Dequantize make of a number, were its steps infinitely small: passes put it where a number is
    rounded again afterwards. The bounds are computed in float32 (float64 when an operand is).
    """

    Attrs: ClassVar[type[Attributes]] = SaturateAttributes
    inputs: ClassVar[tuple[str, ...]] = ("input", "scale", "zero_point?")
    bound_inputs: ClassVar[tuple[int, ...]] = (1, 2)
    pattern: ClassVar[Pattern] = "pointwise"

    def infer(self, attrs: SaturateAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (real, scale), zero_point = required(inputs, 2), optional(inputs, 2)
        if attrs.dtype not in QUANTIZED or is_float(attrs.dtype):
            raise ValueError(f"there is no range of {attrs.dtype!r}; expected a quantized integer type")
        if not is_float(real.dtype) or real.dtype in QUANTIZED:
            raise ValueError(f"the input is {real.dtype}, expected a real type of at least 16 bits")
        if not is_float(scale.dtype) or scale.shape not in {(), (1,)}:
            raise ValueError(f"scale is {scale.type}, expected one real number")
        check_zero_point(scale, zero_point, attrs.dtype)
        return [real.like()]

    def reference(self, attrs: SaturateAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (real, scale), zero_point = required(arrays, 2), optional(arrays, 2)
        kind, zero = wide(real, scale), 0.0 if zero_point is None else float(zero_point.reshape(()))
        step: Array = scale.reshape(()).astype(kind)
        low, high = (np.multiply(limit - zero, step) for limit in limits(attrs.dtype))
        return [np.asarray(np.clip(real.astype(kind), low, high), real.dtype)]

    def sample(
        self, attrs: SaturateAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        """A third of the inputs lies outside."""
        (real, factor), offsets = required(types, 2), optional(types, 2)
        scale = np.asarray(rng.uniform(0.25, 2.0, factor.concrete({})), factor.numpy)
        low, high = limits(attrs.dtype)
        middle, reach = (low + high) / 2, 0.75 * (high - low)
        inputs = rng.uniform(middle - reach, middle + reach, real.concrete({})) * float(scale.reshape(()))
        zeros = None if offsets is None else np.ones(offsets.concrete({}), offsets.numpy)
        return [np.asarray(inputs, real.numpy), scale, zeros][: len(types)]

    def cases(self) -> Iterable[Case]:
        for dtype in ("int8", "uint8", "int4"):
            given = (TensorType((2, 5, 3)), TensorType(()), TensorType((), dtype))
            yield Case(SaturateAttributes(dtype), given, dtype)
            yield Case(SaturateAttributes(dtype), given[:2], f"{dtype} without a zero point")
        yield Case(SaturateAttributes(), (TensorType((7,), "float16"), TensorType((1,), "float16")), "float16")
        yield Case(SaturateAttributes(), (TensorType((0, 4)), TensorType(())), "empty")
