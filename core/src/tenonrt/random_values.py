"""Random values of tensors: what trials and the conformance kit run layers on."""

from __future__ import annotations

from math import prod

import numpy as np

from tenonrt.types import Array, TensorType, is_float, numpy_dtype

_DRAWN = 65521


def draw(type: TensorType, rng: np.random.Generator) -> Array:
    """Random values of a static type: standard normal floats (repeated after 65521), integers 0 to 9, booleans."""
    shape, dtype = type.concrete({}), numpy_dtype(type.dtype)
    if is_float(type.dtype):
        # Drawing took most of a first run. The period is a prime, so that no two rows or channels begin alike.
        return np.resize(rng.standard_normal(min(prod(shape), _DRAWN)).astype(dtype), shape)
    if type.dtype.startswith("complex"):
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
    if type.dtype == "string":
        return rng.choice(np.array(["", "a", "tenon"], object), shape)
    return rng.integers(0, 2 if type.dtype == "bool" else 2 if "int2" in type.dtype else 8, shape).astype(dtype)
