"""Pooling: windows of the input reduced to one value (ONNX MaxPool, AveragePool, LpPool; TensorRT IPoolingLayer)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from tenonrt.contracts import (
    FLOAT8,
    FLOATS,
    INTEGERS,
    Array,
    Attributes,
    Case,
    Dimension,
    LayerType,
    PaddingMode,
    Pattern,
    Run,
    TensorInfo,
    TensorType,
    WindowAxis,
    dtype_name,
    required,
    window_axes,
    working_dtype,
)

from tenonrt_layer_pooling.slide import average, maximum, maximum_with_indices, norm

Function = Literal["max", "average", "max_average_blend", "lp"]
MAX_SPATIAL_AXES = 3


class PoolingAttributes(Attributes, frozen=True):
    """An empty tuple is ones (stride, dilation) or zeros (padding) for every spatial axis.

    ceil: a last window may hang over the end. count_includes_padding: averages divide by the elements in the padded
    input, not in the input. blend: "max_average_blend" is (1 - blend) * max + blend * average. p: of "lp".
    with_indices: a second int64 output, where in the flattened input each maximum was found; storage_order 1 flattens
    the spatial axes column by column. padding_mode: as of Convolution; the "same_*" modes ignore ceil.
    """

    function: Function
    window: tuple[int, ...]
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    pre_padding: tuple[int, ...] = ()
    post_padding: tuple[int, ...] = ()
    padding_mode: PaddingMode = "explicit"
    ceil: bool = False
    count_includes_padding: bool = False
    blend: float = 0.0
    p: int = 2
    with_indices: bool = False
    storage_order: int = 0


class PoolingLayer(LayerType):
    """input [N, C, *S] to [N, C, *O], and the indices of the maxima where asked for; 1 to 3 spatial axes.

    "max" takes what real numbers are quantized to as well. Padding is never a maximum, and NaN propagates.
    """

    Attrs: ClassVar[type[Attributes]] = PoolingAttributes
    pattern: ClassVar[Pattern] = "reduction"

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (source,) = required(inputs, 1)
        _check(attrs, source)
        positions = [a.output(size) for a, size in zip(_axes(attrs), source.shape[2:], strict=True)]
        output = source.like((*source.shape[:2], *positions))
        return [output, output.like(dtype="int64")] if attrs.with_indices else [output]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (source,) = required(arrays, 1)
        axes, dtype = _axes(attrs), source.dtype
        values = source.astype(working_dtype(dtype), copy=False)
        if not source.size:
            outputs = [np.zeros(info.type.concrete({}), info.type.numpy) for info in self.infer(attrs, [_info(source)])]
        elif attrs.with_indices:
            outputs = list(maximum_with_indices(values, axes, attrs.storage_order == 1))
        else:
            outputs = [_reduce(attrs, values, axes)]
        return [outputs[0].astype(dtype, copy=False), *outputs[1:]]

    def reduction(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> Dimension:
        window: tuple[int, ...] = attrs.window
        return prod(window)

    def cases(self) -> Iterable[Case]:
        def case(name: str, function: Function, source: tuple[int, ...], window: tuple[int, ...], **attrs: Any) -> Case:
            return Case(PoolingAttributes(function, window, **attrs), (TensorType(source),), name)

        padded: dict[str, Any] = {"stride": (2, 2), "pre_padding": (1, 1), "post_padding": (1, 1)}
        functions: tuple[Function, ...] = get_args(Function)
        for function in functions:
            blend = 0.3 if function == "max_average_blend" else 0.0
            yield case(f"{function} 2x2", function, (2, 5, 8, 9), (2, 2), stride=(2, 2), blend=blend)
            yield case(f"{function} padded", function, (1, 4, 9, 7), (3, 3), blend=blend, **padded)
            yield case(f"{function} ceil", function, (1, 3, 10, 8), (3, 3), ceil=True, blend=blend, **padded)
            yield case(f"{function} dilated", function, (1, 2, 9, 11), (2, 3), dilation=(3, 2), blend=blend)
            yield case(f"{function} same upper", function, (1, 3, 8, 7), (3, 2), padding_mode="same_upper", **_TWO)
            yield case(f"{function} same lower", function, (1, 3, 8, 7), (3, 2), padding_mode="same_lower", **_TWO)
            yield case(f"{function} valid", function, (1, 3, 8, 7), (3, 2), padding_mode="valid", **_TWO)
            yield case(f"{function} one axis", function, (2, 3, 13), (4,), stride=(3,), post_padding=(2,), ceil=True)
            yield case(f"{function} three axes", function, (1, 2, 5, 6, 7), (2, 3, 2), stride=(1, 2, 3))
        yield case("uneven padding", "average", (1, 2, 7, 6), (3, 4), pre_padding=(0, 2), post_padding=(2, 1))
        yield case("count padding", "average", (1, 3, 9, 8), (3, 3), count_includes_padding=True, **padded)
        counted = {"count_includes_padding": True, "ceil": True} | padded
        yield case("count padding ceil", "average", (1, 3, 10, 8), (3, 3), **counted)
        yield case("p 1", "lp", (1, 2, 6, 6), (3, 3), p=1)
        yield case("p 3", "lp", (1, 2, 6, 6), (3, 3), p=3)
        yield case("indices", "max", (2, 3, 9, 8), (3, 3), with_indices=True, **padded)
        yield case("indices column major", "max", (2, 3, 9, 8), (3, 2), with_indices=True, storage_order=1, **_TWO)
        yield case("size one", "max", (1, 1, 1, 1), (1, 1))
        yield case("whole image", "average", (1, 6, 7, 7), (7, 7))
        yield case("empty batch", "max", (0, 3, 4, 4), (2, 2))
        for dtype in ("int8", FLOAT8):
            stored = TensorType((1, 2, 6, 6), dtype)
            yield Case(PoolingAttributes("max", (3, 3), pre_padding=(1, 1)), (stored,), f"max {dtype}")


_TWO: dict[str, Any] = {"stride": (2, 2)}


def _axes(attrs: PoolingAttributes) -> list[WindowAxis]:
    padding = (attrs.pre_padding, attrs.post_padding)
    return window_axes(attrs.window, attrs.stride, attrs.dilation, *padding, attrs.padding_mode, attrs.ceil)


def _check(attrs: PoolingAttributes, source: TensorInfo) -> None:
    """`ValueError` for an input or attributes that have no meaning."""
    if attrs.function not in get_args(Function):
        raise ValueError(f"function is {attrs.function!r}, expected one of {get_args(Function)}")
    allowed = (*FLOATS, *INTEGERS, FLOAT8) if attrs.function == "max" else FLOATS
    if source.dtype not in allowed:
        raise ValueError(f"input is {source.type}, expected one of {', '.join(allowed)} for {attrs.function!r}")
    if not 3 <= source.rank <= 2 + MAX_SPATIAL_AXES:
        raise ValueError(f"input is {source.type}, expected [N, C] and 1 to {MAX_SPATIAL_AXES} spatial axes")
    if len(attrs.window) != source.rank - 2:
        raise ValueError(f"window is {attrs.window}, expected a size for each spatial axis of {source.type}")
    for number, axis in enumerate(_axes(attrs), start=2):
        if max(axis.pre, axis.post) >= axis.extent:
            raise ValueError(
                f"axis {number} is padded by {axis.pre} and {axis.post}, expected less than the window's {axis.extent}"
            )
    if attrs.with_indices and attrs.function != "max":
        raise ValueError(f"with_indices is set for {attrs.function!r}, expected function 'max'")
    if attrs.storage_order not in {0, 1}:
        raise ValueError(f"storage_order is {attrs.storage_order}, expected 0 (row major) or 1 (column major)")
    if attrs.p < 1:
        raise ValueError(f"p is {attrs.p}, expected at least 1")


def _reduce(attrs: PoolingAttributes, source: Array, axes: Sequence[WindowAxis]) -> Array:
    if attrs.function == "max":
        return maximum(source, axes)
    if attrs.function == "average":
        return average(source, axes, attrs.count_includes_padding)
    if attrs.function == "lp":
        return norm(source, axes, attrs.p)
    mean = average(source, axes, attrs.count_includes_padding)
    return (1 - attrs.blend) * maximum(source, axes) + attrs.blend * mean


def _info(array: Array) -> TensorInfo:
    return TensorInfo(TensorType(array.shape, dtype_name(array.dtype)))
