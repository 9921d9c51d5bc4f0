"""TopK: the largest or smallest elements of an axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    Dim,
    Dimension,
    LayerType,
    Run,
    TensorInfo,
    TensorType,
    draw,
    normalize_axis,
    required,
    unknown,
)

from tenonrt_layer_topk.ordering import check_ordered, sortable


class TopKAttributes(Attributes, frozen=True):
    """axis: where the elements are compared. largest: False takes the smallest. sorted: False leaves the order open."""

    axis: int = -1
    largest: bool = True
    sorted: bool = True


def _count(k: TensorInfo, size: Dimension) -> Dimension:
    if k.shape not in {(), (1,)}:
        raise ValueError(f"k must hold one element, found {k.type}")
    if k.value is None:
        return unknown(size)
    count = k.value.reshape(-1)[0]
    if isinstance(count, Dim):
        return count
    if count < 0 or (isinstance(size, int) and count > size):
        raise ValueError(f"k is {count}, expected 0 to {size}, the size of the axis")
    return int(count)


def _order(values: Array, axis: int, largest: bool) -> Array:
    """Stable order along an axis, best first: of equal elements the lower index leads. NaN counts as the largest."""
    if not largest:
        return np.argsort(values, axis, kind="stable")
    backwards = np.argsort(np.flip(values, axis), axis, kind="stable")
    return np.asarray(values.shape[axis] - 1 - np.flip(backwards, axis))


class TopKLayer(LayerType):
    """ONNX TopK: values and int64 indices of the k best elements. Of equal elements the lower index comes first.

    The reference returns them in order even where ``sorted`` is False.
    """

    Attrs: ClassVar[type[Attributes]] = TopKAttributes
    inputs: ClassVar[tuple[str, ...]] = ("input", "k")
    shape_inputs: ClassVar[tuple[int, ...]] = (1,)

    def infer(self, attrs: TopKAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        values, k = required(inputs, 2)
        check_ordered(values)
        axis = normalize_axis(attrs.axis, values.rank)
        shape = list(values.shape)
        shape[axis] = _count(k, shape[axis])
        return [values.like(shape), values.like(shape, "int64")]

    def reference(self, attrs: TopKAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        values, k = required(arrays, 2)
        axis, count = normalize_axis(attrs.axis, values.ndim), int(k.reshape(-1)[0])
        if not 0 <= count <= values.shape[axis]:
            raise ValueError(f"k is {count}, expected 0 to {values.shape[axis]}, the size of axis {axis}")
        best = _order(sortable(values), axis, attrs.largest)
        best = best[(slice(None),) * axis + (slice(count),)].astype(np.int64)
        return [np.take_along_axis(values, best, axis), best]

    def sample(
        self, attrs: TopKAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        values, k = required(types, 2)
        size = values.concrete({})[normalize_axis(attrs.axis, values.rank)]
        return [draw(values, rng), np.full(k.concrete({}), rng.integers(min(size, 1), size + 1), k.numpy)]

    def cases(self) -> Iterable[Case]:
        k = np.array([3], np.int64)
        yield Case(TopKAttributes(), (TensorType((2, 7)), k), "last")
        yield Case(TopKAttributes(axis=1, largest=False), (TensorType((2, 5, 3), "float16"), k), "smallest")
        yield Case(TopKAttributes(axis=0), (TensorType((9, 3), "int32"), k), "integers with ties")
        yield Case(TopKAttributes(), (TensorType((3, 1)), np.array([1], np.int64)), "one of one")
        yield Case(TopKAttributes(), (TensorType((3, 4)), np.array([0], np.int64)), "none")

    def flops(
        self, attrs: TopKAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> Dimension:
        """One comparison per element, the least any algorithm needs."""
        return 0 if inputs[0] is None else inputs[0].type.size
