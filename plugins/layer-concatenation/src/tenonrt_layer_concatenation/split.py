"""The Split layer: a tensor cut along an axis."""

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
    draw,
    known_values,
    normalize_axis,
    optional,
    required,
    unknown,
    vector_length,
)

from tenonrt_layer_concatenation.parts import view_of

# Each part is an output; a number past any use must not be reached for.
MAX_PARTS = 1 << 16


class SplitAttributes(Attributes, frozen=True):
    """axis: the one cut. parts: how many equal outputs, the last smaller where they do not divide it; or give sizes."""

    axis: int = 0
    parts: int | None = None


class SplitLayer(LayerType):
    """The outputs, one after the other along the axis, are x; their lengths are ``sizes`` or equal."""

    Attrs = SplitAttributes
    inputs = ("input", "sizes?")
    shape_inputs = (1,)
    pattern = "movement"
    shape_arithmetic = True

    def infer(self, attrs: SplitAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (x,) = required(inputs, 1)
        sizes = optional(inputs, 1)
        axis = normalize_axis(attrs.axis, x.rank)
        lengths = _lengths(attrs.parts, x.shape[axis], sizes)
        return [x.like([*x.shape[:axis], length, *x.shape[axis + 1 :]]) for length in lengths]

    def reference(self, attrs: SplitAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (x,) = required(arrays, 1)
        sizes = optional(arrays, 1)
        axis = normalize_axis(attrs.axis, x.ndim)
        if sizes is None:
            lengths = _equal_parts(attrs.parts, x.shape[axis])
        else:
            lengths = _checked([int(n) for n in sizes], x.shape[axis])
        return np.split(x, np.cumsum(np.array(lengths, np.int64))[:-1], axis)

    def view(
        self, attrs: SplitAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> View | None:
        (x,) = required(inputs, 1)
        return view_of("input", [o.shape for o in outputs], normalize_axis(attrs.axis, x.rank))

    def flops(
        self, attrs: SplitAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> Dimension:
        return 0

    def sample(
        self, attrs: SplitAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        x, sizes = draw(required(types, 1)[0], rng), optional(types, 1)
        if sizes is None:
            return [x, None]
        count, length = sizes.concrete({})[0], x.shape[attrs.axis]
        return [x, np.array([length] + [0] * (count - 1), sizes.numpy)]

    def cases(self) -> Iterable[Case]:
        for axis, parts, shape in (
            (0, 2, (4, 3)),
            (1, 3, (2, 7)),
            (-1, 1, (2, 5)),
            (1, 4, (1, 32, 3, 5)),
            (0, 2, (0, 3)),
        ):
            yield Case(SplitAttributes(axis, parts), (TensorType(shape), None), f"{parts} parts of {shape}")
        for axis, sizes, shape in ((0, [1, 3], (4, 3)), (1, [2, 0, 5], (2, 7)), (1, [16, 7], (1, 23, 3, 1))):
            inputs = (TensorType(shape), np.array(sizes, np.int64))
            yield Case(SplitAttributes(axis), inputs, f"{sizes} of {shape}")


def _lengths(parts: int | None, length: Dimension, sizes: TensorInfo | None) -> list[Dimension]:
    if sizes is None:
        return _equal_parts(parts, length)
    if parts is not None:
        raise ValueError(f"give either parts or the sizes input, found parts {parts} and {sizes.type}")
    count, given = vector_length(sizes, "the sizes"), known_values(sizes)
    return [unknown(length) for _ in range(count)] if given is None else _checked(given, length)


def _checked(sizes: list[Dimension], length: Dimension) -> list[Dimension]:
    total = sum(sizes, start=0)
    wrong = isinstance(total, int) and isinstance(length, int) and total != length
    if wrong or any(n < 0 for n in sizes if isinstance(n, int)):
        raise ValueError(f"sizes {[str(n) for n in sizes]} do not make up the axis of length {length}")
    return sizes


def _equal_parts(parts: int | None, length: Dimension) -> list[Dimension]:
    if parts is None or parts < 1:
        raise ValueError(f"give the sizes input or a number of parts above zero, found parts {parts}")
    if parts > MAX_PARTS:
        raise ValueError(f"at most {MAX_PARTS} parts are made, found parts {parts}")
    each = (length + (parts - 1)) // parts
    last = length - each * (parts - 1)
    if isinstance(last, int) and last < 0:
        raise ValueError(f"an axis of length {length} cannot be cut into {parts} parts of {each}")
    return [each] * (parts - 1) + [last]
