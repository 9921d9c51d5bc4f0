"""ArgReduce: where the largest or smallest element of an axis is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    Dimension,
    LayerType,
    Pattern,
    Run,
    TensorInfo,
    TensorType,
    normalize_axis,
    required,
)

from tenonrt_layer_topk.ordering import check_ordered, sortable


class ArgReduceAttributes(Attributes, frozen=True):
    """select_last: of equal elements the highest index wins, not the lowest. keep_dims: the axis stays with size 1."""

    operation: Literal["max", "min"] = "max"
    axis: int = 0
    keep_dims: bool = True
    select_last: bool = False


class ArgReduceLayer(LayerType):
    """ONNX ArgMax and ArgMin: int64 indices. The first NaN of an axis wins, as in NumPy."""

    Attrs: ClassVar[type[Attributes]] = ArgReduceAttributes
    pattern: ClassVar[Pattern] = "reduction"

    def infer(self, attrs: ArgReduceAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (values,) = required(inputs, 1)
        check_ordered(values)
        axis = normalize_axis(attrs.axis, values.rank)
        if isinstance(values.shape[axis], int) and values.shape[axis] == 0:
            raise ValueError(f"axis {axis} of {values.type} is empty; expected at least one element")
        kept = (1,) if attrs.keep_dims else ()
        return [values.like((*values.shape[:axis], *kept, *values.shape[axis + 1 :]), "int64")]

    def reference(self, attrs: ArgReduceAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        values = sortable(required(arrays, 1)[0])
        find = np.argmax if attrs.operation == "max" else np.argmin
        axis = normalize_axis(attrs.axis, values.ndim)
        if attrs.select_last:
            found = values.shape[axis] - 1 - find(np.flip(values, axis), axis, keepdims=attrs.keep_dims)
        else:
            found = find(values, axis, keepdims=attrs.keep_dims)
        return [np.asarray(found, np.int64)]

    def cases(self) -> Iterable[Case]:
        for operation in ("max", "min"):
            for last in (False, True):
                attrs = ArgReduceAttributes(operation, axis=-1, select_last=last)
                yield Case(attrs, (TensorType((3, 17), "int32"),), f"{operation} of ties, last={last}")
        yield Case(ArgReduceAttributes(axis=1, keep_dims=False), (TensorType((2, 5, 3)),), "dropped axis")
        yield Case(ArgReduceAttributes(), (TensorType((1, 4), "float16"),), "one element")
        yield Case(ArgReduceAttributes(axis=1), (TensorType((0, 4)),), "empty")

    def reduction(self, attrs: ArgReduceAttributes, inputs: Sequence[TensorInfo | None]) -> Dimension:
        return 1 if inputs[0] is None else inputs[0].shape[normalize_axis(attrs.axis, inputs[0].rank)]
