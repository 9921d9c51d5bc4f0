"""GatherND: slices picked by index vectors."""

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
    required,
    same,
)

from tenonrt_layer_gather.operands import check_indices, wrap


class GatherNDAttributes(Attributes, frozen=True):
    """batch_dims: the leading axes that data and indices share."""

    batch_dims: int = 0


def index_depth(indices: TensorInfo, available: int) -> int:
    """How many axes one index vector addresses: the static last axis of the indices, 1 to ``available``."""
    check_indices(indices)
    if indices.rank == 0:
        raise ValueError("indices must have at least one axis, found a scalar")
    depth = indices.shape[-1]
    if not isinstance(depth, int):
        raise ValueError(f"the last axis of indices must be known when the network is built, found {depth}")
    if not 1 <= depth <= available:
        raise ValueError(f"the last axis of indices is {depth}, expected 1 to {available}")
    return depth


def vector_index(indices: Array, shape: Sequence[int]) -> tuple[Array, ...]:
    """One index array per addressed axis; ``shape`` are the sizes of those axes onward."""
    return tuple(wrap(indices[..., i], shape[i]) for i in range(indices.shape[-1]))


def draw_vectors(indices: TensorType, shape: Sequence[int], rng: np.random.Generator) -> Array:
    """Random valid index vectors into axes of these sizes."""
    *outer, depth = indices.concrete({})
    columns = [rng.integers(0, max(n, 1), outer) for n in shape[:depth]]
    return np.stack(columns, -1).astype(indices.numpy)


class GatherNDLayer(LayerType):
    """ONNX GatherND: each vector along the last axis of the indices picks a slice of ``data`` behind the batch axes."""

    Attrs: ClassVar[type[Attributes]] = GatherNDAttributes
    inputs: ClassVar[tuple[str, ...]] = ("data", "indices")
    pattern: ClassVar[Pattern] = "movement"

    def infer(self, attrs: GatherNDAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        data, indices = required(inputs, 2)
        batch = attrs.batch_dims
        if not 0 <= batch < min(data.rank, indices.rank):
            raise ValueError(f"batch_dims is {batch}, expected 0 to {min(data.rank, indices.rank) - 1}")
        depth = index_depth(indices, data.rank - batch)
        pairs = zip(data.shape[:batch], indices.shape[:batch], strict=True)
        shared = [same(a, b, f"batch axis {i} of indices") for i, (a, b) in enumerate(pairs)]
        return [data.like((*shared, *indices.shape[batch:-1], *data.shape[batch + depth :]))]

    def reference(self, attrs: GatherNDAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        data, indices = required(arrays, 2)
        batch = attrs.batch_dims
        sizes = indices.shape[:-1]
        grid = [np.asarray(g) for g in np.ogrid[tuple(slice(n) for n in sizes)][:batch]] if batch else []
        return [np.asarray(data[(*grid, *vector_index(indices, data.shape[batch:]))], data.dtype)]

    def sample(
        self, attrs: GatherNDAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        data, indices = required(types, 2)
        return [draw(data, rng), draw_vectors(indices, data.concrete({})[attrs.batch_dims :], rng)]

    def cases(self) -> Iterable[Case]:
        yield Case(GatherNDAttributes(), (TensorType((5, 7, 3)), TensorType((4, 2), "int64")), "pairs")
        yield Case(GatherNDAttributes(), (TensorType((5, 7)), TensorType((1, 3, 2), "int64")), "elements")
        yield Case(GatherNDAttributes(batch_dims=1), (TensorType((2, 5, 3)), TensorType((2, 4, 1), "int32")), "batch")
        yield Case(GatherNDAttributes(batch_dims=2), (TensorType((2, 3, 4)), TensorType((2, 3, 1), "int64")), "batches")

    def flops(
        self, attrs: GatherNDAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> Dimension:
        return 0
