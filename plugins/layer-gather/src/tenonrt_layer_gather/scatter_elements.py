"""ScatterElements: one element written per position of the indices."""

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
    same,
)

from tenonrt_layer_gather.gather_elements import check_element_indices, element_index
from tenonrt_layer_gather.reduction import Reduction, scatter


class ScatterElementsAttributes(Attributes, frozen=True):
    """axis: the axis that the indices address. reduction: how updates join what is there."""

    axis: int = 0
    reduction: Reduction = "none"


class ScatterElementsLayer(LayerType):
    """ONNX ScatterElements: a copy of ``data`` with ``y[indices[i, j], j]`` joined with ``updates[i, j]`` (axis 0)."""

    Attrs: ClassVar[type[Attributes]] = ScatterElementsAttributes
    inputs: ClassVar[tuple[str, ...]] = ("data", "indices", "updates")
    pattern: ClassVar[Pattern] = "movement"

    def infer(self, attrs: ScatterElementsAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        data, indices, updates = required(inputs, 3)
        check_element_indices(data, indices, normalize_axis(attrs.axis, data.rank))
        if updates.rank != indices.rank or updates.dtype != data.dtype:
            raise ValueError(f"updates are {updates.type}, expected {data.dtype} of the indices' shape {indices.type}")
        for i, (expected, found) in enumerate(zip(indices.shape, updates.shape, strict=True)):
            same(expected, found, f"axis {i} of updates")
        return [data.like()]

    def reference(self, attrs: ScatterElementsAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        data, indices, updates = required(arrays, 3)
        index = element_index(indices, data.shape, normalize_axis(attrs.axis, data.ndim))
        return [scatter(data, index, updates, attrs.reduction)]

    def sample(
        self, attrs: ScatterElementsAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        """Without a reduction no index is drawn twice, as ONNX leaves the winner open."""
        data, indices, updates = required(types, 3)
        axis = normalize_axis(attrs.axis, data.rank)
        size, shape = data.concrete({})[axis], indices.concrete({})
        if attrs.reduction == "none" and shape[axis] <= size:
            order = rng.permuted(np.broadcast_to(np.arange(size), (*shape[:axis], *shape[axis + 1 :], size)), axis=-1)
            drawn = np.moveaxis(order[..., : shape[axis]], -1, axis)
        else:
            drawn = rng.integers(0, max(size, 1), shape)
        return [draw(data, rng), drawn.astype(indices.numpy), draw(updates, rng)]

    def cases(self) -> Iterable[Case]:
        indices, updates = TensorType((2, 3), "int64"), TensorType((2, 3))
        for reduction in ("none", "add", "mul", "max", "min"):
            attrs = ScatterElementsAttributes(axis=-1, reduction=reduction)
            yield Case(attrs, (TensorType((3, 5)), indices, updates), reduction)
        yield Case(ScatterElementsAttributes(), (TensorType((3, 3)), indices, updates), "rows")

    def flops(
        self, attrs: ScatterElementsAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> Dimension:
        return 0 if attrs.reduction == "none" else required(inputs, 3)[2].type.size
