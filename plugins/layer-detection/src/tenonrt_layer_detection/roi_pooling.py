"""RoiPooling: the maximum of each part of a region (Fast R-CNN: Girshick 2015, section 2.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, floor
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import Array, Attributes, Case, LayerType, Run, TensorInfo, TensorType, required

from tenonrt_layer_detection.regions import check_regions, image_of, rounded, sample_regions


class RoiPoolingAttributes(Attributes, frozen=True):
    """pooled: rows and columns of the result. scale: of the features' pixels to those of the regions."""

    pooled: tuple[int, int]
    scale: float = 1.0


class RoiPoolingLayer(LayerType):
    """features [N, C, H, W] and regions [R, 5] (image, x1, y1, x2, y2, both corners inside) to [R, C, *pooled].

    Corners are rounded to pixels of the features; a part without pixels is zero.
    """

    Attrs: ClassVar[type[Attributes]] = RoiPoolingAttributes
    inputs: ClassVar[tuple[str, ...]] = ("features", "regions")

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        features, regions = check_regions(inputs)
        if len(attrs.pooled) != 2 or min(attrs.pooled) < 1 or not attrs.scale > 0:
            raise ValueError(f"pooled is {attrs.pooled} and scale {attrs.scale}, expected two sizes, all above zero")
        return [features.like((regions.shape[0], features.shape[1], *attrs.pooled))]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        features, regions = required(arrays, 2)
        result = np.zeros((len(regions), features.shape[1], *attrs.pooled), features.dtype)
        for region, output in zip(regions, result, strict=True):
            image = features[image_of(region, len(features))]
            x1, y1, x2, y2 = (rounded(float(v) * attrs.scale) for v in region[1:])
            rows = _parts(y1, y2, attrs.pooled[0], image.shape[1])
            columns = _parts(x1, x2, attrs.pooled[1], image.shape[2])
            for i, (top, bottom) in enumerate(rows):
                for j, (left, right) in enumerate(columns):
                    if bottom > top and right > left:
                        output[:, i, j] = image[:, top:bottom, left:right].max((1, 2))
        return [result]

    def sample(self, attrs: Any, types: Sequence[TensorType | None], rng: np.random.Generator) -> list[Array | None]:
        return sample_regions(types, attrs.scale, rng)

    def cases(self) -> Iterable[Case]:
        for name, features, count, attrs in (
            ("2x2", (1, 3, 8, 9), 4, RoiPoolingAttributes((2, 2))),
            ("scaled", (2, 4, 7, 6), 5, RoiPoolingAttributes((3, 2), 0.0625)),
            ("more parts than pixels", (1, 2, 3, 3), 3, RoiPoolingAttributes((7, 7), 0.5)),
            ("no regions", (1, 2, 4, 4), 0, RoiPoolingAttributes((2, 2))),
        ):
            yield Case(attrs, (TensorType(features), TensorType((count, 5))), name)


def _parts(start: int, end: int, count: int, limit: int) -> list[tuple[int, int]]:
    """Where the parts of one side begin and end, inside the features."""
    length = max(end - start + 1, 1) / count
    edges = ((floor(i * length) + start, ceil((i + 1) * length) + start) for i in range(count))
    return [(min(max(a, 0), limit), min(max(b, 0), limit)) for a, b in edges]
