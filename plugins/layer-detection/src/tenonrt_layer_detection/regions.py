"""What the layers that pool regions share: regions [R, 5] of a tensor [N, C, H, W]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tenonrt.contracts import FLOATS, Array, TensorInfo, TensorType, differ, draw, required


def check_regions(inputs: Sequence[TensorInfo | None]) -> tuple[TensorInfo, TensorInfo]:
    """Features and regions; `ValueError` when they are no [N, C, H, W] and [R, 5] of one float type."""
    features, regions = required(inputs, 2)
    if features.dtype not in FLOATS or regions.dtype != features.dtype:
        raise ValueError(f"inputs are {features.type} and {regions.type}, expected one float type")
    if features.rank != 4 or regions.rank != 2 or differ(regions.shape[1], 5):
        raise ValueError(f"inputs are {features.type} and {regions.type}, expected [N, C, H, W] and [R, 5]")
    return features, regions


def image_of(region: Array, images: int) -> int:
    """The number of the image that a region lies in."""
    number = int(region[0])
    if not 0 <= number < images:
        raise ValueError(f"a region lies in image {number} of {images}")
    return number


def sample_regions(types: Sequence[TensorType | None], scale: float, rng: np.random.Generator) -> list[Array | None]:
    """Features, and regions on whole pixels, some of them partly outside."""
    features, regions = required(types, 2)
    images, _, height, width = features.concrete({})
    count = regions.concrete({})[0]
    size = np.array([width, height]) / scale
    low = np.floor(rng.random((count, 2)) * size * 0.8)
    high = low + np.floor(rng.random((count, 2)) * size * 0.6)
    numbers = rng.integers(0, max(images, 1), (count, 1))
    return [draw(features, rng), np.concatenate([numbers, low, high], 1).astype(regions.numpy)]


def rounded(value: float) -> int:
    """To the nearest whole number, halves away from zero as C does."""
    return int(np.copysign(np.floor(abs(value) + 0.5), value))
