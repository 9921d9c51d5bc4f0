"""Scale: (x * scale + shift) ** power, for the tensor, for each channel or for each element (TensorRT IScaleLayer)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from tenonrt.contracts import (
    FLOATS,
    Array,
    Attributes,
    Case,
    Dimension,
    LayerType,
    Pattern,
    Run,
    Shape,
    TensorInfo,
    TensorType,
    broadcasts_to,
    differ,
    draw,
    normalize_axis,
    required,
    working_dtype,
)

Mode = Literal["uniform", "channel", "elementwise"]
PARAMETERS = ("shift", "scale", "power")


class ScaleAttributes(Attributes, frozen=True):
    """mode "uniform": parameters of one element. "channel": vectors along ``axis``, which may be negative.

    "elementwise": shapes that broadcast to the input's, such as the input's without its batch axis.
    """

    mode: Mode = "uniform"
    axis: int = 1


class ScaleLayer(LayerType):
    """input of any shape; an absent shift is 0, an absent scale or power 1."""

    Attrs: ClassVar[type[Attributes]] = ScaleAttributes
    inputs: ClassVar[tuple[str, ...]] = ("input", "shift?", "scale?", "power?")
    pattern: ClassVar[Pattern] = "pointwise"

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (source,), parameters = required(inputs, 1), inputs[1:]
        if source.dtype not in FLOATS:
            raise ValueError(f"input is {source.type}, expected one of {', '.join(FLOATS)}")
        if attrs.mode not in get_args(Mode):
            raise ValueError(f"mode is {attrs.mode!r}, expected one of {get_args(Mode)}")
        if attrs.mode == "channel":
            normalize_axis(attrs.axis, source.rank)
        for name, parameter in zip(PARAMETERS, parameters, strict=False):
            if parameter is not None:
                _check(name, parameter, attrs, source)
        return [source.like()]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (source,), given = required(arrays, 1), arrays[1:]
        dtype = working_dtype(source.dtype)
        aligned = [None if p is None else _aligned(p.astype(dtype, copy=False), attrs, source.ndim) for p in given]
        shift, scale, power = (*aligned, None, None, None)[:3]
        result = source.astype(dtype)
        with np.errstate(all="ignore"):  # overflow is infinite, and a negative number to a fractional power is NaN
            if scale is not None:
                result *= scale
            if shift is not None:
                result += shift
            if power is not None:
                result = result**power
        return [np.asarray(result, source.dtype)]

    def sample(self, attrs: Any, types: Sequence[TensorType | None], rng: np.random.Generator) -> list[Array | None]:
        """Positive values: a negative number has no fractional power."""
        return [None if t is None else np.asarray(np.abs(draw(t, rng)) + t.numpy.type(0.25), t.numpy) for t in types]

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        """One for each parameter given."""
        return outputs[0].type.size * sum(p is not None for p in inputs[1:])

    def cases(self) -> Iterable[Case]:
        def case(name: str, shape: Shape, parameters: Sequence[Shape | None], mode: Mode, axis: int = 1) -> Case:
            types = [None if p is None else TensorType(p) for p in parameters]
            return Case(ScaleAttributes(mode, axis), (TensorType(shape), *types), name)

        yield case("uniform", (2, 3, 4), [(), (), ()], "uniform")
        yield case("uniform one element", (5, 7), [(1,), (1,), None], "uniform")
        yield case("channel", (2, 5, 4, 3), [(5,), (5,), (5,)], "channel")
        yield case("channel last", (2, 4, 3, 6), [(6,), (6,), None], "channel", -1)
        yield case("channel first", (5, 4), [None, (5,), None], "channel", 0)
        yield case("shift", (2, 5, 4), [(5,), None, None], "channel")
        yield case("scale", (2, 5, 4), [None, (5,), None], "channel")
        yield case("power", (2, 5, 4), [None, None, (5,)], "channel")
        yield case("nothing", (2, 5), [None, None, None], "uniform")
        yield case("elementwise", (2, 3, 4, 5), [(3, 4, 5), (3, 4, 5), (3, 4, 5)], "elementwise")
        yield case("elementwise broadcast", (2, 3, 4), [(1, 3, 1), (4,), None], "elementwise")
        yield case("size one", (1, 1), [(1,), (1,), (1,)], "channel")
        yield case("empty batch", (0, 3, 2), [(3,), (3,), None], "channel")


def _check(name: str, parameter: TensorInfo, attrs: ScaleAttributes, source: TensorInfo) -> None:
    if parameter.dtype != source.dtype:
        raise ValueError(f"{name} is {parameter.type}, expected the input's element type {source.dtype}")
    if attrs.mode == "uniform" and any(differ(d, 1) for d in parameter.shape):
        raise ValueError(f"{name} is {parameter.type}, expected one element in mode 'uniform'")
    if attrs.mode == "uniform" and parameter.rank > 1:
        raise ValueError(f"{name} is {parameter.type}, expected a scalar or one axis in mode 'uniform'")
    channels = source.shape[attrs.axis] if attrs.mode == "channel" else 1
    if attrs.mode == "channel" and (parameter.rank != 1 or differ(parameter.shape[0], channels)):
        raise ValueError(f"{name} is {parameter.type}, expected [{channels}]: axis {attrs.axis} of input {source.type}")
    if attrs.mode == "elementwise" and not broadcasts_to(parameter.shape, source.shape):
        raise ValueError(f"{name} is {parameter.type}, expected a shape that broadcasts to input {source.type}")


def _aligned(parameter: Array, attrs: ScaleAttributes, rank: int) -> Array:
    """The parameter in a shape that NumPy broadcasts as the mode says."""
    if attrs.mode == "channel":
        return parameter.reshape(-1, *[1] * (rank - 1 - attrs.axis % rank))
    return parameter.reshape(()) if attrs.mode == "uniform" else parameter
