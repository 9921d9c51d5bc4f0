"""Checks that the layers of this distribution make of their inputs."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import Array, TensorInfo, TensorType


def check_indices(indices: TensorInfo) -> None:
    """Refuse indices that are not integers."""
    if not indices.dtype.startswith(("int", "uint")):
        raise ValueError(f"indices must be integers, found {indices.dtype}")


def wrap(indices: Array, size: int) -> Array:
    """Indices as int64 from 0 to size - 1, negative ones counted from the end; `IndexError` names one outside."""
    wrapped = _integers(indices)
    outside = (wrapped < -size) | (wrapped >= size)
    if outside.any():
        raise IndexError(f"index {int(wrapped[outside].flat[0])} is outside an axis of size {size}")
    return np.asarray(np.where(wrapped < 0, wrapped + size, wrapped))


def _integers(indices: Array) -> Array:
    if indices.dtype != object:
        return indices.astype(np.int64)
    if not all(isinstance(i, (int, np.integer)) for i in indices.flat):
        raise ValueError(f"indices must be integers, found {[str(i) for i in indices.flat]}")
    return np.array([int(i) for i in indices.flat], np.int64).reshape(indices.shape)


def draw_indices(indices: TensorType, size: int, rng: np.random.Generator) -> Array:
    """Random valid indices into an axis of this size, negative ones included where the type has them."""
    lower = -size if indices.dtype.startswith("int") else 0
    return np.asarray(rng.integers(lower, max(size, 1), indices.concrete({})), indices.numpy)
