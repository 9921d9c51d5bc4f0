"""The Elementwise layer: one operation on two broadcast tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

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
    draw,
    is_float,
    required,
)

from tenonrt_layer_elementwise import symbolic
from tenonrt_layer_elementwise.operations import OPERATIONS, Operation, kind_of, narrowed, widened

OperationName = Literal[
    "sum", "prod", "max", "min", "sub", "div", "pow", "floor_div", "mod", "fmod", "equal", "greater", "greater_equal",
    "less", "less_equal", "and", "or", "xor", "bitwise_and", "bitwise_or", "bitwise_xor", "shift_left", "shift_right",
]  # fmt: skip

SHAPES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((2, 3, 4), ()),
    ((), (7,)),
    ((), ()),
    ((0, 3), (1, 3)),
    ((2, 16, 5, 7), (16, 1, 1)),
    ((1,), (9, 1)),
)


class ElementwiseAttributes(Attributes, frozen=True):
    """Integer div truncates toward zero, floor_div rounds down; mod has the divisor's sign, fmod the dividend's."""

    operation: OperationName


class ElementwiseLayer(LayerType):
    """y = operation(a, b), broadcast as NumPy does. One element type, except pow and shifts, which keep that of a."""

    Attrs = ElementwiseAttributes
    inputs = ("a", "b")
    pattern = "pointwise"
    shape_arithmetic = True

    def infer(self, attrs: ElementwiseAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        a, b = required(inputs, 2)
        operation = _operation(attrs)
        _check_types(attrs.operation, operation, a, b)
        dtype = "bool" if operation.boolean else a.dtype
        return [TensorInfo(TensorType(broadcast(a.shape, b.shape), dtype), common_place([a, b]))]

    def reference(self, attrs: ElementwiseAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        a, b = required(arrays, 2)
        if a.dtype == object:
            if attrs.operation == "equal" and all(isinstance(v, str) for x in (a, b) for v in x.flat):
                return [np.asarray(np.equal(a, b), dtype=bool)]
            return [symbolic.compute(attrs.operation, a, b)]
        operation = _operation(attrs)
        with np.errstate(all="ignore"):
            result = operation.compute(widened(a), widened(b))
        return [narrowed(result, np.dtype(bool) if operation.boolean else a.dtype)]

    def sample(
        self, attrs: ElementwiseAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        first, second = required(types, 2)
        a, b = draw(first, rng), draw(second, rng)
        if attrs.operation in {"div", "floor_div", "mod", "fmod"}:  # divisors stay away from zero
            b = np.where(b < 0, b - 1, b + 1).astype(b.dtype)
        elif attrs.operation == "pow":
            a, b = (np.abs(a) + np.asarray(0.5 if is_float(first.dtype) else 0)).astype(a.dtype), np.abs(b) // 2
        elif attrs.operation.startswith("shift"):
            b = np.abs(b)
        return [a, np.asarray(b).astype(second.numpy, copy=False)]

    def cases(self) -> Iterable[Case]:
        for name, operation in OPERATIONS.items():
            attrs = ElementwiseAttributes(name)  # type: ignore[arg-type]
            for dtype in _case_types(operation):
                x = TensorType((3, 5), dtype)
                yield Case(attrs, (x, x), f"{name} {dtype}")
                yield Case(attrs, (x, TensorType((2, 1, 5), dtype)), f"{name} {dtype} broadcast")
        add = ElementwiseAttributes("sum")
        for a, b in SHAPES:
            yield Case(add, (TensorType(a), TensorType(b)), f"{a} and {b}")
        yield Case(ElementwiseAttributes("pow"), (TensorType((4,)), TensorType((4,), "int32")), "integer exponent")


def _operation(attrs: ElementwiseAttributes) -> Operation:
    operation = OPERATIONS.get(attrs.operation)
    if operation is None:
        raise ValueError(f"unknown elementwise operation {attrs.operation!r}; known are {', '.join(OPERATIONS)}")
    return operation


def _check_types(name: str, operation: Operation, a: TensorInfo, b: TensorInfo) -> None:
    for given in (a, b):
        if kind_of(given.dtype) not in operation.kinds:
            raise ValueError(f"{name} takes {' or '.join(sorted(operation.kinds))} tensors, found {given.type}")
    if a.dtype != b.dtype and not operation.mixed:
        raise ValueError(f"{name} needs two inputs of one element type, found {a.dtype} and {b.dtype}")
    if kind_of(b.dtype) == "complex" != kind_of(a.dtype):
        raise ValueError(f"{name} of {a.dtype} to a power of {b.dtype} would drop the imaginary part")


def _case_types(operation: Operation) -> list[str]:
    examples = {"float": "float32", "integer": "int64", "bool": "bool"}
    return [dtype for kind, dtype in examples.items() if kind in operation.kinds]
