"""Proposal: regions that a region proposal network sees objects in (Faster R-CNN: Ren et al. 2015, section 3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

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


class ProposalAttributes(Attributes, frozen=True):
    """stride: pixels of the image per cell. base: side of the anchors' square, which ratios and scales vary.

    least: sides of regions, in pixels of the image before it was scaled. before, after: how many of the best there are
    before and after the suppression of those that overlap by more than ``threshold``.
    """

    stride: int = 16
    base: int = 16
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    scales: tuple[float, ...] = (8.0, 16.0, 32.0)
    least: float = 16.0
    before: int = 6000
    after: int = 300
    threshold: float = 0.7


class ProposalLayer(LayerType):
    """scores [N, 2 A, H, W] (backgrounds, then objects), shifts [N, 4 A, H, W], image [N, 3] to [R, 5] and [R, 1].

    image: height, width, and by how much it was scaled. A region is its image's number and corners (x1, y1, x2, y2),
    best first; the second output is its score. How many there are is known only when it has run.
    """

    Attrs: ClassVar[type[Attributes]] = ProposalAttributes
    inputs: ClassVar[tuple[str, ...]] = ("scores", "shifts", "image")

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        scores, shifts, image = required(inputs, 3)
        if len({scores.dtype, shifts.dtype, image.dtype}) > 1 or scores.dtype not in FLOATS:
            raise ValueError(f"inputs are {scores.type}, {shifts.type} and {image.type}, expected one float type")
        count = len(attrs.ratios) * len(attrs.scales)
        if not count or min(attrs.stride, attrs.base, attrs.after) < 1 or attrs.before < 1:
            raise ValueError("expected ratios, scales, and a stride, base and counts of at least 1")
        alike = scores.rank == shifts.rank == 4 and scores.shape[0::2] == shifts.shape[0::2]
        if not alike or differ(scores.shape[1], 2 * count) or differ(shifts.shape[1], 4 * count):
            raise ValueError(f"scores are {scores.type} and shifts {shifts.type}, expected [N, {2 * count}, H, W] and "
                             f"[N, {4 * count}, H, W] for {count} anchors")  # fmt: skip
        if image.rank != 2 or differ(image.shape[0], scores.shape[0]) or differ(image.shape[1], 3):
            raise ValueError(f"image is {image.type}, expected [N, 3]: height, width, scale")
        regions = unknown()
        return [scores.like((regions, 5)), scores.like((regions, 1))]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        scores, shifts, image = required(arrays, 3)
        dtype = working_dtype(scores.dtype)
        found = [
            _proposals(attrs, number, *(values[number].astype(dtype) for values in (scores, shifts, image)))
            for number in range(len(scores))
        ]
        rows = np.concatenate(found) if found else np.zeros((0, 6), dtype)
        return [np.ascontiguousarray(part).astype(scores.dtype) for part in (rows[:, :5], rows[:, 5:])]

    def sample(self, attrs: Any, types: Sequence[TensorType | None], rng: np.random.Generator) -> list[Array | None]:
        """Scores that differ clearly, shifts that move anchors a little, an image that the cells cover."""
        scores, shifts, image = required(types, 3)
        size = scores.concrete({})
        ranks = rng.permutation(int(np.prod(size))).reshape(size) + 0.5
        sides = [size[2] * attrs.stride, size[3] * attrs.stride, 1]
        told = np.tile(np.array(sides, image.numpy), (size[0], 1))
        return [(ranks / max(ranks.size, 1)).astype(scores.numpy), draw(shifts, rng) * shifts.numpy.type(0.1), told]

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        return required(inputs, 3)[1].type.size * 4

    def cases(self) -> Iterable[Case]:
        def case(name: str, images: int, cells: tuple[int, int], **attrs: Any) -> Case:
            made = ProposalAttributes(**attrs)
            count = len(made.ratios) * len(made.scales)
            shapes = ((images, 2 * count, *cells), (images, 4 * count, *cells), (images, 3))
            return Case(made, tuple(map(TensorType, shapes)), name)

        yield case("defaults", 1, (4, 5), least=4.0, before=100, after=10)
        yield case("two images", 2, (3, 3), ratios=(1.0,), scales=(2.0, 4.0), stride=8, least=2.0, threshold=0.5)


def anchors(base: int, ratios: Sequence[float], scales: Sequence[float]) -> Array:
    """[len(ratios) * len(scales), 4]: corners around the first cell, float64; sides of the ratios are whole."""
    widths = np.round(np.sqrt(base * base / np.array(ratios)))
    heights = np.round(widths * np.array(ratios))
    half = (np.stack([widths, heights], 1)[:, None] * np.array(scales)[None, :, None] - 1).reshape(-1, 2) / 2
    centre = (base - 1) / 2
    return np.concatenate([centre - half, centre + half], 1)


def _proposals(attrs: Any, number: int, scores: Array, shifts: Array, image: Array) -> Array:
    """Rows of image number, corners and score."""
    basic = anchors(attrs.base, attrs.ratios, attrs.scales).astype(scores.dtype)
    _, rows, columns = scores.shape
    ys, xs = np.meshgrid(np.arange(rows) * attrs.stride, np.arange(columns) * attrs.stride, indexing="ij")
    places = np.stack([xs, ys, xs, ys], -1)[:, :, None].astype(scores.dtype)
    given = (places + basic).reshape(-1, 4)
    steps = shifts.reshape(len(basic), 4, rows, columns).transpose(2, 3, 0, 1).reshape(-1, 4)
    objects = scores[len(basic) :].transpose(1, 2, 0).ravel()
    boxes = _moved(given, steps)
    limits = np.array([image[1], image[0], image[1], image[0]], boxes.dtype) - 1
    boxes = np.maximum(np.minimum(boxes, limits), 0)
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    large = np.flatnonzero((sides >= attrs.least * image[2]).all(1))
    order = large[np.argsort(-objects[large], kind="stable")][: attrs.before]
    kept = order[suppressed(boxes[order], attrs.threshold, border=1.0, most=attrs.after)]
    return np.column_stack([np.full(len(kept), number), boxes[kept], objects[kept]]).astype(scores.dtype)


def _moved(boxes: Array, steps: Array) -> Array:
    """Boxes whose centres are moved by steps times their sides, the sides multiplied by the steps' exponentials."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    centres = boxes[:, :2] + sides / 2 + steps[:, :2] * sides
    with np.errstate(over="ignore"):
        half = np.exp(steps[:, 2:]) * sides / 2
    return np.concatenate([centres - half, centres + half], 1)
