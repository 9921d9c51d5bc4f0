"""The ReduceAlong layer: a reduction along axes that are known only when the network runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    LayerType,
    Run,
    TensorInfo,
    TensorType,
    draw,
    required,
    unknown,
    vector_length,
)

from tenonrt_layer_reduce.reduce import OperationName, ReduceAttributes, ReduceLayer

_REDUCE = ReduceLayer()


class ReduceAlongAttributes(Attributes, frozen=True):
    """operation, keep_dims: as of Reduce. empty_is_none: no axes reduce none, rather than all."""

    operation: OperationName
    keep_dims: bool = True
    empty_is_none: bool = False


class ReduceAlongLayer(LayerType):
    """y = operation of x over the axes in the second input: Reduce where they are no constants.

    How many there are is known, so that the rank is: the axes must differ from each other.
    """

    Attrs = ReduceAlongAttributes
    inputs = ("input", "axes")
    shape_inputs = (1,)

    def infer(self, attrs: ReduceAlongAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        x, axes = required(inputs, 2)
        count = vector_length(axes, "the axes")
        if axes.value is not None:
            return _REDUCE.infer(_fixed(attrs, axes.integers()), [x])
        if count == 0:
            return _REDUCE.infer(_fixed(attrs, ()), [x])
        if count > x.rank:
            raise ValueError(f"{count} axes are more than the {x.rank} of the input")
        (whole,) = _REDUCE.infer(_fixed(attrs, range(count)), [x])
        return [x.like([unknown() for _ in range(whole.rank)])]

    def reference(self, attrs: ReduceAlongAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        x, axes = required(arrays, 2)
        return _REDUCE.reference(_fixed(attrs, axes.tolist()), [x], run)

    def sample(
        self, attrs: ReduceAlongAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        x, axes = required(types, 2)
        chosen = rng.permutation(x.rank)[: int(axes.concrete({})[0])]
        return [draw(x, rng), chosen.astype(axes.numpy)]

    def cases(self) -> Iterable[Case]:
        x = TensorType((3, 5, 7))
        for axes in ([1], [-1, 0], []):
            for keep in (True, False):
                given = np.array(axes, np.int64)
                yield Case(ReduceAlongAttributes("sum", keep), (x, given), f"{axes} {keep}")
        yield Case(ReduceAlongAttributes("max", True, True), (x, np.array([], np.int64)), "no axes")


def _fixed(attrs: ReduceAlongAttributes, axes: Iterable[int]) -> ReduceAttributes:
    """The attributes of the Reduce that it is, once the axes are known."""
    known = tuple(int(axis) for axis in axes)
    everything = not known and not attrs.empty_is_none
    return ReduceAttributes(attrs.operation, None if everything else known, attrs.keep_dims)
