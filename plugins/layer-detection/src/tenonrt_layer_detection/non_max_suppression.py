"""The NonMaxSuppression layer: the best of the boxes that overlap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from tenonrt.contracts import (
    INTEGERS,
    Array,
    Attributes,
    Case,
    Dimension,
    LayerType,
    Run,
    TensorInfo,
    TensorType,
    is_float,
    optional,
    required,
    same,
    unknown,
)

from tenonrt_layer_detection.boxes import suppressed


class NonMaxSuppressionAttributes(Attributes, frozen=True):
    """centered: boxes are (x centre, y centre, width, height), rather than (y1, x1, y2, x2) of two opposite corners."""

    centered: bool = False


class NonMaxSuppressionLayer(LayerType):
    """int64 [chosen, 3] of (image, class, box): per image and class, the best boxes that overlap no better one.

    Boxes [images, boxes, 4], scores [images, classes, boxes]. Then scalars that may be absent: how many to choose at
    most per class (none, if absent), the intersection over union past which a box is suppressed (0), and the score that
    a box must exceed. Of equal scores the first box wins (ONNX NonMaxSuppression).
    """

    Attrs = NonMaxSuppressionAttributes
    inputs = ("boxes", "scores", "most?", "overlap?", "least?")

    def infer(self, attrs: NonMaxSuppressionAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        boxes, scores = required(inputs, 2)
        if boxes.rank != 3 or scores.rank != 3:
            raise ValueError(f"boxes and scores must have rank 3, found {boxes.type} and {scores.type}")
        if not is_float(boxes.dtype) or not is_float(scores.dtype):
            raise ValueError(f"boxes and scores must be floats, found {boxes.type} and {scores.type}")
        same(4, boxes.shape[2], "the last axis of the boxes")
        same(boxes.shape[1], scores.shape[2], "the number of scores")
        same(boxes.shape[0], scores.shape[0], "the batch of the scores")
        for info in inputs[2:]:
            if info is not None and not (info.shape in {(), (1,)} and (is_float(info.dtype) or info.dtype in INTEGERS)):
                raise ValueError(f"the limits must be scalars of real numbers, found {info.type}")
        return [TensorInfo(TensorType((unknown(scores.type.size), 3), "int64"))]

    def reference(self, attrs: NonMaxSuppressionAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        boxes, scores = required(arrays, 2)
        most, overlap, least = (_scalar(optional(arrays, i)) for i in (2, 3, 4))
        count = 0 if most is None else max(0, int(most))
        chosen: list[tuple[int, int, int]] = []
        for image, classes in enumerate(scores):
            corners = ordered_corners(boxes[image].astype(np.float64), attrs.centered)
            for label, values in enumerate(classes):
                best = best_boxes(corners, values.astype(np.float64), count, overlap or 0.0, least)
                chosen.extend((image, label, int(box)) for box in best)
        return [np.array(chosen, np.int64).reshape(-1, 3)]

    def sample(
        self, attrs: NonMaxSuppressionAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        limits = (3, 0.5, 0.2)
        drawn: list[Array | None] = [rng.random(t.concrete({})).astype(t.numpy) for t in required(types, 2)]
        rest = zip(types[2:], limits, strict=False)
        return [*drawn, *(None if t is None else np.full(t.concrete({}), v, t.numpy) for t, v in rest)]

    def flops(
        self, attrs: NonMaxSuppressionAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> Dimension:
        return required(inputs, 2)[1].type.size * 16

    def cases(self) -> Iterable[Case]:
        scalar = TensorType((1,))
        given = (TensorType((2, 7, 4)), TensorType((2, 3, 7)), TensorType((1,), "int64"), scalar, scalar)
        yield Case(NonMaxSuppressionAttributes(), given, "corners")
        yield Case(NonMaxSuppressionAttributes(True), given, "centres")
        yield Case(NonMaxSuppressionAttributes(), given[:3], "no thresholds")


def _scalar(array: Array | None) -> float | None:
    return None if array is None else float(array.reshape(-1)[0])


def ordered_corners(boxes: Array, centered: bool) -> Array:
    """Boxes as (lower, lower, upper, upper) along both axes: [boxes, 4]."""
    if centered:
        half = boxes[:, 2:] / 2
        return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], 1)
    pairs = boxes.reshape(-1, 2, 2)
    return np.concatenate([pairs.min(1), pairs.max(1)], 1)


def best_boxes(corners: Array, scores: Array, count: int, overlap: float, least: float | None) -> Array:
    """Indices of the boxes chosen for one class, the best first."""
    order = np.argsort(-scores, kind="stable")
    if least is not None:
        order = order[scores[order] > least]
    return np.asarray(order[suppressed(corners[order], overlap, most=count)])
