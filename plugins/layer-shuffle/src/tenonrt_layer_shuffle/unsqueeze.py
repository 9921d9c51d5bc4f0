"""The Unsqueeze layer: axes of length one inserted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from tenonrt.contracts import Array, Attributes, Case, Dimension, Run, TensorInfo, TensorType, normalize_axes, required

from tenonrt_layer_shuffle.same_bytes import SameBytes


class UnsqueezeAttributes(Attributes, frozen=True):
    """axes: where the new axes lie in the output, in any order; negative ones count from the output's end."""

    axes: tuple[int, ...]


class UnsqueezeLayer(SameBytes):
    """y is x with axes of length one added."""

    Attrs = UnsqueezeAttributes

    def infer(self, attrs: UnsqueezeAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (x,) = required(inputs, 1)
        return [x.like(_inserted(attrs.axes, x.shape))]

    def reference(self, attrs: UnsqueezeAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (x,) = required(arrays, 1)
        return [x.reshape(cast("list[int]", _inserted(attrs.axes, x.shape)))]

    def cases(self) -> Iterable[Case]:
        examples: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
            ((3, 5), (0,)),
            ((3, 5), (-1, 1)),
            ((), (0, 1)),
            ((4,), ()),
            ((0, 2), (2, 0)),
        ]
        for shape, axes in examples:
            yield Case(UnsqueezeAttributes(axes), (TensorType(shape),), f"{shape} with {axes}")


def _inserted(axes: tuple[int, ...], shape: Sequence[Dimension]) -> list[Dimension]:
    new = set(normalize_axes(axes, len(shape) + len(axes)))
    old = iter(shape)
    return [1 if axis in new else next(old) for axis in range(len(shape) + len(axes))]
