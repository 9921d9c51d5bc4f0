"""RoiAlign: regions resampled to one size without rounding their corners (Mask R-CNN: He et al. 2017, section 3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from tenonrt.contracts import (
    FLOATS,
    INTEGERS,
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
    working_dtype,
)

# A region is data: one with corners at 1e9 must not ask for as many samples.
MAX_SAMPLES = 1 << 20


class RoiAlignAttributes(Attributes, frozen=True):
    """pooled: rows and columns of the result. scale: of the features' pixels to those of the regions.

    samples: a side of the grid that each part is sampled at; 0: as many as it has pixels, rounded up. half_pixel: a
    pixel's value belongs to its middle; without it regions are at least one pixel wide and high.
    """

    pooled: tuple[int, int]
    scale: float = 1.0
    samples: int = 0
    mode: Literal["average", "max"] = "average"
    half_pixel: bool = True


class RoiAlignLayer(LayerType):
    """features [N, C, H, W], regions [R, 4] (x1, y1, x2, y2) and their images [R] to [R, C, *pooled].

    Each part of a region is the mean of bilinear samples, or the largest of their four terms. Samples further than a
    pixel outside are zero (ONNX RoiAlign).
    """

    Attrs: ClassVar[type[Attributes]] = RoiAlignAttributes
    inputs: ClassVar[tuple[str, ...]] = ("features", "regions", "images")

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        features, regions, images = required(inputs, 3)
        if features.dtype not in FLOATS or regions.dtype != features.dtype or images.dtype not in INTEGERS:
            raise ValueError(
                f"inputs are {features.type}, {regions.type} and {images.type}, expected one float type and integers"
            )
        if (features.rank, regions.rank, images.rank) != (4, 2, 1) or differ(regions.shape[1], 4):
            raise ValueError(
                f"inputs are {features.type}, {regions.type} and {images.type}, expected [N, C, H, W], [R, 4] and [R]"
            )
        if differ(regions.shape[0], images.shape[0]):
            raise ValueError(f"there are {regions.type} regions and {images.type} numbers of images")
        if len(attrs.pooled) != 2 or min(attrs.pooled) < 1 or not attrs.scale > 0 or attrs.samples < 0:
            raise ValueError(
                f"pooled is {attrs.pooled}, scale {attrs.scale}, samples {attrs.samples}; expected two sizes and a "
                "scale above zero, and samples of 0 or more"
            )
        return [features.like((regions.shape[0], features.shape[1], *attrs.pooled))]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        features, regions, images = required(arrays, 3)
        dtype = working_dtype(features.dtype)
        result = np.zeros((len(regions), features.shape[1], *attrs.pooled), dtype)
        for region, number, output in zip(regions, images, result, strict=True):
            if not 0 <= number < len(features):
                raise ValueError(f"a region lies in image {number} of {len(features)}")
            columns, rows = _sides(attrs, region.astype(np.float64), features.shape[2:])
            if rows.samples and columns.samples and features.size:
                image = features[number].astype(dtype, copy=False)
                output[...] = (_mean if attrs.mode == "average" else _largest)(image, rows, columns)
        return [result.astype(features.dtype, copy=False)]

    def sample(self, attrs: Any, types: Sequence[TensorType | None], rng: np.random.Generator) -> list[Array | None]:
        """Regions of a few pixels, some of them partly outside."""
        features, regions, images = required(types, 3)
        count, _, height, width = features.concrete({})
        number = regions.concrete({})[0]
        size = np.array([width, height]) / attrs.scale
        low = (rng.random((number, 2)) - 0.1) * size
        corners = np.concatenate([low, low + rng.random((number, 2)) * size], 1)
        where = rng.integers(0, max(count, 1), number)
        return [draw(features, rng), corners.astype(regions.numpy), where.astype(images.numpy)]

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        return outputs[0].type.size * 8 * max(1, attrs.samples) ** 2

    def cases(self) -> Iterable[Case]:
        for name, features, count, attrs in (
            ("adaptive", (2, 3, 9, 11), 5, RoiAlignAttributes((3, 2), 0.5)),
            ("two samples", (1, 4, 8, 7), 4, RoiAlignAttributes((2, 2), 1.0, 2)),
            ("whole pixels", (1, 2, 6, 6), 3, RoiAlignAttributes((4, 4), 0.25, 1, half_pixel=False)),
            ("largest", (2, 3, 8, 8), 4, RoiAlignAttributes((2, 3), 1.0, 2, "max")),
            ("largest, adaptive", (1, 2, 9, 9), 3, RoiAlignAttributes((2, 2), 1.0, 0, "max", False)),
            ("no regions", (1, 2, 4, 4), 0, RoiAlignAttributes((2, 2))),
        ):
            yield Case(attrs, (TensorType(features), TensorType((count, 4)), TensorType((count,), "int64")), name)


class _Side(NamedTuple):
    """Samples along one side of a region: [parts, samples] of the pixels before and after them, and their weights."""

    before: Array
    after: Array
    weight_before: Array
    weight_after: Array
    size: int

    @property
    def samples(self) -> int:
        return int(self.before.shape[1])

    def matrix(self, dtype: np.dtype[Any]) -> Array:
        """[parts, size]: each part as a mean of pixels."""
        parts = np.broadcast_to(np.arange(len(self.before))[:, None], self.before.shape)
        made = np.zeros((len(self.before), self.size))
        np.add.at(made, (parts, self.before), self.weight_before)
        np.add.at(made, (parts, self.after), self.weight_after)
        return (made / self.samples).astype(dtype)


def _sides(attrs: Any, region: Array, shape: Sequence[int]) -> tuple[_Side, _Side]:
    """The sides along x and y; `ValueError` for regions without end."""
    corners = region * attrs.scale - (0.5 if attrs.half_pixel else 0.0)
    lengths = corners[2:] - corners[:2]
    if not np.isfinite(corners).all():
        raise ValueError(f"a region has the corners {region.tolist()}")
    if not attrs.half_pixel:
        lengths = np.maximum(lengths, 1.0)
    parts = attrs.pooled[::-1]
    counts = [attrs.samples or max(0, ceil(length / part)) for length, part in zip(lengths, parts, strict=True)]
    if max(counts) > MAX_SAMPLES or counts[0] * counts[1] > MAX_SAMPLES:
        raise ValueError(f"a region {region.tolist()} has {counts[0]} x {counts[1]} samples in each part")
    along_x, along_y = (
        _side(start, length / part, part, count, size)
        for start, length, part, count, size in zip(corners[:2], lengths, parts, counts, shape[::-1], strict=True)
    )
    return along_x, along_y


def _side(start: float, step: float, parts: int, count: int, size: int) -> _Side:
    """``count`` samples in the middles of equal pieces of each part."""
    pieces = (np.arange(count) + 0.5) / max(count, 1)
    places = start + (np.arange(parts)[:, None] + pieces) * step
    inside = (places >= -1.0) & (places <= size)
    clamped = np.clip(places, 0.0, max(size - 1, 0))
    before = np.floor(clamped).astype(np.int64)
    weight = clamped - before
    after = np.minimum(before + 1, max(size - 1, 0))
    return _Side(before, after, np.where(inside, 1 - weight, 0.0), np.where(inside, weight, 0.0), size)


def _mean(image: Array, rows: _Side, columns: _Side) -> Array:
    """A mean of bilinear samples is a product of one matrix for each side."""
    return np.asarray(rows.matrix(image.dtype) @ image @ columns.matrix(image.dtype).T)


def _largest(image: Array, rows: _Side, columns: _Side) -> Array:
    """The largest of the samples' weighted pixels: [channels, parts of the rows, parts of the columns]."""
    found = np.empty((len(image), len(rows.before), len(columns.before)), image.dtype)
    for i in range(len(rows.before)):
        for j in range(len(columns.before)):
            terms = [
                image[:, y[i][:, None], x[j]] * (v[i][:, None] * w[j]).astype(image.dtype)
                for y, v in ((rows.before, rows.weight_before), (rows.after, rows.weight_after))
                for x, w in ((columns.before, columns.weight_before), (columns.after, columns.weight_after))
            ]
            found[:, i, j] = np.max([term.max((1, 2)) for term in terms], 0)
    return found
