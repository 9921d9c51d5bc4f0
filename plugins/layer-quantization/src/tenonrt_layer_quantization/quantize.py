"""Quantize: real numbers to small integers or narrow floats."""

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

from tenonrt_layer_quantization.granularity import QUANTIZED, check_scale, check_zero_point, parameter_shape, spread
from tenonrt_layer_quantization.rounding import limits, round_to, wide


class QuantizeAttributes(Attributes, frozen=True):
    """dtype: the quantized type. block 0: one scale per tensor or per slice of ``axis``. saturate: for float8 only."""

    dtype: str = "int8"
    axis: int = 1
    block: int = 0
    saturate: bool = True


class QuantizeLayer(LayerType):
    """ONNX QuantizeLinear: ``saturate(round_half_even(x / scale) + zero_point)``.

    The quotient is computed in float32 (float64 when an operand is), for narrower inputs too.
    """

    Attrs: ClassVar[type[Attributes]] = QuantizeAttributes
    inputs: ClassVar[tuple[str, ...]] = ("input", "scale", "zero_point?")
    bound_inputs: ClassVar[tuple[int, ...]] = (1, 2)
    rounds: ClassVar[bool] = True
    pattern: ClassVar[Pattern] = "pointwise"

    def infer(self, attrs: QuantizeAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (real, scale), zero_point = required(inputs, 2), optional(inputs, 2)
        if attrs.dtype not in QUANTIZED:
            raise ValueError(f"cannot quantize to {attrs.dtype!r}; expected one of {', '.join(sorted(QUANTIZED))}")
        if real.dtype != "int32" and (not is_float(real.dtype) or real.dtype in QUANTIZED):
            raise ValueError(f"the input is {real.dtype}, expected int32 or a real type of at least 16 bits")
        check_scale(real, scale, attrs.axis, attrs.block)
        check_zero_point(scale, zero_point, attrs.dtype)
        return [real.like(dtype=attrs.dtype)]

    def reference(self, attrs: QuantizeAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (real, scale), zero_point = required(arrays, 2), optional(arrays, 2)
        kind = wide(real, scale)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            scaled = real.astype(kind) / spread(scale, real.shape, attrs.axis, attrs.block).astype(kind)
        if not is_float(attrs.dtype):
            scaled = np.rint(scaled)  # before the zero point is added: an odd one would turn ties the other way
        if zero_point is not None:
            scaled = scaled + spread(zero_point, real.shape, attrs.axis, attrs.block).astype(kind)
        return [round_to(scaled, attrs.dtype, attrs.saturate)]

    def sample(
        self, attrs: QuantizeAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        """Inputs lie well between two roundings, so that float32 and float64 quotients agree; some saturate."""
        (real, factor), offsets = required(types, 2), optional(types, 2)
        scale = np.asarray(rng.uniform(0.25, 2.0, factor.concrete({})), factor.numpy)
        has_offset = offsets is not None and not is_float(attrs.dtype)
        zero_point = np.asarray(rng.integers(0, 2 if has_offset else 1, scale.shape))
        shape, (lower, upper) = real.concrete({}), limits(attrs.dtype)
        steps = rng.integers(max(int(lower), -300) - 1, min(int(upper), 300) + 2, shape) + rng.uniform(-0.3, 0.3, shape)
        if is_float(attrs.dtype):
            steps = round_to(steps, attrs.dtype, True).astype(np.float64)
        offset = spread(zero_point, shape, attrs.axis, attrs.block).astype(np.float64)
        inputs = (steps - offset) * spread(scale, shape, attrs.axis, attrs.block).astype(np.float64)
        inputs = np.trunc(inputs) if real.dtype == "int32" else inputs
        zeros = None if offsets is None else zero_point.astype(offsets.numpy)
        return [np.asarray(inputs, real.numpy), scale, zeros][: len(types)]

    def cases(self) -> Iterable[Case]:
        shape = (2, 5, 3)
        for dtype in sorted(QUANTIZED):
            yield Case(QuantizeAttributes(dtype), (TensorType(shape), TensorType(())), dtype)
        for granularity, block in (("tensor", 0), ("axis", 0), ("block", 2)):
            parameter = parameter_shape(shape, granularity, 1, block)
            inputs = (TensorType(shape), TensorType(parameter), TensorType(parameter, "uint8"))
            yield Case(QuantizeAttributes("uint8", block=block), inputs, granularity)
        half = (TensorType((7, 1), "float16"), TensorType((7,), "float16"))
        yield Case(QuantizeAttributes(axis=-2), half, "float16")
        yield Case(QuantizeAttributes("float8_e5m2", saturate=False), (TensorType((4,)), TensorType(())), "overflow")
        yield Case(QuantizeAttributes(), (TensorType((0, 4)), TensorType(())), "empty")
