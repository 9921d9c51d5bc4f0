"""The Tile layer: whole-tensor repetition."""

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
    draw,
    known_values,
    required,
    unknown,
    vector_length,
)


class TileLayer(LayerType):
    """y is x repeated repeats[axis] times along every axis."""

    Attrs = Attributes
    inputs = ("input", "repeats")
    shape_inputs = (1,)
    pattern = "movement"
    shape_arithmetic = True

    def infer(self, attrs: Attributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        x, repeats = required(inputs, 2)
        count, times = vector_length(repeats, "the repeats"), known_values(repeats)
        if count != x.rank:
            raise ValueError(f"{count} repeats are given for an input of rank {x.rank}")
        if times is None:
            return [x.like([unknown() for _ in x.shape])]
        negative = [n for n in times if isinstance(n, int) and n < 0]
        if negative:
            raise ValueError(f"repeats must not be negative, found {negative}")
        return [x.like([d * n for d, n in zip(x.shape, times, strict=True)])]

    def reference(self, attrs: Attributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        x, repeats = required(arrays, 2)
        return [np.tile(x, [int(n) for n in repeats.reshape(-1)])]

    def flops(self, attrs: Attributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        return 0

    def sample(
        self, attrs: Attributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        x, repeats = required(types, 2)
        return [draw(x, rng), np.ones(repeats.concrete({}), repeats.numpy)]

    def cases(self) -> Iterable[Case]:
        examples: list[tuple[tuple[int, ...], list[int]]] = [
            ((2, 3), [2, 1]),
            ((2, 3), [1, 3]),
            ((3,), [4]),
            ((1, 5, 1), [3, 2, 2]),
            ((2, 3), [0, 2]),
            ((), []),
        ]
        for shape, times in examples:
            yield Case(Attributes(), (TensorType(shape), np.array(times, np.int64)), f"{shape} times {times}")
