"""Output sizes and scales of Resize, from its scales or sizes input."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from tenonrt.contracts import Dim, Dimension, TensorInfo, unknown

KeepAspect = Literal["stretch", "not_larger", "not_smaller"]

# Sizes up to this one are checked when a scale is taken for a fraction.
_LARGEST_CHECKED = 1 << 15


def absent(info: TensorInfo | None) -> bool:
    """Whether an input is missing; older ONNX models pass an empty tensor instead."""
    return info is None or info.shape == (0,)


def floored(size: int, scale: float) -> int:
    """``floor(size * scale)`` with the product in float32, as onnxruntime computes it."""
    return int(np.floor(np.float32(size) * np.float32(scale)))


def scaled_size(size: Dimension, scale: float) -> Dimension:
    """The output size of an axis; unknown for a symbolic one whose rounded product is no simple fraction of it."""
    if isinstance(size, int):
        return floored(size, scale)
    fraction = _fraction(scale)
    return unknown() if fraction is None else size * fraction.numerator // fraction.denominator


@lru_cache(maxsize=256)
def _fraction(scale: float) -> Fraction | None:
    """A simple fraction that gives the same sizes as the scale, None when there is none."""
    fraction = Fraction(scale).limit_denominator(1000)
    sizes = np.arange(_LARGEST_CHECKED)
    expected = np.floor(sizes.astype(np.float32) * np.float32(scale)).astype(np.int64)
    same = np.array_equal(sizes * fraction.numerator // fraction.denominator, expected)
    return fraction if same else None


def fitted(sizes: list[int], originals: list[int], policy: KeepAspect) -> tuple[list[int], list[float]]:
    """Output sizes and scales for wanted sizes; the aspect-keeping policies use one scale for all axes."""
    if policy != "stretch" and 0 in originals:
        raise ValueError(f"an empty image of {originals} has no aspect ratio to keep")
    scales = [np.float32(want) / np.float32(size) for want, size in zip(sizes, originals, strict=True)]
    if policy == "stretch":
        return sizes, [float(s) for s in scales]
    scale = min(scales) if policy == "not_larger" else max(scales)
    return [int(np.floor(scale * np.float32(n) + np.float32(0.5))) for n in originals], [float(scale)] * len(sizes)


def sizes_from(wanted: list[Any], originals: list[Dimension], policy: KeepAspect) -> list[Dimension]:
    """Output sizes while inferring, where wanted sizes or the axes may be symbolic."""
    if policy == "stretch":
        return [w if isinstance(w, Dim) else int(w) for w in wanted]
    if any(isinstance(n, Dim) for n in (*wanted, *originals)):
        return [unknown(w if policy == "not_larger" else None) for w in wanted]
    fixed, _ = fitted([int(w) for w in wanted], [n for n in originals if isinstance(n, int)], policy)
    return list(fixed)
