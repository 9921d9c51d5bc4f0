"""The digits that scikit-learn bundles, split into a training and a held-out part."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CLASSES = 10
FULL_PIXEL = 16  # An ink count per 4x4 block of the scanned bitmap.
HELDOUT_PER_CLASS = 36
SPLIT_SEED = 20_240


class Examples(NamedTuple):
    """Images uint8 [n, 8, 8] in 0..16 with their labels uint8 [n] in 0..9."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def take(self, rows: NDArray[np.int64]) -> "Examples":
        """Return the examples at `rows`, int64 [k]."""
        return Examples(self.images[rows], self.labels[rows])


def load_split() -> tuple[Examples, Examples]:
    """Return the training (1,437) and the held-out (360) examples; needs scikit-learn."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    examples = Examples(bunch.images.astype(np.uint8), bunch.target.astype(np.uint8))
    heldout = heldout_rows(examples.labels)
    return examples.take(np.setdiff1d(np.arange(len(examples.labels)), heldout)), examples.take(heldout)


def heldout_rows(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Draw 36 rows of each class without replacement and return them ascending, int64 [360].

    The legacy generator is used on purpose: NumPy guarantees its stream, so the split is the same in every version
    (https://numpy.org/neps/nep-0019-rng-policy.html).
    """
    generator = np.random.RandomState(SPLIT_SEED)
    drawn = [generator.permutation(np.flatnonzero(labels == digit))[:HELDOUT_PER_CLASS] for digit in range(CLASSES)]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def stratified_folds(labels: NDArray[np.uint8], count: int) -> list[NDArray[np.int64]]:
    """Deal the rows of each class to `count` folds in a shuffled order; every row is in exactly one fold."""
    generator = np.random.RandomState(SPLIT_SEED + 1)
    order = np.concatenate([generator.permutation(np.flatnonzero(labels == digit)) for digit in range(CLASSES)])
    return [np.sort(order[start::count]).astype(np.int64) for start in range(count)]
