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
    TensorInfo,
    TensorType,
    broadcast,
    draw,
    known_values,
    required,
    unknown,
    vector_length,
)


class ExpandLayer(LayerType):
    """y is x broadcast together with the given shape: either may be longer, or one where the other is not."""

    Attrs = Attributes
    inputs = ("input", "shape")
    shape_inputs = (1,)
    pattern = "movement"
    shape_arithmetic = True

    def infer(self, attrs: Attributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        x, shape = required(inputs, 2)
        count, wanted = vector_length(shape, "the shape"), known_values(shape)
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

    def sample(
        self, attrs: Attributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        x, shape = required(types, 2)
        return [draw(x, rng), np.ones(shape.concrete({}), shape.numpy)]

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
