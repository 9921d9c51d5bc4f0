"""The order of element types, also of those that NumPy cannot sort by itself."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import Array, TensorInfo


def check_ordered(info: TensorInfo) -> None:
    """Refuse element types without an order."""
    if info.dtype == "string" or info.dtype.startswith("complex"):
        raise ValueError(f"{info.dtype} elements have no order; expected numbers")


def sortable(values: Array) -> Array:
    """The same values in a type that NumPy sorts: float32 holds every narrow ml_dtypes value exactly."""
    return values.astype(np.float32) if values.dtype.kind == "V" else values
