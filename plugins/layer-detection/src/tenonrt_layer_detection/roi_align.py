"""RoiAlign: samples between pixels in each part of a region (Mask R-CNN: He et al. 2017, section 3; ONNX RoiAlign)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from tenonrt.contracts import Array, Attributes, Case, LayerType, Run, TensorInfo, TensorType, required, working_dtype

from tenonrt_layer_detection.regions import check_regions, image_of, sample_regions

Mode = Literal["average", "max"]


class RoiAlignAttributes(Attributes, frozen=True):
    """pooled: rows and columns of the result. scale: of the features' pixels to those of the regions.

    samples: per side of a part; 0: one for each pixel that it spans. half_pixel: pixels have their centres at halves,
    and regions any size; otherwise regions are at least one pixel large.
    """

    pooled: tuple[int, int]
    scale: float = 1.0
    samples: int = 0
    mode: Mode = "average"
    half_pixel: bool = False


class RoiAlignLayer(LayerType):
    """features [N, C, H, W] and regions [R, 5] (image, x1, y1, x2, y2) to [R, C, *pooled].

    A sample more than a pixel outside of the features is zero. The maximum is that of the four weighted pixels of all
    samples, as ONNX has it.
    """

    Attrs: ClassVar[type[Attributes]] = RoiAlignAttributes
    inputs: ClassVar[tuple[str, ...]] = ("features", "regions")

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        features, regions = check_regions(inputs)
        if len(attrs.pooled) != 2 or min(attrs.pooled) < 1 or not attrs.scale > 0:
            raise ValueError(f"pooled is {attrs.pooled} and scale {attrs.scale}, expected two sizes, all above zero")
        if attrs.samples < 0 or attrs.mode not in get_args(Mode):
            raise ValueError(f"samples is {attrs.samples} and mode {attrs.mode!r}, expected at least 0 and one of "
                             f"{get_args(Mode)}")  # fmt: skip
        return [features.like((regions.shape[0], features.shape[1], *attrs.pooled))]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        features, regions = required(arrays, 2)
        dtype = working_dtype(features.dtype)
        result = np.zeros((len(regions), features.shape[1], *attrs.pooled), dtype)
        for region, output in zip(regions.astype(dtype), result, strict=True):
            image = features[image_of(region, len(features))].astype(dtype)
            rows = _Samples.of(attrs, region[[2, 4]], attrs.pooled[0], image.shape[1])
            columns = _Samples.of(attrs, region[[1, 3]], attrs.pooled[1], image.shape[2])
            output[...] = _pooled(attrs.mode, image, rows, columns)
        return [result.astype(features.dtype)]

    def sample(self, attrs: Any, types: Sequence[TensorType | None], rng: np.random.Generator) -> list[Array | None]:
        return sample_regions(types, attrs.scale, rng)

    def reduction(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> int:
        return 4 * int(max(attrs.samples, 2)) ** 2

    def cases(self) -> Iterable[Case]:
        for name, features, count, attrs in (
            ("2x2", (1, 3, 8, 9), 4, RoiAlignAttributes((2, 2))),
            ("scaled, samples", (2, 4, 7, 6), 5, RoiAlignAttributes((3, 2), 0.0625, 2)),
            ("half pixels", (2, 18, 7, 6), 5, RoiAlignAttributes((3, 4), 0.5, half_pixel=True)),
            ("maxima", (1, 2, 5, 6), 3, RoiAlignAttributes((2, 3), 0.5, 3, "max")),
            ("no regions", (1, 2, 4, 4), 0, RoiAlignAttributes((2, 2))),
        ):
            yield Case(attrs, (TensorType(features), TensorType((count, 5))), name)


class _Samples:
    """Along one side: pixels below and above each sample, [parts, samples], and their weights."""

    def __init__(self, positions: Array, size: int) -> None:
        outside = (positions < -1) | (positions > size)
        inside = np.maximum(positions, 0)
        self.low = np.minimum(inside.astype(np.int64), size - 1)
        self.high = np.minimum(self.low + 1, size - 1)
        above = np.where(self.low == size - 1, 0, inside - self.low)
        self.weights = [np.where(outside, 0, weight) for weight in (1 - above, above)]

    @classmethod
    def of(cls, attrs: Any, ends: Array, parts: int, size: int) -> _Samples:
        start, end = ends * attrs.scale - (0.5 if attrs.half_pixel else 0.0)
        length = end - start if attrs.half_pixel else max(end - start, 1)
        part = length / parts
        count = attrs.samples or max(ceil(part), 0)
        steps = (np.arange(count, dtype=ends.dtype) + 0.5) * (part / count if count else 0)
        return cls(start + np.arange(parts, dtype=ends.dtype)[:, None] * part + steps, size)


def _pooled(mode: str, image: Array, rows: _Samples, columns: _Samples) -> Array:
    """[C, rows, columns] of an image [C, H, W]; zero where a part has no samples."""
    shape = (len(image), len(rows.low), rows.low.shape[1], len(columns.low), columns.low.shape[1])
    if 0 in shape:
        return np.zeros((shape[0], shape[1], shape[3]), image.dtype)
    taps = [
        image[:, y[:, :, None, None], x] * (v[:, :, None, None] * w)
        for y, v in zip((rows.low, rows.high), rows.weights, strict=True)
        for x, w in zip((columns.low, columns.high), columns.weights, strict=True)
    ]
    if mode == "max":
        return np.asarray(np.maximum.reduce(taps).max((2, 4)))
    return np.asarray((taps[0] + taps[1] + taps[2] + taps[3]).mean((2, 4)))
