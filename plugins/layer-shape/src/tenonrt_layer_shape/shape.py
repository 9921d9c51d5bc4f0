"""The Shape layer: the dimensions of a tensor, as numbers on the host."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from tenonrt.contracts import Array, Attributes, Case, Dimension, LayerType, Run, TensorInfo, TensorType, required


class ShapeAttributes(Attributes, frozen=True):
    """start, end: the axes looked at, as in a Python slice (negative from the end, clamped); end None: to the last."""

    start: int = 0
    end: int | None = None


class ShapeLayer(LayerType):
    """int64 vector of the input's dimensions start..end; known while inferring, symbols included."""

    Attrs = ShapeAttributes
    pattern = "opaque"

    def infer(self, attrs: ShapeAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (x,) = required(inputs, 1)
        dims = x.shape[attrs.start : attrs.end]
        value = np.empty(len(dims), object)
        value[:] = dims
        return [TensorInfo(TensorType((len(dims),), "int64"), "host", value)]

    def reference(self, attrs: ShapeAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (x,) = required(arrays, 1)
        return [np.array(x.shape[attrs.start : attrs.end], np.int64)]

    def flops(
        self, attrs: ShapeAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> Dimension:
        return 0

    def cases(self) -> Iterable[Case]:
        for start, end in ((0, None), (1, None), (-1, None), (1, 3), (0, -1), (-9, 9), (3, 1)):
            yield Case(ShapeAttributes(start, end), (TensorType((2, 0, 5, 1)),), f"{start} to {end}")
        yield Case(ShapeAttributes(), (TensorType((), "bool"),), "scalar")
