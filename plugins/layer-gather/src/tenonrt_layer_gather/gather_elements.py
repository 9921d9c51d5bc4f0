"""GatherElements: one element picked per position of the indices."""

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


class GatherElementsAttributes(Attributes, frozen=True):
    """axis: the axis of the data that the indices pick from."""

    axis: int = 0


def check_element_indices(data: TensorInfo, indices: TensorInfo, axis: int) -> None:
    """Refuse indices of another rank, or larger than the data on an axis that they do not index."""
    check_indices(indices)
    if indices.rank != data.rank:
        raise ValueError(f"indices must have the data's rank {data.rank}, found rank {indices.rank}")
    for i, (limit, size) in enumerate(zip(data.shape, indices.shape, strict=True)):
        if i != axis and isinstance(limit, int) and isinstance(size, int) and size > limit:
            raise ValueError(f"axis {i} of indices is {size}, expected at most the data's {limit}")


def element_index(indices: Array, shape: Sequence[int], axis: int) -> tuple[Array, ...]:
    """The NumPy index that replaces the position on ``axis`` by the index, and keeps the others."""
    grid: list[Array] = [np.asarray(g) for g in np.ogrid[tuple(slice(n) for n in indices.shape)]]
    grid[axis] = wrap(indices, shape[axis])
    return tuple(grid)


class GatherElementsLayer(LayerType):
    """ONNX GatherElements: ``y[i, j] = data[indices[i, j], j]`` for axis 0; indices may cover a part of the data."""

    Attrs: ClassVar[type[Attributes]] = GatherElementsAttributes
    inputs: ClassVar[tuple[str, ...]] = ("data", "indices")
    pattern: ClassVar[Pattern] = "movement"

    def infer(self, attrs: GatherElementsAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        data, indices = required(inputs, 2)
        check_element_indices(data, indices, normalize_axis(attrs.axis, data.rank))
        return [data.like(indices.shape)]

    def reference(self, attrs: GatherElementsAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        data, indices = required(arrays, 2)
        return [data[element_index(indices, data.shape, normalize_axis(attrs.axis, data.ndim))]]

    def sample(
        self, attrs: GatherElementsAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        data, indices = required(types, 2)
        size = data.concrete({})[normalize_axis(attrs.axis, data.rank)]
        return [draw(data, rng), draw_indices(indices, size, rng)]

    def cases(self) -> Iterable[Case]:
        yield Case(GatherElementsAttributes(), (TensorType((5, 7)), TensorType((9, 7), "int64")), "longer")
        yield Case(GatherElementsAttributes(axis=-1), (TensorType((3, 5)), TensorType((2, 1), "int32")), "part")
        yield Case(GatherElementsAttributes(axis=1), (TensorType((2, 3, 1)), TensorType((2, 0, 1), "int64")), "empty")

    def flops(
        self, attrs: GatherElementsAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> Dimension:
        return 0
