"""A trained digit classifier and the labelled images it was never trained on.

The network and the data are described in this distribution's README.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["heldout", "model_path", "models"]

_FOLDER = Path(__file__).parent
_FULL = 16  # An ink count per 4x4 block of the scanned bitmap: 0 is empty, 16 is full.


def model_path() -> Path:
    """Return the path of the ONNX file: `image` float32 [N, 1, 8, 8] in 0..1 to `probabilities` float32 [N, 10].

    Raises FileNotFoundError when the file is not in the installed distribution.
    """
    return _data_file("digits.onnx")


def models() -> list[Path]:
    """Return the ONNX files with which the conformance kit tries a parser: `model_path`."""
    return [model_path()]


def heldout() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the held-out images, float32 [n, 1, 8, 8] in 0..1, and their labels, int64 [n] in 0..9.

    Raises FileNotFoundError when the file is not in the installed distribution.
    """
    with np.load(_data_file("heldout.npz"), allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    return images[:, np.newaxis].astype(np.float32) / np.float32(_FULL), labels.astype(np.int64)


def _data_file(name: str) -> Path:
    path = _FOLDER / name
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: reinstall tenonrt-digits, or in a checkout run contrib/digits/train.py"
        )
    return path
