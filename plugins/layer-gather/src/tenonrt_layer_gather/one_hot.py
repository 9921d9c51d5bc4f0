"""OneHot: indices become vectors with one marked position."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

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
    draw,
    normalize_axis,
    required,
    unknown,
)

from tenonrt_layer_gather.operands import draw_indices


class OneHotAttributes(Attributes, frozen=True):
    """axis: where the new axis stands in the output."""

    axis: int = -1


def _depth(info: TensorInfo) -> Dimension:
    if info.shape not in ((), (1,)):
        raise ValueError(f"depth must be a scalar or one element, found {info.type}")
    if info.value is None:
        return unknown()
    depth = info.value.reshape(-1)[0]
    if isinstance(depth, Dim):
        return depth
    if int(depth) < 0:
        raise ValueError(f"depth is {depth}, expected at least 0")
    return int(depth)


class OneHotLayer(LayerType):
    """ONNX OneHot: a new axis of size ``depth`` holds values[1] at the index and values[0] elsewhere.

    Negative indices count from the end; an index outside ``[-depth, depth)`` marks nothing.
    """

    Attrs: ClassVar[type[Attributes]] = OneHotAttributes
    inputs: ClassVar[tuple[str, ...]] = ("indices", "depth", "values")
    shape_inputs: ClassVar[tuple[int, ...]] = (1,)

    def infer(self, attrs: OneHotAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        indices, depth, values = required(inputs, 3)
        if indices.dtype.startswith("complex") or indices.dtype == "string":
            raise ValueError(f"indices must be real numbers, found {indices.type}")
        if values.rank != 1 or (isinstance(values.shape[0], int) and values.shape[0] != 2):
            raise ValueError(f"values must hold two elements, off and on, found {values.type}")
        shape = list(indices.shape)
        shape.insert(normalize_axis(attrs.axis, indices.rank + 1), _depth(depth))
        return [TensorInfo(TensorType(tuple(shape), values.dtype), indices.place)]

    def reference(self, attrs: OneHotAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        indices, depth, values = required(arrays, 3)
        size, position = int(depth.reshape(-1)[0]), indices.astype(np.int64)
        axis = normalize_axis(attrs.axis, indices.ndim + 1)
        position = np.expand_dims(np.where(position < 0, position + size, position), axis)
        counter = np.arange(size).reshape([-1 if i == axis else 1 for i in range(indices.ndim + 1)])
        return [np.asarray(np.where(position == counter, values[1], values[0]), values.dtype)]

    def sample(
        self, attrs: OneHotAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        indices, depth, values = required(types, 3)
        size = int(rng.integers(1, 9))
        return [
            draw_indices(indices, size + 1, rng),
            np.full(depth.concrete({}), size, depth.numpy),
            draw(values, rng),
        ]

    def cases(self) -> Iterable[Case]:
        depth, values = np.array(5, np.int64), TensorType((2,))
        yield Case(OneHotAttributes(), (TensorType((2, 3), "int64"), depth, values), "last")
        yield Case(OneHotAttributes(axis=0), (TensorType((7,), "int32"), depth, values), "first")
        yield Case(OneHotAttributes(axis=-2), (TensorType((1, 3), "int64"), depth, TensorType((2,), "bool")), "bool")
        yield Case(OneHotAttributes(), (TensorType((), "int64"), depth.reshape(1), TensorType((2,), "int64")), "scalar")

    def flops(
        self, attrs: OneHotAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> Dimension:
        return 0
