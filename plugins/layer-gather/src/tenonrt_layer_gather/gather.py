"""Gather: slices of one axis picked by index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    Dimension,
    LayerType,
    Pattern,
    Run,
    TensorInfo,
    TensorType,
    draw,
    normalize_axis,
    required,
)

from tenonrt_layer_gather.operands import check_indices, draw_indices, wrap


class GatherAttributes(Attributes, frozen=True):
    """axis: the axis of the data that the indices pick from."""

    axis: int = 0


class GatherLayer(LayerType):
    """ONNX Gather: the axis of ``data`` is replaced by the axes of ``indices``. Negative indices count from the end."""

    Attrs: ClassVar[type[Attributes]] = GatherAttributes
    inputs: ClassVar[tuple[str, ...]] = ("data", "indices")
    pattern: ClassVar[Pattern] = "movement"
    shape_arithmetic: ClassVar[bool] = True

    def infer(self, attrs: GatherAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        data, indices = required(inputs, 2)
        check_indices(indices)
        axis = normalize_axis(attrs.axis, data.rank)
        return [data.like((*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]))]

    def reference(self, attrs: GatherAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        data, indices = required(arrays, 2)
        axis = normalize_axis(attrs.axis, data.ndim)
        picked = np.take(data, wrap(indices, data.shape[axis]), axis)
        # A scalar of an object array comes back as the bare object.
        return [np.asarray(picked, data.dtype)]

    def sample(
        self, attrs: GatherAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        data, indices = required(types, 2)
        size = data.concrete({})[normalize_axis(attrs.axis, data.rank)]
        return [draw(data, rng), draw_indices(indices, size, rng)]

    def cases(self) -> Iterable[Case]:
        index = TensorType((2, 3), "int64")
        yield Case(GatherAttributes(), (TensorType((5, 7)), index), "rows")
        yield Case(GatherAttributes(axis=-1), (TensorType((5, 1, 7), "float16"), index), "last axis")
        yield Case(GatherAttributes(axis=1), (TensorType((2, 3, 4)), TensorType((), "int32")), "scalar index")
        yield Case(GatherAttributes(), (TensorType((4,), "int64"), TensorType((0,), "int64")), "no index")

    def flops(
        self, attrs: GatherAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> Dimension:
        return 0
