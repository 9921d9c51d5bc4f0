"""The Range layer: numbers at equal distances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    Dim,
    Dimension,
    LayerType,
    Run,
    TensorInfo,
    TensorType,
    dtype_name,
    is_float,
    maximum,
    required,
    unknown,
)


class RangeLayer(LayerType):
    """y = start, start + delta, ... before limit; three scalars of one real element type, known on the host."""

    Attrs = Attributes
    inputs = ("start", "limit", "delta")
    shape_inputs = (0, 1, 2)
    pattern = "movement"
    shape_arithmetic = True

    def infer(self, attrs: Attributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        scalars = required(inputs, 3)
        dtypes = [s.dtype for s in scalars]
        if len(set(dtypes)) > 1 or not (is_float(dtypes[0]) or dtypes[0].startswith(("int", "uint"))):
            raise ValueError(f"start, limit and delta need one real element type, found {', '.join(dtypes)}")
        if any(s.shape not in {(), (1,)} for s in scalars):
            raise ValueError(f"start, limit and delta must be scalars, found {', '.join(str(s.type) for s in scalars)}")
        values = [None if s.value is None else s.value.reshape(-1)[0] for s in scalars]
        length = unknown() if any(v is None for v in values) else count(*values)
        return [TensorInfo(TensorType((length,), dtypes[0]))]

    def reference(self, attrs: Attributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        start, limit, delta = (a.reshape(-1) for a in required(arrays, 3))
        length = count(*(_scalar(a) for a in (start, limit, delta)))
        if isinstance(length, Dim):
            raise ValueError(f"the values of a range of symbolic length {length} cannot be listed")
        if start.dtype == object:
            values = np.empty(length, object)
            values[:] = [start[0] + i * delta[0] for i in range(length)]
            return [values]
        wide = np.float64 if is_float(dtype_name(start.dtype)) else start.dtype
        steps = np.arange(length).astype(wide) * delta.astype(wide)
        return [(start.astype(wide) + steps).astype(start.dtype)]

    def sample(
        self, attrs: Attributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        values = (0, int(rng.integers(2, 9)), 1)
        return [np.full(t.concrete({}), v, t.numpy) for v, t in zip(values, required(types, 3), strict=True)]

    def flops(self, attrs: Attributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        return 0

    def cases(self) -> Iterable[Case]:
        examples = [
            ((0, 7, 1), "int64"), ((10, -5, -4), "int32"), ((3, 3, 1), "int64"), ((5, 1, 2), "int64"),
            ((0.0, 1.0, 0.25), "float32"), ((1.0, -1.0, -0.75), "float64"), ((2, 20, 5), "int16"),
        ]  # fmt: skip
        for scalars, dtype in examples:
            arrays = tuple(np.array(v, np.dtype(dtype)) for v in scalars)
            yield Case(Attributes(), arrays, f"{dtype} {scalars}")


def count(start: Any, limit: Any, delta: Any) -> Dimension:
    """max(0, ceil((limit - start) / delta)), computed in float64 for floats; unknown when delta is symbolic."""
    if isinstance(delta, Dim):
        return unknown()
    if delta == 0:
        raise ValueError("the delta of a range must not be zero")
    if isinstance(start, Dim) or isinstance(limit, Dim) or isinstance(start + limit + delta, int):
        distance, step = (limit - start, delta) if delta > 0 else (start - limit, -delta)
        return maximum((distance + (step - 1)) // step, 0)
    return max(0, ceil((float(limit) - float(start)) / float(delta)))


def _scalar(array: Array) -> Any:
    """The single element as Python has it: an int keeps all its bits."""
    return array[0] if array.dtype == object else array.astype(np.float64)[0].item() if _real(array) else int(array[0])


def _real(array: Array) -> bool:
    return is_float(dtype_name(array.dtype))
