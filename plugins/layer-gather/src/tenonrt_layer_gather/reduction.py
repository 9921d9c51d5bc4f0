"""How scattered updates join what is already there."""

from __future__ import annotations

from typing import Literal

import numpy as np
from tenonrt.contracts import Array

Reduction = Literal["none", "add", "mul", "max", "min"]

_UFUNCS = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def scatter(data: Array, index: tuple[Array, ...], updates: Array, reduction: Reduction) -> Array:
    """A copy of ``data`` with the updates in place. Without a reduction the last of equal indices stays."""
    result = data.copy()
    if reduction == "none":
        result[index] = updates
    else:
        _UFUNCS[reduction].at(result, index, updates)
    return result
