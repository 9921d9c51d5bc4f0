"""A trained network that tells which photograph a patch is from and whether it lies on its side, and such patches.

The network and the data are described in this distribution's README.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["PATCH", "SOURCES", "calibration", "classes_of", "has_contrast", "heldout", "model_path", "patches_of"]

# Functions of skimage.data in the order of the classes. All are in its wheel, so that nothing is fetched, and nobody
# claims a right to them.
SOURCES = ("astronaut", "brick", "camera", "cat", "clock", "coffee", "coins", "grass", "rocket", "text")
PATCH = 32  # pixels
_STRIDE = 16  # between patches of a cell: nine of them
_LEAST_CONTRAST = 8.0  # standard deviation of grey levels; less is sky or night, whose direction nobody can tell
_FOLDER = Path(__file__).parent

Pixels = NDArray[np.uint8]
Labelled = tuple[NDArray[np.float32], NDArray[np.int64]]


def model_path() -> Path:
    """Return the path of the ONNX file: `image` float32 [N, 1, 32, 32] in 0..1 to `probabilities` float32 [N, 20].

    Raises FileNotFoundError when the file is not in the installed distribution.
    """
    return _data_file("patches.onnx")


def heldout() -> Labelled:
    """Return patches of cells that were held out, float32 [n, 1, 32, 32] in 0..1, and their classes int64 [n] in 0..19.

    The four turns of a patch follow each other. Raises FileNotFoundError when the file is not in the installed
    distribution.
    """
    return patches_of(_data_file("cells.npz"), "heldout")


def calibration() -> Labelled:
    """Return patches of cells that were trained on, as `heldout` does: what calibrators are shown."""
    return patches_of(_data_file("cells.npz"), "calibration")


def patches_of(path: Path, part: Literal["heldout", "calibration"]) -> Labelled:
    """Return the patches of one part of a file of cells: all with some contrast, in each of their turns."""
    with np.load(path, allow_pickle=False) as arrays:
        cells, sources = arrays[part], arrays[f"{part}_sources"]
    windows = np.lib.stride_tricks.sliding_window_view(cells, (PATCH, PATCH), axis=(1, 2))[:, ::_STRIDE, ::_STRIDE]
    seen = has_contrast(windows)
    upright, origins = windows[seen], np.broadcast_to(sources[:, np.newaxis, np.newaxis], seen.shape)[seen]
    turned = np.stack([np.rot90(upright, turn, axes=(1, 2)) for turn in range(4)], axis=1)
    images = turned.reshape(-1, 1, PATCH, PATCH).astype(np.float32) / np.float32(255)
    return images, classes_of(origins.astype(np.int64)[:, np.newaxis], np.arange(4)).reshape(-1)


def has_contrast(patches: Pixels) -> NDArray[np.bool_]:
    """Whether patches, uint8 [..., PATCH, PATCH], are more than a surface of one grey."""
    return np.asarray(patches.std(axis=(-2, -1)) >= _LEAST_CONTRAST)


def classes_of(sources: NDArray[np.int64], turns: NDArray[np.int64]) -> NDArray[np.int64]:
    """The classes of patches by the numbers of their photographs and their quarter turns, broadcast.

    Half a turn makes no difference: bricks, grass and much else look the same upside down.
    """
    return sources * 2 + turns % 2


def _data_file(name: str) -> Path:
    path = _FOLDER / name
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: reinstall tenonrt-patches, or in a checkout run contrib/patches/train.py"
        )
    return path
