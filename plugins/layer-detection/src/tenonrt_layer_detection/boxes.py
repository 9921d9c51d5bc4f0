"""Boxes as corners (xmin, ymin, xmax, ymax): areas, overlaps, and the suppression of those that overlap."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import Array

_TOGETHER = 32  # candidates whose overlaps are computed at once: fewer calls, and matrices that stay in the cache


def areas(boxes: Array, border: float = 0.0) -> Array:
    """width * height of boxes [..., 4], zero of those turned inside out. border: 1 where corners count as pixels."""
    width, height = boxes[..., 2] - boxes[..., 0] + border, boxes[..., 3] - boxes[..., 1] + border
    return np.where((width < 0) | (height < 0), 0, width * height)


def overlaps(some: Array, others: Array, border: float = 0.0) -> Array:
    """[m, n] intersections over unions of boxes [m, 4] with boxes [n, 4]; 0 where they share nothing."""
    (left, top, right, bottom), columns = (np.ascontiguousarray(boxes.T) for boxes in (some, others))
    wide = np.minimum(right[:, None], columns[2]) - np.maximum(left[:, None], columns[0]) + border
    high = np.minimum(bottom[:, None], columns[3]) - np.maximum(top[:, None], columns[1]) + border
    shared = np.maximum(wide, 0) * np.maximum(high, 0)
    with np.errstate(all="ignore"):  # boxes without area have no overlap
        found = shared / (areas(some, border)[:, None] + areas(others, border) - shared)
    return np.where(shared > 0, found, 0)


def suppressed(boxes: Array, threshold: float, border: float = 0.0, eta: float = 1.0, most: int = -1) -> list[int]:
    """Indices of the boxes that stay, of boxes sorted by score: each removes those it overlaps by more.

    eta below 1 multiplies the threshold after every box that stays, while it is above 0.5. most: stop there; -1: never.
    """
    if eta < 1:
        return _suppressed_more(boxes, threshold, border, eta, most)
    kept: list[int] = []
    waiting = np.arange(len(boxes))
    while len(waiting) and len(kept) != most:
        count = min(_TOGETHER, len(waiting))
        over = overlaps(boxes[waiting[:count]], boxes[waiting], border) > threshold
        chosen = _chosen(over[:, :count], most - len(kept))
        kept += waiting[chosen].tolist()
        waiting = waiting[count:][~over[chosen, count:].any(0)]
    return kept


def _suppressed_more(boxes: Array, threshold: float, border: float, eta: float, most: int) -> list[int]:
    """Box by box: what did not remove one may do so when its turn comes."""
    kept: list[int] = []
    highest = np.zeros(len(boxes), boxes.dtype)  # overlap of each box with those that stay
    for index in range(len(boxes)):
        if len(kept) == most:
            break
        if highest[index] > threshold:
            continue
        kept.append(index)
        rest = slice(index + 1, None)
        highest[rest] = np.maximum(highest[rest], overlaps(boxes[[index]], boxes[rest], border)[0])
        if threshold > 0.5:
            threshold *= eta
    return kept


def _chosen(over: Array, most: int) -> list[int]:
    """Of candidates in order, and whom each removes, [n, n]: those that stay, ``most`` at most unless that is negative.

    Sets are the bits of integers: this loop is all that runs box by box.
    """
    removes = (over @ (1 << np.arange(len(over)))).tolist()
    found: list[int] = []
    gone = 0
    for index, others in enumerate(removes):
        if not gone >> index & 1 and len(found) != most:
            found.append(index)
            gone |= others
    return found
