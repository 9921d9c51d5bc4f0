"""The Select layer: each element from one of two tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    LayerType,
    Run,
    TensorInfo,
    TensorType,
    broadcast,
    common_place,
    required,
)

from tenonrt_layer_elementwise.symbolic import as_bool

SHAPES: tuple[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]], ...] = (
    ((3, 5), (3, 5), (3, 5)),
    ((3, 1), (1, 5), ()),
    ((2, 3, 4), (4,), (3, 1)),
    ((), (6,), (6,)),
    ((0, 2), (2,), (1, 1)),
)


class SelectLayer(LayerType):
    """y = a where condition, else b; all three broadcast as in NumPy. a and b may be of any one element type."""

    Attrs = Attributes
    inputs = ("condition", "a", "b")
    pattern = "pointwise"
    shape_arithmetic = True

    def infer(self, attrs: Attributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        condition, a, b = required(inputs, 3)
        if condition.dtype != "bool":
            raise ValueError(f"the condition must be bool, found {condition.type}")
        if a.dtype != b.dtype:
            raise ValueError(f"both choices need one element type, found {a.dtype} and {b.dtype}")
        shape = broadcast(condition.shape, a.shape, b.shape)
        return [TensorInfo(TensorType(shape, a.dtype), common_place([condition, a, b]))]

    def reference(self, attrs: Attributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        condition, a, b = required(arrays, 3)
        if condition.dtype == object:
            flags = [as_bool(v) for v in condition.flat]
            condition = np.array(flags, bool).reshape(condition.shape)
        return [np.asarray(np.where(condition, a, b))]

    def cases(self) -> Iterable[Case]:
        for c, a, b in SHAPES:
            yield Case(Attributes(), (TensorType(c, "bool"), TensorType(a), TensorType(b)), f"{c} {a} {b}")
        for dtype in ("int64", "bool", "float16"):
            x = TensorType((4, 7), dtype)
            yield Case(Attributes(), (TensorType((4, 7), "bool"), x, x), dtype)
