"""Photographs that scikit-image bundles, cut into cells of which every fifth is held out.

No patch that is trained on has a pixel of a held-out cell, and held-out patches lie within one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tenonrt_patches import PATCH, SOURCES, Pixels, has_contrast

CELL = 64  # pixels
CALIBRATION_CELLS = 3  # of each source


def load_sources() -> list[Pixels]:
    """Grey levels uint8 [height, width] of each source; needs scikit-image."""
    from skimage import data

    return [grey(getattr(data, name)()) for name in SOURCES]


def grey(image: Pixels) -> Pixels:
    """Luma of ITU-R BT.601 in whole numbers, so that it is the same everywhere; grey images as they are."""
    if image.ndim == 2:
        return image
    red, green, blue = (image[..., channel].astype(np.int64) for channel in range(3))
    return ((299 * red + 587 * green + 114 * blue + 500) // 1000).astype(np.uint8)


def cell_corners(image: Pixels, *, heldout: bool) -> list[tuple[int, int]]:
    """Top left corners of the cells that are held out, or of all others, from top to bottom.

    Those held out lie a knight's move apart, so that each image is covered evenly. What is left at the right and lower
    edges is no cell; it is trained on.
    """
    rows, columns = (size // CELL for size in image.shape)
    places = [(row, column) for row in range(rows) for column in range(columns)]
    return [(row * CELL, column * CELL) for row, column in places if ((2 * row + column) % 5 == 2) == heldout]


def cells(image: Pixels, *, heldout: bool) -> Pixels:
    """The cells that are held out, or all others, [n, CELL, CELL]."""
    corners = cell_corners(image, heldout=heldout)
    return np.stack([image[top : top + CELL, left : left + CELL] for top, left in corners])


def calibration_cells(image: Pixels) -> Pixels:
    """Some of the cells that are trained on, evenly spread, [CALIBRATION_CELLS, CELL, CELL]."""
    found = cells(image, heldout=False)
    return found[np.linspace(0, len(found) - 1, CALIBRATION_CELLS + 2).round().astype(np.int64)[1:-1]]


def training_corners(image: Pixels) -> NDArray[np.int64]:
    """Top left corners [n, 2] of all patches with some contrast that touch no held-out cell."""
    free = np.ones(image.shape, np.bool_)
    for top, left in cell_corners(image, heldout=True):
        # A patch whose corner is here reaches into the cell.
        free[max(top - PATCH + 1, 0) : top + CELL, max(left - PATCH + 1, 0) : left + CELL] = False
    windows = np.lib.stride_tricks.sliding_window_view(image, (PATCH, PATCH))
    corners = np.argwhere(free[: windows.shape[0], : windows.shape[1]])
    contrasts = [has_contrast(windows[tuple(part.T)]) for part in np.array_split(corners, len(corners) // 4096 + 1)]
    return corners[np.concatenate(contrasts)]
