"""Checks that the layers of this distribution make of their inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from tenonrt.contracts import Array, Dimension, TensorInfo, TensorType

T = TypeVar("T")


def required(values: Sequence[T | None], names: Sequence[str]) -> list[T]:
    """The inputs, all of them present; `ValueError` names a missing one."""
    if len(values) != len(names) or any(v is None for v in values):
        found = [name for name, value in zip(names, values, strict=False) if value is not None]
        raise ValueError(f"inputs {', '.join(names)} are all needed; found {', '.join(found) or 'none'}")
    return [v for v in values if v is not None]


def normalize_axis(axis: int, rank: int) -> int:
    """An axis counted from the front; `ValueError` when the rank has no such axis."""
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} does not exist in rank {rank}; expected {-rank} to {rank - 1}")
    return axis % rank


def check_indices(indices: TensorInfo) -> None:
    """Refuse indices that are not integers."""
    if not indices.dtype.startswith(("int", "uint")):
        raise ValueError(f"indices must be integers, found {indices.dtype}")


def merge(left: Dimension, right: Dimension, what: str) -> Dimension:
    """One dimension from two that must be equal: the static one; `ValueError` when both are static and differ."""
    if isinstance(left, int) and isinstance(right, int) and left != right:
        raise ValueError(f"{what}: found {right}, expected {left}")
    return right if isinstance(right, int) else left


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
    return rng.integers(lower, max(size, 1), indices.concrete({})).astype(indices.numpy)
