"""The Transpose layer: axes in another order."""

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
    View,
    normalize_axes,
    required,
)


class TransposeAttributes(Attributes, frozen=True):
    """permutation: output axis i is input axis permutation[i]; empty reverses the axes."""

    permutation: tuple[int, ...] = ()


class TransposeLayer(LayerType):
    """y[i...] = x[i permuted]."""

    Attrs = TransposeAttributes
    pattern = "movement"
    shape_arithmetic = True

    def infer(self, attrs: TransposeAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (x,) = required(inputs, 1)
        return [x.like([x.shape[axis] for axis in _permutation(attrs, x.rank)])]

    def reference(self, attrs: TransposeAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (x,) = required(arrays, 1)
        return [np.transpose(x, _permutation(attrs, x.ndim))]

    def view(
        self, attrs: TransposeAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> View | None:
        (x,) = required(inputs, 1)
        moved = [axis for axis in _permutation(attrs, x.rank) if x.shape[axis] != 1]
        return View() if moved == sorted(moved) else None

    def flops(
        self, attrs: TransposeAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> Dimension:
        return 0

    def cases(self) -> Iterable[Case]:
        examples: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
            ((3, 5), ()),
            ((2, 3, 5, 7), (0, 2, 3, 1)),
            ((2, 5, 7, 3), (0, 3, 1, 2)),
            ((2, 3, 4, 5, 6), (4, 0, 3, 1, 2)),
            ((1, 9, 1, 4), (1, 0, 3, 2)),
            ((3, 17, 33), (0, 2, 1)),
            ((3, 0, 2), (2, 0, 1)),
            ((7,), ()),
            ((), ()),
        ]
        for shape, permutation in examples:
            for dtype in ("float32", "int64") if len(shape) == 4 else ("float32",):
                yield Case(TransposeAttributes(permutation), (TensorType(shape, dtype),), f"{shape} by {permutation}")


def _permutation(attrs: TransposeAttributes, rank: int) -> tuple[int, ...]:
    if not attrs.permutation:
        return tuple(reversed(range(rank)))
    if len(attrs.permutation) != rank:
        raise ValueError(f"permutation {attrs.permutation} has {len(attrs.permutation)} axes, the input has {rank}")
    return normalize_axes(attrs.permutation, rank)
