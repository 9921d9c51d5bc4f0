"""ScatterND: slices written at index vectors."""

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

from tenonrt_layer_gather.gather_nd import draw_vectors, index_depth, vector_index
from tenonrt_layer_gather.reduction import Reduction, scatter


class ScatterNDAttributes(Attributes, frozen=True):
    """reduction: how updates join what is there."""

    reduction: Reduction = "none"


class ScatterNDLayer(LayerType):
    """ONNX ScatterND: a copy of ``data`` with a slice of ``updates`` joined at each index vector."""

    Attrs: ClassVar[type[Attributes]] = ScatterNDAttributes
    inputs: ClassVar[tuple[str, ...]] = ("data", "indices", "updates")
    pattern: ClassVar[Pattern] = "movement"

    def infer(self, attrs: ScatterNDAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        data, indices, updates = required(inputs, 3)
        depth = index_depth(indices, data.rank)
        expected = data.like((*indices.shape[:-1], *data.shape[depth:]))
        if updates.rank != expected.rank or updates.dtype != data.dtype:
            raise ValueError(f"updates are {updates.type}, expected {expected.type}")
        for i, (wanted, found) in enumerate(zip(expected.shape, updates.shape, strict=True)):
            same(wanted, found, f"axis {i} of updates")
        return [data.like()]

    def reference(self, attrs: ScatterNDAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        data, indices, updates = required(arrays, 3)
        return [scatter(data, vector_index(indices, data.shape), updates, attrs.reduction)]

    def sample(
        self, attrs: ScatterNDAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        """Without a reduction no index is drawn twice while there are enough, as ONNX leaves the winner open."""
        data, indices, updates = required(types, 3)
        shape, (*outer, depth) = data.concrete({}), indices.concrete({})
        count, available = int(np.prod(outer)), int(np.prod(shape[:depth]))
        if attrs.reduction == "none" and count <= available:
            flat = rng.permutation(available)[:count]
            drawn = np.stack(np.unravel_index(flat, shape[:depth]), -1).reshape(indices.concrete({}))
            return [draw(data, rng), drawn.astype(indices.numpy), draw(updates, rng)]
        return [draw(data, rng), draw_vectors(indices, shape, rng), draw(updates, rng)]

    def cases(self) -> Iterable[Case]:
        indices, updates = TensorType((4, 1), "int64"), TensorType((4, 3))
        for reduction in ("none", "add", "mul", "max", "min"):
            yield Case(ScatterNDAttributes(reduction), (TensorType((7, 3)), indices, updates), reduction)
        elements = (TensorType((3, 5), "int32"), TensorType((2, 3, 2), "int64"), TensorType((2, 3), "int32"))
        yield Case(ScatterNDAttributes(), elements, "elements")

    def flops(
        self, attrs: ScatterNDAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> Dimension:
        return 0 if attrs.reduction == "none" else required(inputs, 3)[2].type.size
