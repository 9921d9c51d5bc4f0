"""The NonZero layer: where a tensor is not zero."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    Dimension,
    LayerType,
    Run,
    TensorInfo,
    TensorType,
    draw,
    required,
    unknown,
)


class NonZeroLayer(LayerType):
    """int64 [rank, count]: the indices of the elements that are not zero, in row-major order.

    How many there are is known only when it has run. A scalar gives [0, count], as ONNX says.
    """

    Attrs = Attributes

    def infer(self, attrs: Attributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (x,) = required(inputs, 1)
        if x.dtype == "string":
            raise ValueError(f"NonZero takes numbers and booleans, found {x.type}")
        return [TensorInfo(TensorType((x.rank, unknown(x.type.size)), "int64"))]

    def reference(self, attrs: Attributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (x,) = required(arrays, 1)
        if x.ndim == 0:
            return [np.empty((0, int(bool(x))), np.int64)]
        return [np.array(np.nonzero(x), np.int64)]

    def sample(
        self, attrs: Attributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        x = draw(required(types, 1)[0], rng)
        return [np.asarray(x * (rng.integers(0, 2, x.shape) > 0)).astype(x.dtype)]

    def flops(self, attrs: Attributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        (x,) = required(inputs, 1)
        return x.type.size

    def cases(self) -> Iterable[Case]:
        for dtype in ("float32", "int64", "bool"):
            for shape in ((3, 5), (17,), (2, 1, 4), ()):
                yield Case(Attributes(), (TensorType(shape, dtype),), f"{dtype} {shape}")
        yield Case(Attributes(), (TensorType((0, 3)),), "empty")
        yield Case(Attributes(), (np.zeros((2, 3), np.float32),), "all zero")
