"""DetectionOutput in two: what is found, in tensors of known size, and the rows that are there.

The first has all the work, and a size that does not hang on data, so that native kernels can compute it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    Dimension,
    GraphView,
    Layer,
    LayerType,
    Pass,
    Patch,
    Run,
    TensorInfo,
    TensorType,
    differ,
    required,
    unknown,
)

from tenonrt_layer_detection.detection_output import (
    DetectionOutputAttributes,
    DetectionOutputLayer,
    check_detections,
    detections,
    draw_detections,
)

MOST = 1 << 16  # rows of all images


def most_rows(attrs: Any) -> int:
    """How many detections an image can have; -1: any number."""
    if attrs.keep >= 0:
        return int(attrs.keep)
    return int(attrs.top) * int(attrs.classes) if attrs.top >= 0 else -1


class SelectDetectionsLayer(LayerType):
    """The inputs of DetectionOutput to rows [N, most, 7], zero where there are no more, and counts int64 [N]."""

    Attrs: ClassVar[type[Attributes]] = DetectionOutputAttributes
    inputs: ClassVar[tuple[str, ...]] = ("location", "scores", "priors")

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        location = check_detections(attrs, inputs)
        if most_rows(attrs) < 1:
            raise ValueError(f"keep is {attrs.keep} and top {attrs.top}; one of them must be above 0")
        rows = location.like((location.shape[0], most_rows(attrs), 7))
        return [rows, rows.like((location.shape[0],), "int64")]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        location, scores, priors = required(arrays, 3)
        result = np.zeros((len(location), most_rows(attrs), 7), location.dtype)
        found = detections(attrs, location, scores, priors)
        for rows, own in zip(result, found, strict=True):
            rows[: len(own)] = own
        return [result, np.array([len(own) for own in found], np.int64)]

    def sample(self, attrs: Any, types: Sequence[TensorType | None], rng: np.random.Generator) -> list[Array | None]:
        return draw_detections(types, rng)

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        return DetectionOutputLayer().flops(attrs, inputs, outputs)

    def cases(self) -> Iterable[Case]:
        for case in DetectionOutputLayer().cases():
            if most_rows(case.attrs) > 0:
                yield case
        shapes = ((2, 48), (2, 36), (1, 2, 48))
        attrs = DetectionOutputAttributes(3, code="center_size", confidence=0.2, top=5, threshold=0.45)
        yield Case(attrs, tuple(map(TensorType, shapes)), "all that are left")


class CollectDetectionsLayer(LayerType):
    """rows [N, most, 7] and counts [N] to the rows that are there, [1, 1, M, 7]; a row of -1 per image for none."""

    Attrs = Attributes
    inputs: ClassVar[tuple[str, ...]] = ("rows", "counts")

    def infer(self, attrs: Attributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        rows, counts = required(inputs, 2)
        if rows.rank != 3 or counts.rank != 1 or counts.dtype != "int64":
            raise ValueError(f"inputs are {rows.type} and {counts.type}, expected [N, most, 7] and int64 [N]")
        if differ(rows.shape[0], counts.shape[0]):
            raise ValueError(f"rows are {rows.type} and counts {counts.type}, expected those of as many images")
        return [rows.like((1, 1, unknown(), rows.shape[2]))]

    def reference(self, attrs: Attributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        rows, counts = required(arrays, 2)
        found = rows[np.arange(rows.shape[1]) < counts[:, None]]
        if not len(found):
            found = np.full((len(rows), rows.shape[2]), -1, rows.dtype)
            found[:, 0] = np.arange(len(rows))
        return [found[None, None]]

    def sample(
        self, attrs: Attributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        rows, counts = required(types, 2)
        images, most, _ = rows.concrete({})
        return [
            rng.random(rows.concrete({})).astype(rows.numpy),
            rng.integers(0, most + 1, images).astype(counts.numpy),
        ]

    def cases(self) -> Iterable[Case]:
        yield Case(Attributes(), (TensorType((3, 5, 7)), TensorType((3,), "int64")), "three images")
        yield Case(Attributes(), (TensorType((2, 4, 7)), np.zeros(2, np.int64)), "nothing found")


class SplitDetections(Pass):
    """Where the number of detections has a bound, and sizes are known."""

    kinds = frozenset({"DetectionOutput"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        most, inputs = most_rows(layer.attrs), [t for t in layer.inputs if t is not None]
        if most < 1 or not all(tensor.type.static for tensor in inputs):
            return None
        if prod(inputs[0].type.concrete({})[:1]) * most > MOST:
            return None
        patch = Patch("all but the number of rows is of known size")
        rows, counts = patch.add("SelectDetections", inputs, layer.attrs, outputs=2)
        (found,) = patch.add("CollectDetections", [rows, counts])
        patch.replace(layer.outputs[0], found)
        return patch
