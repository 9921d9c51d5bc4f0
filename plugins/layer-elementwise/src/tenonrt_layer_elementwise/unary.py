"""The Unary layer: one operation on each element."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
from tenonrt.contracts import Array, Attributes, Case, LayerType, Run, TensorInfo, TensorType, draw, erf, required

from tenonrt_layer_elementwise import symbolic
from tenonrt_layer_elementwise.operations import kind_of, narrowed, widened

OperationName = Literal[
    "exp", "log", "sqrt", "recip", "abs", "neg", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh",
    "acosh", "atanh", "ceil", "floor", "round", "sign", "erf", "not", "bitwise_not", "is_nan", "is_inf",
]  # fmt: skip


FLOAT_FUNCTIONS: dict[str, Callable[[Array], Any]] = {
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "recip": lambda x: 1 / x,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "floor": np.floor,
    "round": np.rint,
    "erf": erf,
    "is_nan": np.isnan,
}
NUMBER_FUNCTIONS: dict[str, Callable[[Array], Any]] = {"abs": np.abs, "neg": np.negative, "sign": np.sign}
OPERATIONS = (*FLOAT_FUNCTIONS, *NUMBER_FUNCTIONS, "is_inf", "not", "bitwise_not")


class UnaryAttributes(Attributes, frozen=True):
    """round goes to even at halves. detect_positive and detect_negative: the infinities that is_inf looks for."""

    operation: OperationName
    detect_positive: bool = True
    detect_negative: bool = True


class UnaryLayer(LayerType):
    """y = operation(x), elementwise; is_nan and is_inf give bool, the others the input's element type."""

    Attrs = UnaryAttributes
    pattern = "pointwise"
    shape_arithmetic = True

    def infer(self, attrs: UnaryAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (x,) = required(inputs, 1)
        if attrs.operation not in OPERATIONS:
            raise ValueError(f"unknown unary operation {attrs.operation!r}; known are {', '.join(OPERATIONS)}")
        kinds = _kinds(attrs.operation)
        if kind_of(x.dtype) not in kinds:
            raise ValueError(f"{attrs.operation} takes {' or '.join(kinds)} tensors, found {x.type}")
        return [x.like(dtype="bool" if attrs.operation in {"is_nan", "is_inf"} else None)]

    def reference(self, attrs: UnaryAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (x,) = required(arrays, 1)
        function = _function(attrs)
        with np.errstate(all="ignore"):
            if x.dtype == object:
                return [symbolic.compute_unary(attrs.operation, x, function)]
            result = function(widened(x))
        return [narrowed(result, np.dtype(bool) if attrs.operation in {"is_nan", "is_inf"} else x.dtype)]

    def sample(
        self, attrs: UnaryAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        (given,) = required(types, 1)
        x = draw(given, rng)
        if attrs.operation in {"log", "sqrt", "recip", "acosh"}:
            x = np.abs(x) + np.asarray(1 if attrs.operation == "acosh" else 0.125, x.dtype)
        elif attrs.operation in {"asin", "acos", "atanh"}:
            x = np.tanh(x)
        elif attrs.operation in {"is_nan", "is_inf"}:
            x = np.where(x > 1, np.inf, np.where(x > 0, x, np.where(x < -1, -np.inf, np.nan)))
        return [np.asarray(x).astype(given.numpy, copy=False)]

    def cases(self) -> Iterable[Case]:
        for name in OPERATIONS:
            attrs = UnaryAttributes(name)  # type: ignore[arg-type]
            dtype = {"not": "bool", "bitwise_not": "int32"}.get(name, "float32")
            for shape in ((3, 5, 7), (33,)):
                yield Case(attrs, (TensorType(shape, dtype),), f"{name} {shape}")
        for edge in ((), (0, 4), (1,)):
            yield Case(UnaryAttributes("exp"), (TensorType(edge),), f"exp {edge}")
        for number in ("abs", "neg", "sign"):
            yield Case(UnaryAttributes(number), (TensorType((4, 5), "int64"),), f"{number} of integers")
        for signs in ((True, False), (False, True), (False, False)):
            yield Case(UnaryAttributes("is_inf", *signs), (TensorType((4, 5)),), f"is_inf {signs}")


def _kinds(operation: str) -> tuple[str, ...]:
    if operation in {"not", "bitwise_not"}:
        return ("bool",) if operation == "not" else ("integer",)
    return ("float", "integer") if operation in NUMBER_FUNCTIONS else ("float",)


def _function(attrs: UnaryAttributes) -> Callable[[Array], Any]:
    if attrs.operation == "is_inf":
        positive, negative = attrs.detect_positive, attrs.detect_negative
        return lambda x: (np.isposinf(x) & positive) | (np.isneginf(x) & negative)
    if attrs.operation in {"not", "bitwise_not"}:
        return np.logical_not if attrs.operation == "not" else np.invert
    return FLOAT_FUNCTIONS.get(attrs.operation) or NUMBER_FUNCTIONS[attrs.operation]
