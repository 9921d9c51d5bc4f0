"""Boxes as corners (xmin, ymin, xmax, ymax): areas, overlaps, and the suppression of those that overlap."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import Array


def areas(boxes: Array, border: float = 0.0) -> Array:
    """width * height of boxes [..., 4], zero of those turned inside out. border: 1 where corners count as pixels."""
    width, height = boxes[..., 2] - boxes[..., 0] + border, boxes[..., 3] - boxes[..., 1] + border
    return np.where((width < 0) | (height < 0), 0, width * height)


def overlaps(box: Array, others: Array, border: float = 0.0) -> Array:
    """Intersection over union of one box with boxes [n, 4]."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    sides = np.maximum(high - low + border, 0)
    shared = sides[:, 0] * sides[:, 1]
    with np.errstate(all="ignore"):  # boxes without area have no overlap
        found = shared / (areas(box, border) + areas(others, border) - shared)
    return np.where(shared > 0, found, 0)


def suppressed(boxes: Array, threshold: float, border: float = 0.0, eta: float = 1.0, most: int = -1) -> list[int]:
    """Indices of the boxes that stay, of boxes sorted by score: each removes those it overlaps by more.

    eta below 1 multiplies the threshold after every box that stays, while it is above 0.5. most: stop there; -1: never.
    """
    kept: list[int] = []
    highest = np.zeros(len(boxes), boxes.dtype)  # overlap of each box with those that stay
    for index in range(len(boxes)):
        if len(kept) == most:
            break
        if highest[index] > threshold:
            continue
        kept.append(index)
        rest = slice(index + 1, None)
        highest[rest] = np.maximum(highest[rest], overlaps(boxes[index], boxes[rest], border))
        if eta < 1 and threshold > 0.5:
            threshold *= eta
    return kept
