"""The Size layer: the number of elements of a tensor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from tenonrt.contracts import Array, Attributes, Case, Dimension, LayerType, Run, TensorInfo, TensorType, required


class SizeLayer(LayerType):
    """int64 scalar: how many elements the input has; known while inferring, symbols included."""

    Attrs = Attributes
    pattern = "opaque"

    def infer(self, attrs: Attributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (x,) = required(inputs, 1)
        return [TensorInfo(TensorType((), "int64"), "host", np.array(x.type.size, dtype=object))]

    def reference(self, attrs: Attributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (x,) = required(arrays, 1)
        return [np.array(x.size, np.int64)]

    def flops(self, attrs: Attributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        return 0

    def cases(self) -> Iterable[Case]:
        for shape in ((2, 3, 5), (), (4, 0), (1,)):
            yield Case(Attributes(), (TensorType(shape),), f"shape {shape}")
