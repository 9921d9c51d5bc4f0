"""The SqueezeAlong and UnsqueezeAlong layers: axes of length one at places known only when the network runs."""

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
    required,
    unknown,
    vector_length,
)

from tenonrt_layer_shuffle.squeeze import SqueezeAttributes, SqueezeLayer
from tenonrt_layer_shuffle.unsqueeze import UnsqueezeAttributes, UnsqueezeLayer


class _Along(LayerType):
    """What both share: a second input of axes, on the host. How many there are is known, so that the rank is."""

    Attrs = Attributes
    inputs = ("input", "axes")
    shape_inputs = (1,)
    pattern = "movement"

    def flops(self, attrs: Attributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        return 0


class SqueezeAlongLayer(_Along):
    """y is x without the axes of length one that the second input names."""

    def infer(self, attrs: Attributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        x, axes = required(inputs, 2)
        count = vector_length(axes, "the axes")
        if axes.value is not None:
            return SqueezeLayer().infer(SqueezeAttributes(tuple(axes.integers())), [x])
        if count > x.rank:
            raise ValueError(f"{count} axes are more than the {x.rank} of the input")
        return [x.like([unknown() for _ in range(x.rank - count)])]

    def reference(self, attrs: Attributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        x, axes = required(arrays, 2)
        return SqueezeLayer().reference(SqueezeAttributes(tuple(axes.tolist())), [x], run)

    def sample(
        self, attrs: Attributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        x, axes = required(types, 2)
        ones = [axis for axis, length in enumerate(x.concrete({})) if length == 1]
        return [draw(x, rng), np.array(ones[: axes.concrete({})[0]], axes.numpy)]

    def cases(self) -> Iterable[Case]:
        for shape, axes in (((1, 3, 1, 5), [0]), ((1, 3, 1, 5), [-2, 0]), ((1, 3), []), ((1, 0), [0])):
            yield Case(Attributes(), (TensorType(shape), np.array(axes, np.int64)), f"{shape} without {axes}")


class UnsqueezeAlongLayer(_Along):
    """y is x with axes of length one at the places in the output that the second input names."""

    def infer(self, attrs: Attributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        x, axes = required(inputs, 2)
        count = vector_length(axes, "the axes")
        if axes.value is not None:
            return UnsqueezeLayer().infer(UnsqueezeAttributes(tuple(axes.integers())), [x])
        return [x.like([unknown() for _ in range(x.rank + count)])]

    def reference(self, attrs: Attributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        x, axes = required(arrays, 2)
        return UnsqueezeLayer().reference(UnsqueezeAttributes(tuple(axes.tolist())), [x], run)

    def sample(
        self, attrs: Attributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        x, axes = required(types, 2)
        count = axes.concrete({})[0]
        return [draw(x, rng), rng.permutation(x.rank + count)[:count].astype(axes.numpy)]

    def cases(self) -> Iterable[Case]:
        for shape, axes in (((3, 5), [0]), ((3, 5), [-1, 1]), ((), [0, 1]), ((4,), [])):
            yield Case(Attributes(), (TensorType(shape), np.array(axes, np.int64)), f"{shape} with {axes}")
