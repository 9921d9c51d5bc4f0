"""DetectionOutput: boxes decoded, thinned out per class, and the best of each image (SSD: Liu et al. 2016)."""

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
    Run,
    TensorInfo,
    TensorType,
    differ,
    draw,
    required,
    unknown,
    working_dtype,
)

from tenonrt_layer_detection.boxes import suppressed

CodeType = Literal["corner", "center_size", "corner_size"]


class DetectionOutputAttributes(Attributes, frozen=True):
    """share_location: one box for all classes, not one for each. background: a class that is never put out, or -1.

    code: what the location's numbers are. scaled: they are multiplied by the priors' variances already.
    confidence: scores must be above it. top: the most per class before, keep: the most per image after suppression;
    -1: all. threshold, eta: of the suppression.
    """

    classes: int
    share_location: bool = True
    background: int = 0
    code: CodeType = "corner"
    scaled: bool = False
    confidence: float = float("-inf")
    top: int = -1
    keep: int = -1
    threshold: float = 0.3
    eta: float = 1.0


class DetectionOutputLayer(LayerType):
    """location [N, P 4] (or [N, P classes 4]), scores [N, P classes], priors [1, 2, P 4] to [1, 1, M, 7].

    A row is image, class, score, xmin, ymin, xmax, ymax, in order of image, then class, then falling score. How many
    there are is known only when it has run; where nothing is found, a row of -1 for each image.
    """

    Attrs: ClassVar[type[Attributes]] = DetectionOutputAttributes
    inputs: ClassVar[tuple[str, ...]] = ("location", "scores", "priors")

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        return [check_detections(attrs, inputs).like((1, 1, unknown(), 7))]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        location, scores, priors = required(arrays, 3)
        dtype = working_dtype(location.dtype)
        rows = detections(attrs, location, scores, priors)
        found = np.concatenate(rows) if rows else np.zeros((0, 7), dtype)
        if not len(found):
            found = np.full((len(location), 7), -1, dtype)
            found[:, 0] = np.arange(len(location))
        return [found[None, None].astype(location.dtype)]

    def sample(self, attrs: Any, types: Sequence[TensorType | None], rng: np.random.Generator) -> list[Array | None]:
        return draw_detections(types, rng)

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        location, scores, _ = required(inputs, 3)
        return location.type.size * 8 + scores.type.size

    def cases(self) -> Iterable[Case]:
        def case(name: str, images: int, priors: int, classes: int, **attrs: Any) -> Case:
            made = DetectionOutputAttributes(classes, **attrs)
            boxes = priors * 4 * (1 if made.share_location else classes)
            shapes = ((images, boxes), (images, priors * classes), (1, 2, priors * 4))
            return Case(made, tuple(map(TensorType, shapes)), name)

        for code in get_args(CodeType):
            yield case(code, 2, 12, 3, code=code, confidence=0.4, threshold=0.45)
        yield case("locations per class", 1, 9, 3, share_location=False, code="center_size", confidence=0.2)
        yield case("scaled, limits", 2, 20, 4, scaled=True, top=8, keep=5, confidence=0.1)
        yield case("falling threshold", 1, 16, 2, eta=0.8, threshold=0.9, background=-1)
        yield case("nothing found", 3, 4, 2, confidence=2.0)


def check_detections(attrs: Any, inputs: Sequence[TensorInfo | None]) -> TensorInfo:
    """The location; `ValueError` when the inputs do not belong together."""
    location, scores, priors = required(inputs, 3)
    if attrs.code not in get_args(CodeType):
        raise ValueError(f"code is {attrs.code!r}, expected one of {get_args(CodeType)}")
    if attrs.classes < 1:
        raise ValueError(f"classes is {attrs.classes}, expected at least 1")
    if len({location.dtype, scores.dtype, priors.dtype}) > 1 or location.dtype not in FLOATS:
        raise ValueError(f"inputs are {location.type}, {scores.type} and {priors.type}, expected one float type")
    if priors.rank != 3 or priors.shape[:2] != (1, 2) or location.rank != 2 or scores.rank != 2:
        raise ValueError(f"inputs are {location.type}, {scores.type} and {priors.type}, expected [N, P 4], "
                         f"[N, P {attrs.classes}] and [1, 2, P 4]")  # fmt: skip
    boxes = priors.shape[2]
    per_prior = 1 if attrs.share_location else attrs.classes
    if differ(location.shape[1], boxes * per_prior) or differ(scores.shape[1] * 4, boxes * attrs.classes):
        raise ValueError(f"inputs are {location.type}, {scores.type} and {priors.type}, which disagree on the "
                         f"number of priors for {attrs.classes} classes")  # fmt: skip
    return location


