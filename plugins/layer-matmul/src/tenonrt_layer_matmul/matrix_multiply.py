"""MatrixMultiply: a product of stacks of matrices (ONNX MatMul, TensorRT IMatrixMultiplyLayer)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    Dimension,
    LayerType,
    Pattern,
    Run,
    Shape,
    TensorInfo,
    TensorType,
    broadcast,
    differ,
    required,
    working_dtype,
)

from tenonrt_layer_matmul.operands import check_types


class MatrixMultiplyAttributes(Attributes, frozen=True):
    """transpose_a, transpose_b: exchange the last two axes of the operand first."""

    transpose_a: bool = False
    transpose_b: bool = False


class MatrixMultiplyLayer(LayerType):
    """a [..., M, K] and b [..., K, N] to [..., M, N], the leading axes broadcast.

    As in `numpy.matmul`, a vector a is a row and a vector b a column, and their axis is absent from the result.
    """

    Attrs: ClassVar[type[Attributes]] = MatrixMultiplyAttributes
    inputs: ClassVar[tuple[str, ...]] = ("a", "b")
    pattern: ClassVar[Pattern] = "contraction"

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        a, b = required(inputs, 2)
        check_types(a=a, b=b)
        left = _transposed("a", a, attrs.transpose_a)
        right = _transposed("b", b, attrs.transpose_b)
        inner = right[-2] if len(right) > 1 else right[0]
        if differ(left[-1], inner):
            raise ValueError(f"a sums over {left[-1]} elements, b over {inner}: expected equal ({a.type} and {b.type})")
        shape = broadcast(left[:-2], right[:-2])
        return [a.like((*shape, *left[-2:-1], *(right[-1:] if len(right) > 1 else ())))]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        a, b = required(arrays, 2)
        dtype = working_dtype(a.dtype)
        left = a.swapaxes(-1, -2) if attrs.transpose_a else a
        right = b.swapaxes(-1, -2) if attrs.transpose_b else b
        product = np.matmul(left.astype(dtype, copy=False), right.astype(dtype, copy=False))
        return [np.asarray(product).astype(a.dtype, copy=False)]

    def reduction(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> Dimension:
        (a,) = required(inputs, 1)
        return _transposed("a", a, attrs.transpose_a)[-1]

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        return 2 * outputs[0].type.size * self.reduction(attrs, inputs)

    def cases(self) -> Iterable[Case]:
        def case(name: str, a: tuple[int, ...], b: tuple[int, ...], **attrs: Any) -> Case:
            return Case(MatrixMultiplyAttributes(**attrs), (TensorType(a), TensorType(b)), name)

        yield case("matrices", (5, 7), (7, 3))
        yield case("transposed a", (33, 17), (33, 9), transpose_a=True)
        yield case("transposed b", (8, 16), (24, 16), transpose_b=True)
        yield case("both transposed", (2, 6, 5), (2, 4, 6), transpose_a=True, transpose_b=True)
        yield case("batch", (2, 3, 4, 5), (2, 3, 5, 6))
        yield case("batch broadcast", (2, 1, 4, 5), (3, 5, 6))
        yield case("shared weights", (3, 4, 5), (5, 2))
        yield case("vector and matrix", (5,), (2, 5, 3))
        yield case("matrix and vector", (2, 4, 5), (5,))
        yield case("two vectors", (6,), (6,))
        yield case("size one", (1, 1), (1, 1))
        yield case("no rows", (0, 4), (4, 3))
        yield case("empty sum", (2, 0), (0, 3))


def _transposed(name: str, info: TensorInfo, transpose: bool) -> Shape:
    """The shape the product sees; `ValueError` for a scalar, or a vector to transpose."""
    if info.rank < 1 + transpose:
        raise ValueError(
            f"{name} is {info.type}, expected at least {1 + transpose} axes (transpose_{name}={transpose})"
        )
    return (*info.shape[:-2], info.shape[-1], info.shape[-2]) if transpose else info.shape
