"""PositionSensitiveRoiPooling: each part of a region averages channels of its own (R-FCN: Dai et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, floor
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import Array, Attributes, Case, LayerType, Run, TensorInfo, TensorType, differ, required

from tenonrt_layer_detection.regions import check_regions, image_of, rounded, sample_regions


class PositionSensitiveRoiPoolingAttributes(Attributes, frozen=True):
    """channels: of the result. groups: rows and columns of parts. scale: of the features to the regions' pixels."""

    channels: int
    groups: int
    scale: float = 1.0


class PositionSensitiveRoiPoolingLayer(LayerType):
    """features [N, channels groups^2, H, W] and regions [R, 5] to [R, channels, groups, groups].

    Part (i, j) of channel c is the mean of feature channel (c groups + i) groups + j; without pixels it is zero.
    """

    Attrs: ClassVar[type[Attributes]] = PositionSensitiveRoiPoolingAttributes
    inputs: ClassVar[tuple[str, ...]] = ("features", "regions")

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        features, regions = check_regions(inputs)
        if attrs.channels < 1 or attrs.groups < 1 or not attrs.scale > 0:
            raise ValueError(f"channels, groups and scale are {attrs.channels}, {attrs.groups} and {attrs.scale}, "
                             f"expected numbers above zero")  # fmt: skip
        if differ(features.shape[1], attrs.channels * attrs.groups**2):
            raise ValueError(f"features are {features.type}, expected {attrs.channels} x {attrs.groups}^2 channels")
        return [features.like((regions.shape[0], attrs.channels, attrs.groups, attrs.groups))]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        features, regions = required(arrays, 2)
        parts = attrs.groups
        result = np.zeros((len(regions), attrs.channels, parts, parts), features.dtype)
        for region, output in zip(regions, result, strict=True):
            image = features[image_of(region, len(features))]
            x1, y1 = (rounded(float(v)) * attrs.scale for v in region[1:3])
            x2, y2 = (rounded(float(v) + 1) * attrs.scale for v in region[3:])
            rows, columns = _parts(y1, y2, parts, image.shape[1]), _parts(x1, x2, parts, image.shape[2])
            for i, (top, bottom) in enumerate(rows):
                for j, (left, right) in enumerate(columns):
                    if bottom > top and right > left:
                        own = image[i * parts + j :: parts * parts, top:bottom, left:right]
                        output[:, i, j] = own.mean((1, 2), dtype=max(own.dtype, np.dtype(np.float32)))
        return [result]

    def sample(self, attrs: Any, types: Sequence[TensorType | None], rng: np.random.Generator) -> list[Array | None]:
        return sample_regions(types, attrs.scale, rng)

    def reduction(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> int:
        return 16

    def cases(self) -> Iterable[Case]:
        for name, features, count, attrs in (
            ("2x2", (1, 12, 8, 9), 4, PositionSensitiveRoiPoolingAttributes(3, 2)),
            ("scaled", (2, 18, 9, 7), 5, PositionSensitiveRoiPoolingAttributes(2, 3, 0.0625)),
            ("one part", (1, 2, 5, 5), 3, PositionSensitiveRoiPoolingAttributes(2, 1, 0.5)),
        ):
            yield Case(attrs, (TensorType(features), TensorType((count, 5))), name)


def _parts(start: float, end: float, count: int, limit: int) -> list[tuple[int, int]]:
    length = max(end - start, 0.1) / count
    edges = ((floor(i * length + start), ceil((i + 1) * length + start)) for i in range(count))
    return [(min(max(a, 0), limit), min(max(b, 0), limit)) for a, b in edges]
