"""The ParametricRelu layer: a leaky ReLU whose slope is a tensor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from tenonrt.contracts import Array, Attributes, Case, LayerType, Run, TensorInfo, TensorType, broadcasts_to, required


class ParametricReluLayer(LayerType):
    """y = x where x >= 0, else slope * x; slope broadcasts to the input's shape (ONNX PRelu)."""

    Attrs = Attributes
    inputs = ("input", "slope")
    pattern = "pointwise"

    def infer(self, attrs: Attributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        x, slope = required(inputs, 2)
        if x.dtype != slope.dtype or x.dtype in {"bool", "string"}:
            raise ValueError(f"input and slope need one numeric element type, found {x.dtype} and {slope.dtype}")
        if not broadcasts_to(slope.shape, x.shape):
            raise ValueError(f"the slope {slope.type} does not broadcast to the input {x.type}")
        return [x.like()]

    def reference(self, attrs: Attributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        x, slope = required(arrays, 2)
        with np.errstate(all="ignore"):
            return [np.asarray(np.where(x < 0, x * slope, x))]

    def cases(self) -> Iterable[Case]:
        x = TensorType((2, 3, 5, 7))
        for slope in ((3, 1, 1), (1,), (), (7,), (2, 3, 5, 7)):
            yield Case(Attributes(), (x, TensorType(slope)), f"slope {slope}")
        yield Case(Attributes(), (TensorType((4, 3), "int32"), TensorType((3,), "int32")), "integers")
        yield Case(Attributes(), (TensorType((0, 3)), TensorType((3,))), "empty")
