"""The Reshape layer: the same elements in another shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    Dimension,
    Run,
    Shape,
    TensorInfo,
    TensorType,
    draw,
    known_values,
    product,
    required,
    unknown,
    vector_length,
)

from tenonrt_layer_shuffle.same_bytes import SameBytes


class ReshapeAttributes(Attributes, frozen=True):
    """zero_copies: a 0 in the shape stands for the input's dimension at that place (else for an empty axis)."""

    zero_copies: bool = True


class ReshapeLayer(SameBytes):
    """y has the input's elements, in row-major order, in the given shape; one -1 stands for what is left."""

    Attrs = ReshapeAttributes
    inputs = ("input", "shape")
    shape_inputs = (1,)

    def infer(self, attrs: ReshapeAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        x, shape = required(inputs, 2)
        rank, wanted = vector_length(shape, "the shape"), known_values(shape)
        if wanted is None:
            return [x.like([unknown() for _ in range(rank)])]
        return [x.like(resolved(x.shape, wanted, zero_copies=attrs.zero_copies))]

    def reference(self, attrs: ReshapeAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        x, shape = required(arrays, 2)
        wanted = [int(d) for d in shape.reshape(-1)]
        target = resolved(x.shape, wanted, zero_copies=attrs.zero_copies)
        return [x.reshape(cast("tuple[int, ...]", target))]

    def sample(
        self, attrs: ReshapeAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        x, shape = required(types, 2)
        rank = shape.concrete({})[0]
        wanted = [1] * max(rank - 1, 0) + [-1] * min(rank, 1)
        return [draw(x, rng), np.array(wanted, shape.numpy)]

    def cases(self) -> Iterable[Case]:
        examples: list[tuple[tuple[int, ...], list[int]]] = [
            ((2, 3, 4), [6, 4]),
            ((2, 3, 4), [0, -1]),
            ((2, 3, 4), [-1]),
            ((2, 3, 4), [2, 0, 2, 2]),
            ((1, 1), []),
            ((), [1, 1]),
            ((0, 3), [3, 0]),
        ]
        for shape, wanted in examples:
            keep = 0 not in shape
            inputs = (TensorType(shape), np.array(wanted, np.int64))
            yield Case(ReshapeAttributes(keep), inputs, f"{shape} to {wanted}")


def resolved(shape: Shape, wanted: Sequence[Dimension], *, zero_copies: bool) -> Shape:
    """The shape with 0 and -1 replaced; `ValueError` when it cannot hold the input's elements."""
    result = [_copied(shape, wanted, axis) if d == 0 and zero_copies else d for axis, d in enumerate(wanted)]
    negative = [d for d in result if isinstance(d, int) and d < 0]
    if negative not in ([], [-1]):
        raise ValueError(f"the shape {_text(wanted)} may have one -1 and no other negative number")
    known = [d for d in result if d != -1]
    if negative:
        if 0 in known:
            raise ValueError(f"the -1 in the shape {_text(wanted)} is undetermined: another axis is empty")
        try:
            rest = _quotient(shape, known)
        except ValueError as error:
            raise ValueError(f"an input of shape {_text(shape)} does not fit {_text(wanted)}: {error}") from error
        return tuple(rest if d == -1 else d for d in result)
    given, held = product(shape), product(known)
    if isinstance(given, int) and isinstance(held, int) and given != held:
        raise ValueError(f"an input of shape {_text(shape)} has {given} elements, the shape {_text(wanted)} {held}")
    return tuple(result)


def _quotient(shape: Sequence[Dimension], known: Sequence[Dimension]) -> Dimension:
    """product(shape) / product(known), which must be whole; `ValueError` when integers do not divide.

    Common factors cancel first: where the rest does not divide as polynomials, the quotient stays a simpler division.
    """
    above, below = Counter(shape), Counter(known)
    dividend, divisor = product((above - below).elements()), product((below - above).elements())
    if isinstance(dividend, int) and isinstance(divisor, int) and (divisor == 0 or dividend % divisor):
        raise ValueError(f"{product(shape)} elements cannot be divided by {product(known)}")
    return dividend // divisor


def _copied(shape: Shape, wanted: Sequence[Dimension], axis: int) -> Dimension:
    if axis >= len(shape):
        raise ValueError(f"the 0 at axis {axis} of the shape {_text(wanted)} copies no axis of {_text(shape)}")
    return shape[axis]


def _text(shape: Sequence[Dimension]) -> str:
    return "[" + ", ".join(str(d) for d in shape) + "]"
