"""The ReverseSequence layer: the first elements of each sequence of a batch in reverse order."""

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
    normalize_axes,
    required,
    same,
)


class ReverseSequenceAttributes(Attributes, frozen=True):
    """batch_axis: where the sequences are, time_axis: where their elements are; both may be any axes."""

    batch_axis: int = 1
    time_axis: int = 0


class ReverseSequenceLayer(LayerType):
    """y[t, b] = x[length[b] - 1 - t, b] while t < length[b], else x[t, b] (ONNX ReverseSequence)."""

    Attrs = ReverseSequenceAttributes
    inputs = ("input", "lengths")
    pattern = "movement"

    def infer(self, attrs: ReverseSequenceAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        x, lengths = required(inputs, 2)
        normalize_axes((attrs.batch_axis, attrs.time_axis), x.rank)
        if lengths.rank != 1 or lengths.dtype not in {"int32", "int64"}:
            raise ValueError(f"the lengths must be a vector of integers, found {lengths.type}")
        same(x.shape[attrs.batch_axis], lengths.shape[0], "the number of lengths")
        return [x.like()]

    def reference(self, attrs: ReverseSequenceAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        x, lengths = required(arrays, 2)
        moved = np.moveaxis(x, (attrs.batch_axis, attrs.time_axis), (0, 1))
        if lengths.min(initial=0) < 0 or lengths.max(initial=0) > moved.shape[1] or len(lengths) != len(moved):
            raise ValueError(f"lengths {lengths.tolist()[:8]} do not fit {len(moved)} sequences of {moved.shape[1]}")
        time = np.arange(moved.shape[1])
        source = np.where(time < lengths[:, None], lengths[:, None] - 1 - time, time)
        result = moved[np.arange(len(moved))[:, None], source]
        return [np.ascontiguousarray(np.moveaxis(result, (0, 1), (attrs.batch_axis, attrs.time_axis)))]

    def sample(
        self, attrs: ReverseSequenceAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        x, lengths = required(types, 2)
        longest = x.concrete({})[attrs.time_axis]
        return [draw(x, rng), rng.integers(0, longest + 1, lengths.concrete({})).astype(lengths.numpy)]

    def flops(
        self, attrs: ReverseSequenceAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> Dimension:
        return 0

    def cases(self) -> Iterable[Case]:
        for batch, time in ((1, 0), (0, 1), (2, 0)):
            shape = (4, 5, 3)
            lengths = TensorType((shape[batch],), "int64")
            yield Case(
                ReverseSequenceAttributes(batch, time), (TensorType(shape), lengths), f"batch {batch} time {time}"
            )
