"""The Activation layer: one function of each element."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    LayerType,
    Run,
    TensorInfo,
    TensorType,
    is_float,
    required,
    working_dtype,
)

from tenonrt_layer_activation.functions import FUNCTIONS

FunctionName = Literal[
    "relu", "sigmoid", "tanh", "leaky_relu", "elu", "selu", "celu", "softsign", "softplus", "clip", "hard_sigmoid",
    "scaled_tanh", "thresholded_relu", "gelu", "gelu_tanh", "swish", "hard_swish", "mish", "shrink",
]  # fmt: skip


class ActivationAttributes(Attributes, frozen=True):
    """alpha and beta None: the default of ONNX for the function, unbounded for clip (alpha least, beta greatest)."""

    function: FunctionName
    alpha: float | None = None
    beta: float | None = None


class ActivationLayer(LayerType):
    """y = function(x; alpha, beta), elementwise."""

    Attrs = ActivationAttributes
    pattern = "pointwise"

    def infer(self, attrs: ActivationAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (x,) = required(inputs, 1)
        function = FUNCTIONS.get(attrs.function)
        if function is None:
            raise ValueError(f"unknown activation function {attrs.function!r}; known are {', '.join(FUNCTIONS)}")
        integer = x.dtype.startswith(("int", "uint")) and function.integers
        if not (is_float(x.dtype) or integer):
            kinds = "a floating-point or integer" if function.integers else "a floating-point"
            raise ValueError(f"{attrs.function} needs {kinds} input, found {x.type}")
        return [x.like()]

    def reference(self, attrs: ActivationAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (x,) = required(arrays, 1)
        function = FUNCTIONS[attrs.function]
        alpha = function.alpha if attrs.alpha is None else attrs.alpha
        beta = function.beta if attrs.beta is None else attrs.beta
        wide = x.astype(working_dtype(x.dtype), copy=False)
        with np.errstate(all="ignore"):
            return [np.asarray(function.compute(wide, alpha, beta)).astype(x.dtype, copy=False)]

    def cases(self) -> Iterable[Case]:
        for name, function in FUNCTIONS.items():
            attrs = ActivationAttributes(name)  # type: ignore[arg-type]
            yield Case(attrs, (TensorType((2, 3, 5)),), name)
            if function.alpha is not None:
                given = ActivationAttributes(name, 0.75, None if function.beta is None else 0.25)  # type: ignore[arg-type]
                yield Case(given, (TensorType((7, 1, 33)),), f"{name} with parameters")
        yield Case(ActivationAttributes("clip", 0.0, 6.0), (TensorType((1, 17)),), "clip between")
        yield Case(ActivationAttributes("clip", -0.5), (TensorType((19,)),), "clip from below")
        yield Case(ActivationAttributes("clip", None, 0.5), (TensorType((19,)),), "clip from above")
        yield from _edges()


def _edges() -> Iterable[Any]:
    relu = ActivationAttributes("relu")
    yield Case(relu, (TensorType(()),), "scalar")
    yield Case(relu, (TensorType((0, 3)),), "empty")
    yield Case(relu, (TensorType((1,)),), "one element")
    yield Case(relu, (TensorType((5, 9), "int32"),), "integers")
    yield Case(ActivationAttributes("clip", 2, 5), (TensorType((5, 9), "int64"),), "clip of integers")
    yield Case(ActivationAttributes("sigmoid"), (TensorType((4, 8, 6, 6)),), "four axes")
