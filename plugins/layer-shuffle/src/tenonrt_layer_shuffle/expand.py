"""The Expand layer: repetition along axes of length one."""

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
    Shape,
    TensorInfo,
    TensorType,
    draw,
    maximum,
    unknown,
)

from tenonrt_layer_shuffle.host_shape import length, values
from tenonrt_layer_shuffle.operands import required


class ExpandLayer(LayerType):
    """y is x broadcast together with the given shape: either may be longer, or one where the other is not."""

    Attrs = Attributes
    inputs = ("input", "shape")
    shape_inputs = (1,)
    pattern = "movement"
    shape_arithmetic = True

    def infer(self, attrs: Attributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        x, shape = required(inputs, 2)
        count, wanted = length(shape, "the shape"), values(shape)
        if wanted is not None:
            return [x.like(broadcast(x.shape, wanted))]
        kept = [d if isinstance(d, int) and d != 1 else unknown() for d in x.shape]
        return [x.like([unknown() for _ in range(count - x.rank)] + kept)]

    def reference(self, attrs: Attributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        x, shape = required(arrays, 2)
        wanted = [int(d) for d in shape.reshape(-1)]
        return [np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(wanted)))]

    def flops(self, attrs: Attributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        return 0

    def sample(self, attrs: Attributes, types: Sequence[TensorType], rng: np.random.Generator) -> list[Array]:
        return [draw(types[0], rng), np.ones(types[1].concrete({}), types[1].numpy)]

    def cases(self) -> Iterable[Case]:
        examples: list[tuple[tuple[int, ...], list[int]]] = [
            ((3, 1), [3, 4]),
            ((3, 1), [2, 1, 6]),
            ((2, 3), [1]),
            ((2, 3), []),
            ((), [2, 2]),
            ((1, 3), [0, 3]),
            ((5, 1, 7), [5, 9, 1]),
        ]
        for shape, wanted in examples:
            yield Case(Attributes(), (TensorType(shape), np.array(wanted, np.int64)), f"{shape} to {wanted}")


def broadcast(shape: Shape, wanted: Sequence[Dimension]) -> list[Dimension]:
    """The common shape; an integer above one wins over a symbol, which the core checks when it runs."""
    rank = max(len(shape), len(wanted))
    left = [1] * (rank - len(shape)) + [*shape]
    right = [1] * (rank - len(wanted)) + [*wanted]
    return [_join(a, b, shape, wanted) for a, b in zip(left, right, strict=True)]


def _join(a: Dimension, b: Dimension, shape: Shape, wanted: Sequence[Dimension]) -> Dimension:
    if a in {b, 1}:
        return b
    if b == 1:
        return a
    if isinstance(a, int) and isinstance(b, int):
        found, target = ("[" + ", ".join(map(str, dims)) + "]" for dims in (shape, wanted))
        raise ValueError(f"an input of shape {found} does not broadcast with {target}: {a} meets {b}")
    if isinstance(a, int) or isinstance(b, int):
        return a if isinstance(a, int) else b
    return maximum(a, b)
