"""Suppression against its definition, box by box."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenonrt_layer_detection.boxes import suppressed


def overlap(a: Any, b: Any, border: float) -> float:
    sides = [min(a[k + 2], b[k + 2]) - max(a[k], b[k]) + border for k in (0, 1)]
    areas = [(box[2] - box[0] + border) * (box[3] - box[1] + border) for box in (a, b)]
    shared = sides[0] * sides[1] if min(sides) > 0 else 0.0
    return shared / (sum(areas) - shared) if shared else 0.0


def one_by_one(boxes: Any, threshold: float, border: float, eta: float, most: int) -> list[int]:
    kept: list[int] = []
    for index, box in enumerate(boxes.tolist()):
        if len(kept) != most and all(overlap(boxes[other].tolist(), box, border) <= threshold for other in kept):
            kept.append(index)
            if eta < 1 and threshold > 0.5:
                threshold *= eta
    return kept


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 90), seed=st.integers(0, 99), threshold=st.sampled_from((0.0, 0.3, 0.5, 0.7, 1.0)),
    border=st.sampled_from((0.0, 1.0)), eta=st.sampled_from((1.0, 1.0, 0.8)), most=st.integers(-1, 40),
)  # fmt: skip
def test_boxes_that_overlap_more_are_removed(
    count: int, seed: int, threshold: float, border: float, eta: float, most: int
) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 12, (count, 2))  # on a coarse grid, so that some overlap exactly alike
    boxes = np.concatenate([corners, corners + rng.integers(1, 9, (count, 2))], 1).astype(np.float64)
    most = most or -1
    assert suppressed(boxes, threshold, border, eta, most) == one_by_one(boxes, threshold, border, eta, most)


@pytest.mark.parametrize("eta", [1.0, 0.9])
def test_boxes_without_area_remove_nobody(eta: float) -> None:
    boxes = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 2, 2], [3, 3, 2, 2], [np.nan, 0, 1, 1]], np.float32)
    assert suppressed(boxes, 0.0, eta=eta) == [0, 1, 2, 3, 4]