def detections(attrs: Any, location: Array, scores: Array, priors: Array) -> list[Array]:
    """The rows of each image."""
    dtype = working_dtype(location.dtype)
    boxes, variances = (priors[0, row].reshape(-1, 4).astype(dtype) for row in (0, 1))
    rows = []
    for image in range(len(location)):
        codes = location[image].reshape(len(boxes), -1, 4).astype(dtype)
        decoded = _decoded(attrs, codes, boxes[:, None], variances[:, None])
        rows.append(_detections(attrs, image, decoded, scores[image].reshape(-1, attrs.classes).astype(dtype)))
    return rows


def draw_detections(types: Sequence[TensorType | None], rng: np.random.Generator) -> list[Array | None]:
    """Small shifts, scores between 0 and 1 that differ clearly, priors inside the image."""
    location, scores, priors = required(types, 3)
    count = priors.concrete({})[2] // 4
    centres, half = rng.random((count, 2)), rng.random((count, 2)) * 0.2 + 0.1
    corners = np.concatenate([centres - half, centres + half], 1).ravel()
    given = np.stack([corners, np.full(4 * count, 0.1)])[None].astype(priors.numpy)
    size = scores.concrete({})
    ranks = rng.permutation(int(np.prod(size))).reshape(size) + 0.5
    return [draw(location, rng), (ranks / max(ranks.size, 1)).astype(scores.numpy), given]


def _decoded(attrs: Any, codes: Array, priors: Array, variances: Array) -> Array:
    """Boxes [P, locations, 4] from what the network says of them."""
    steps = codes if attrs.scaled else codes * variances
    if attrs.code == "corner":
        moved: Array = priors + steps
        return moved
    sides = priors[..., 2:] - priors[..., :2]
    if attrs.code == "corner_size":
        return np.asarray(priors + steps * np.concatenate([sides, sides], -1))
    centres = (priors[..., :2] + priors[..., 2:]) / 2 + steps[..., :2] * sides
    with np.errstate(over="ignore"):
        half = np.exp(steps[..., 2:]) * sides / 2
    return np.concatenate([centres - half, centres + half], -1)


def _detections(attrs: Any, image: int, boxes: Array, scores: Array) -> Array:
    """The rows of one image."""
    labels, chosen = [], []
    for label in range(attrs.classes):
        if label == attrs.background:
            continue
        above = np.flatnonzero(scores[:, label] > attrs.confidence)
        order = above[np.argsort(-scores[above, label], kind="stable")]
        order = order[: attrs.top] if attrs.top >= 0 else order
        own = boxes[:, 0 if attrs.share_location else label]
        kept = order[suppressed(own[order], attrs.threshold, eta=attrs.eta)]
        labels.append(np.full(len(kept), label))
        chosen.append(kept)
    classes, prior = (np.concatenate([np.zeros(0, int), *parts]).astype(int) for parts in (labels, chosen))
    score = scores[prior, classes]
    if 0 <= attrs.keep < len(prior):
        best = np.argsort(-score, kind="stable")[: attrs.keep]
        best = best[np.argsort(classes[best], kind="stable")]
        classes, prior, score = classes[best], prior[best], score[best]
    found = boxes[prior, 0 if attrs.share_location else classes]
    return np.column_stack([np.full(len(prior), image), classes, score, found]).astype(boxes.dtype)
