"""The Slice layer: every step-th element between a start and an end, along some axes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

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
    View,
    draw,
    normalize_axes,
    optional,
    required,
    unknown,
    vector_length,
)

from tenonrt_layer_slice.span import FAR, bounded, taken

Vectors = tuple[TensorInfo, TensorInfo, TensorInfo | None, TensorInfo | None]  # starts, ends, axes, steps
Values = list[Dimension] | None
Spans = dict[int, tuple[Dimension, Dimension, Dimension]]  # axis: (start, end, step)


class SliceLayer(LayerType):
    """y = x[start:end:step] along each of ``axes`` (the first ones when absent), clamped as the ONNX operator says.

    Negative starts and ends count from the axis' end; a negative step goes backwards.
    """

    Attrs = Attributes
    inputs = ("input", "starts", "ends", "axes?", "steps?")
    shape_inputs = (1, 2, 3, 4)
    pattern = "movement"
    shape_arithmetic = True

    def infer(self, attrs: Attributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (x,) = required(inputs, 1)
        vectors = _vectors(inputs)
        _check_lengths(vectors, x.rank)
        axes = vectors[2]
        if axes is not None and axes.value is None:  # any axis may be the one cut
            return [x.like([unknown(d) for d in x.shape])]
        spans = _known_spans(vectors, x.rank)
        if spans is None:
            touched = (
                range(vector_length(vectors[0], "starts")) if axes is None else normalize_axes(axes.integers(), x.rank)
            )
            return [x.like([unknown(d) if i in touched else d for i, d in enumerate(x.shape)])]
        return [x.like([taken(*spans[i], d) if i in spans else d for i, d in enumerate(x.shape)])]

    def reference(self, attrs: Attributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        x, starts, ends = required(arrays, 3)
        axes, steps = optional(arrays, 3), optional(arrays, 4)
        chosen, strides = (None if a is None else _integers(a) for a in (axes, steps))
        spans = _spans(_integers(starts), _integers(ends), chosen, strides, x.ndim)
        index = [slice(None)] * x.ndim
        for axis, (start, end, step) in spans.items():
            first, last, stride = _concrete(start, end, step)
            index[axis] = bounded(first, last, stride, x.shape[axis])
        return [np.asarray(x[tuple(index)], dtype=x.dtype)]

    def view(
        self, attrs: Attributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> View | None:
        (x,) = required(inputs, 1)
        vectors = _vectors(inputs)
        if any(v is not None and v.value is None for v in vectors):
            return None
        spans = _known_spans(vectors, x.rank)
        if spans is None:
            return None
        part = [(0, sys.maxsize if isinstance(d, Dim) else d, 1) for d in x.shape]
        for axis, span in spans.items():
            start, end, step = (v if isinstance(v, int) else None for v in span)
            if start is None or end is None or step is None or step < 0:
                return None
            length = x.shape[axis]
            if isinstance(length, Dim):
                if start < 0 or end < 0:
                    return None
                part[axis] = (start, sys.maxsize if end >= FAR else end, step)
            else:
                clamped = bounded(start, end, step, length)
                part[axis] = (clamped.start, max(clamped.stop, clamped.start), step)
        return View("input", (tuple(part),))

    def flops(self, attrs: Attributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        return 0

    def sample(
        self, attrs: Attributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        count = vector_length(TensorInfo(required(types, 2)[1]), "starts")
        vectors = (np.full(count, 0), np.full(count, FAR), np.arange(count), np.full(count, 1))
        pairs = zip(types[1:], vectors, strict=False)
        return [draw(required(types, 1)[0], rng), *(None if t is None else v.astype(t.numpy) for t, v in pairs)]

    def cases(self) -> Iterable[Case]:
        examples: list[tuple[tuple[int, ...], list[list[int] | None]]] = [
            ((5, 7), [[1, 2], [4, 6], None, None]),
            ((5, 7), [[-3], [FAR], [1], None]),
            ((5, 7), [[0, 1], [5, 7], [1, 0], [2, 3]]),
            ((5, 7), [[-1, FAR], [-FAR, 2], [0, 1], [-1, -2]]),
            ((2, 3, 5, 7), [[1], [2], [1], [1]]),
            ((4, 3), [[3], [1], [0], None]),
            ((4, 3), [[10], [20], [0], None]),
            ((0, 3), [[0], [2], [0], None]),
            ((9,), [[0], [9], [-1], [4]]),
        ]
        for shape, vectors in examples:
            given = tuple(None if v is None else np.array(v, np.int64) for v in vectors)
            yield Case(Attributes(), (TensorType(shape), *given), f"{shape} by {vectors}")


def _vectors(
    inputs: Sequence[TensorInfo | None],
) -> tuple[TensorInfo, TensorInfo, TensorInfo | None, TensorInfo | None]:
    _, starts, ends = required(inputs, 3)
    return starts, ends, optional(inputs, 3), optional(inputs, 4)


def _check_lengths(vectors: Sequence[TensorInfo | None], rank: int) -> None:
    counts = [vector_length(v, "each of starts, ends, axes and steps") for v in vectors if v is not None]
    if len(set(counts)) > 1 or counts[0] > rank:
        raise ValueError(f"starts, ends, axes and steps need one length up to the rank {rank}, found {counts}")


def _known_spans(vectors: Sequence[TensorInfo | None], rank: int) -> Spans | None:
    """What is cut along each axis, where all values are known."""
    if any(v is not None and v.value is None for v in vectors):
        return None
    starts, ends, axes, steps = (None if v is None else _integers(v.value) for v in vectors)
    return _spans(starts or [], ends or [], axes, steps, rank)


def _integers(values: Array | None) -> list[Dimension]:
    return [] if values is None else [v if isinstance(v, Dim) else int(v) for v in values.reshape(-1)]


def _spans(starts: list[Dimension], ends: list[Dimension], axes: Values, steps: Values, rank: int) -> Spans:
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    chosen = normalize_axes(_concrete(*axes), rank)
    if 0 in steps:
        raise ValueError(f"steps must not be zero, found {[str(s) for s in steps]}")
    return {axis: span for axis, *span in zip(chosen, starts, ends, steps, strict=True)}  # type: ignore[misc]


def _concrete(*values: Dimension) -> list[int]:
    symbolic = [str(v) for v in values if isinstance(v, Dim)]
    if symbolic:
        raise ValueError(f"found the symbolic dimensions {symbolic}, expected integers")
    return [v for v in values if isinstance(v, int)]
