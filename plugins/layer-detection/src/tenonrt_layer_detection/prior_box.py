"""PriorBox: the default boxes that detections are said relative to (SSD: Liu et al. 2016, section 2.2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import (
    FLOATS,
    Array,
    Attributes,
    Case,
    Dimension,
    LayerType,
    Run,
    TensorInfo,
    TensorType,
    required,
    working_dtype,
)


class PriorBoxAttributes(Attributes, frozen=True):
    """Sizes are pixels of the image. boxes: width and height of each box of a cell, in order.

    variances: one for all coordinates, or four. image: its height and width, step: pixels from cell to cell, each None
    to be taken from the inputs' shapes. offset: where in a cell its boxes are centred. clip: to the image.
    """

    boxes: tuple[tuple[float, float], ...]
    variances: tuple[float, ...] = (0.1,)
    image: tuple[int, int] | None = None
    step: tuple[float, float] | None = None
    offset: float = 0.5
    clip: bool = False


class PriorBoxLayer(LayerType):
    """Of features [N, C, H, W] and an image [N, C, h, w], of which only the shapes count: [1, 2, H W boxes 4].

    Row 0 holds the boxes as corners in fractions of the image, row 1 the variances.
    """

    Attrs: ClassVar[type[Attributes]] = PriorBoxAttributes
    inputs: ClassVar[tuple[str, ...]] = ("features", "image")

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        features, image = required(inputs, 2)
        for name, info in (("features", features), ("image", image)):
            if info.rank != 4 or info.dtype not in FLOATS:
                raise ValueError(f"{name} are {info.type}, expected floats [N, C, H, W]")
        if not attrs.boxes:
            raise ValueError("boxes is empty, expected at least one")
        if len(attrs.variances) not in {1, 4}:
            raise ValueError(f"variances are {attrs.variances}, expected one or four")
        height, width = features.shape[2:]
        return [features.like((1, 2, height * width * (4 * len(attrs.boxes))))]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        features, image = required(arrays, 2)
        dtype = working_dtype(features.dtype)
        cells = np.array(features.shape[2:])
        size = np.array(attrs.image or image.shape[2:], dtype)
        step = np.array(attrs.step, dtype) if attrs.step else size / cells
        ys, xs = ((np.arange(n, dtype=dtype) + dtype.type(attrs.offset)) * s for n, s in zip(cells, step, strict=True))
        centres = np.stack(np.broadcast_arrays(xs[None, :], ys[:, None]), -1)[:, :, None, :]
        half = np.array(attrs.boxes, dtype) / 2
        boxes = np.concatenate([centres - half, centres + half], -1) / np.tile(size[::-1], 2)
        if attrs.clip:
            boxes = np.clip(boxes, 0, 1)
        variances = np.tile(np.array(attrs.variances, dtype), boxes.size // len(attrs.variances))
        return [np.stack([boxes.ravel(), variances])[None].astype(features.dtype)]

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        return outputs[0].type.size * 2

    def cases(self) -> Iterable[Case]:
        def case(name: str, features: tuple[int, int], **attrs: Any) -> Case:
            shapes = (TensorType((1, 3, *features)), TensorType((1, 3, 30, 40)))
            return Case(PriorBoxAttributes(**attrs), shapes, name)

        boxes = ((10, 10), (12.5, 12.5), (14, 7), (7, 14), (20, 20))
        yield case("two sizes", (3, 4), boxes=boxes, variances=(0.1, 0.1, 0.2, 0.2))
        yield case("clipped", (2, 2), boxes=boxes, clip=True)
        yield case("image and step", (3, 2), boxes=((5, 5),), image=(60, 50), step=(8, 16), offset=0.25)
