"""NonMaxSuppression in two: which boxes are chosen, in tensors of known size, and the rows that are there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    Dimension,
    GraphView,
    Layer,
    LayerType,
    Pass,
    Patch,
    Run,
    Tensor,
    TensorInfo,
    TensorType,
    required,
    same,
    unknown,
)

from tenonrt_layer_detection.non_max_suppression import NonMaxSuppressionLayer, best_boxes, ordered_corners

MOST = 1 << 20  # boxes of all classes and images


class SelectBoxesAttributes(Attributes, frozen=True):
    """most: boxes of each class that are chosen. overlap, least (None: any), centered: as of NonMaxSuppression."""

    most: int
    overlap: float = 0.0
    least: float | None = None
    centered: bool = False


class SelectBoxesLayer(LayerType):
    """boxes [images, boxes, 4], scores [images, classes, boxes] to int64 numbers of boxes and their counts.

    [images, classes, most], the best first and zero where there are no more, and [images, classes].
    """

    Attrs: ClassVar[type[Attributes]] = SelectBoxesAttributes
    inputs: ClassVar[tuple[str, ...]] = ("boxes", "scores")

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        NonMaxSuppressionLayer().infer(attrs, inputs)
        if attrs.most < 1:
            raise ValueError(f"most is {attrs.most}, expected at least 1")
        scores = required(inputs, 2)[1]
        chosen = scores.like((*scores.shape[:2], attrs.most), "int64")
        return [chosen, chosen.like(scores.shape[:2])]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        boxes, scores = required(arrays, 2)
        chosen = np.zeros((*scores.shape[:2], attrs.most), np.int64)
        counts = np.zeros(scores.shape[:2], np.int64)
        for image, label in np.ndindex(*counts.shape):
            corners = ordered_corners(boxes[image].astype(np.float64), attrs.centered)
            found = best_boxes(corners, scores[image, label].astype(np.float64), attrs.most, attrs.overlap, attrs.least)
            counts[image, label] = len(found)
            chosen[image, label, : len(found)] = found
        return [chosen, counts]

    def sample(self, attrs: Any, types: Sequence[TensorType | None], rng: np.random.Generator) -> list[Array | None]:
        """Scores that differ clearly."""
        boxes, scores = required(types, 2)
        size = scores.concrete({})
        ranks = rng.permutation(prod(size)).reshape(size) + 0.5
        return [rng.random(boxes.concrete({})).astype(boxes.numpy), (ranks / max(ranks.size, 1)).astype(scores.numpy)]

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        return required(inputs, 2)[1].type.size * 16

    def cases(self) -> Iterable[Case]:
        types = (TensorType((2, 20, 4)), TensorType((2, 3, 20)))
        yield Case(SelectBoxesAttributes(7, 0.3, 0.2), types, "corners")
        yield Case(SelectBoxesAttributes(30, 0.5, centered=True), types, "centres, more than there are")
        yield Case(SelectBoxesAttributes(1, least=2.0), types, "none")


class CollectBoxesLayer(LayerType):
    """numbers [images, classes, most] and counts [images, classes] to rows (image, class, box), int64 [chosen, 3]."""

    Attrs = Attributes
    inputs: ClassVar[tuple[str, ...]] = ("numbers", "counts")

    def infer(self, attrs: Attributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        numbers, counts = required(inputs, 2)
        if numbers.rank != 3 or counts.rank != 2 or {numbers.dtype, counts.dtype} != {"int64"}:
            raise ValueError(f"inputs are {numbers.type} and {counts.type}, expected int64 of ranks 3 and 2")
        for axis in (0, 1):
            same(numbers.shape[axis], counts.shape[axis], "the number of counts")
        return [TensorInfo(TensorType((unknown(numbers.type.size), 3), "int64"))]

    def reference(self, attrs: Attributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        numbers, counts = required(arrays, 2)
        image, label, place = np.nonzero(np.arange(numbers.shape[2]) < counts[..., None])
        return [np.stack([image, label, numbers[image, label, place]], 1).astype(np.int64)]

    def sample(
        self, attrs: Attributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        numbers, counts = (t.concrete({}) for t in required(types, 2))
        return [rng.integers(0, 9, numbers), rng.integers(0, numbers[2] + 1, counts)]

    def cases(self) -> Iterable[Case]:
        yield Case(Attributes(), (TensorType((2, 3, 4), "int64"), TensorType((2, 3), "int64")), "some")
        yield Case(Attributes(), (TensorType((1, 2, 3), "int64"), np.zeros((1, 2), np.int64)), "none")


class SplitNonMaxSuppression(Pass):
    """Where sizes and limits are known."""

    kinds = frozenset({"NonMaxSuppression"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        boxes, scores, *limits = layer.inputs
        if boxes is None or scores is None or not (boxes.type.static and scores.type.static):
            return None
        if any(limit is not None and limit.constant is None for limit in limits):
            return None
        most, overlap, least = (_number(limit) for limit in (*limits, None, None, None)[:3])
        images, classes, count = scores.type.concrete({})
        kept = min(int(most or 0), count)
        if kept < 1 or images * classes * kept > MOST:
            return None
        patch = Patch("all but the number of rows is of known size")
        attrs = SelectBoxesAttributes(kept, overlap or 0.0, least, layer.attrs.centered)
        chosen = patch.add("SelectBoxes", [boxes, scores], attrs, outputs=2)
        (rows,) = patch.add("CollectBoxes", chosen)
        patch.replace(layer.outputs[0], rows)
        return patch


def _number(limit: Tensor | None) -> float | None:
    return None if limit is None or limit.constant is None else float(limit.constant.reshape(-1)[0])
