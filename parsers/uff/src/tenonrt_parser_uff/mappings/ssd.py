"""Custom operations by which TensorRT's samples replaced the parts of an SSD detector that no importer could read.

Two vocabularies exist: of TensorRT 4 (`_PriorBox`, `_NMS`, `_concat_box_loc`), and of 5 on (`_GridAnchor_TRT`,
`_NMS_TRT`, `_FlattenConcat_TRT`). Boxes and anchors are those of TensorFlow's object detection (Liu et al. 2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import Any

import numpy as np
from tenonrt.contracts import Array, GraphBuilder, ParseError, SourceNode, Tensor

from tenonrt_parser_uff.emit import (
    Inputs,
    concatenate,
    flag,
    given,
    integer,
    number,
    numbers,
    reshape,
    single,
    text,
)

MAX_CELLS = 2**22  # of all feature maps


def flatten_concat(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Each tensor as a vector per image, one after the other: [N, ...] to [N, all]."""
    vectors = [single(builder, "Flatten", [given(inputs, i, "input")], {"axis": 1}) for i in range(max(len(inputs), 1))]
    return [concatenate(builder, vectors, 1)]


def concat_priors(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Anchors of several feature maps, [1, 2, boxes 4] each."""
    tensors = [given(inputs, i, "input") for i in range(max(len(inputs), 1))]
    return [concatenate(builder, tensors, integer(node, "axis", 2))]


def grid_anchors(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """[1, 2, boxes 4]: corners (xmin, ymin, xmax, ymax) of the anchors of all feature maps, then their variances.

    A node of UFF has one output, so the maps are joined, as the concatenation that follows would have done.
    """
    least, most = (_real(node, names) for names in (("minSize", "minScale"), ("maxSize", "maxScale")))
    shapes = numbers(node, "featureMapShapes")
    ratios, variances = _reals(node, ("aspectRatios",)), _reals(node, ("variance", "layerVariances"))
    if not shapes or any(not 0 < n <= MAX_CELLS for n in shapes) or sum(n * n for n in shapes) > MAX_CELLS:
        raise ParseError(f"'featureMapShapes' is {list(shapes)[:8]}, expected rows of square maps")
    if len(variances) != 4 or not 0 < len(ratios) <= 64 or any(ratio <= 0 for ratio in ratios):
        raise ParseError("needs four variances, and aspect ratios above zero")
    steps = max(len(shapes) - 1, 1)
    scales = [least + (most - least) * i / steps for i in range(len(shapes))] + [1.0]
    corners = [_corners(size, sizes) for size, sizes in zip(shapes, _sizes(scales, ratios), strict=True)]
    boxes = np.concatenate(corners).reshape(-1)
    values = np.stack([boxes, np.resize(np.array(variances), boxes.shape)])[None]
    return [builder.constant(values.astype(np.float32), node.name)]


def _sizes(scales: list[float], ratios: tuple[float, ...]) -> Iterator[list[tuple[float, float]]]:
    """Width and height of each anchor of a cell, map by map; the first map has three, of which one is small."""
    for i, scale in enumerate(scales[:-1]):
        if i == 0:
            pairs = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        else:
            pairs = [*((scale, ratio) for ratio in ratios), (sqrt(max(scale * scales[i + 1], 0.0)), 1.0)]
        yield [(side * sqrt(ratio), side / sqrt(ratio)) for side, ratio in pairs]


def _corners(size: int, sizes: list[tuple[float, float]]) -> Array:
    """[rows columns anchors, 4] of a square map; centres are in the middle of cells, the image is 1 wide."""
    centres = (np.arange(size) + 0.5) / size
    half = np.array(sizes) / 2
    y, x = np.meshgrid(centres, centres, indexing="ij")
    middle = np.stack([x, y], -1)[:, :, None]
    return np.concatenate([middle - half, middle + half], -1).reshape(-1, 4)


def detections(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Locations (y, x, height, width), scores and anchors to rows of image, class, score, xmin, ymin, xmax, ymax.

    [1, 1, found, 7]; TensorRT's plugin filled up to keepTopK rows, of class -1.
    """
    classes = integer(node, "numClasses")
    order = numbers(node, "inputOrder", (0, 2, 1))
    if not 0 < classes < 2**20 or sorted(order) != [0, 1, 2]:
        raise ParseError(f"'numClasses' is {classes} and 'inputOrder' {list(order)[:8]}")
    location, scores, priors = (
        given(inputs, place, what) for place, what in zip(order, ("location", "scores", "anchors"), strict=True)
    )
    boxes = priors.type.shape[-1]
    if priors.type.rank != 3 or not isinstance(boxes, int):
        raise ParseError(f"the anchors are {priors.type}, expected [1, 2, boxes 4]")
    flat = reshape(builder, scores, (-1, boxes // 4 * classes))
    if flag(node, "confSigmoid", text(node, "scoreConverter", "SIGMOID") == "SIGMOID"):
        flat = single(builder, "Activation", [flat], {"function": "sigmoid"})
    operands = [_located(builder, node, location, boxes), flat, priors]
    return [single(builder, "DetectionOutput", operands, _attributes(node, classes))]


def _located(builder: GraphBuilder, node: SourceNode, location: Tensor, boxes: int) -> Tensor:
    """Locations with x before y, [N, boxes 4]."""
    if not flag(node, "shareLocation", True):
        raise ParseError("'shareLocation' is 0; boxes for each class are not supported")
    places = reshape(builder, location, (-1, boxes // 4, 4))
    swapped = single(builder, "Gather", [places, np.array([1, 0, 3, 2], np.int64)], {"axis": 2})
    return reshape(builder, swapped, (-1, boxes))


def _attributes(node: SourceNode, classes: int) -> dict[str, Any]:
    return {
        "classes": classes,
        "background": integer(node, "backgroundLabelId", 0),
        "code": "center_size",
        "scaled": flag(node, "varianceEncodedInTarget"),
        "confidence": _real(node, ("confidenceThreshold", "scoreThreshold")),
        "top": _first_integer(node, ("topK", "maxDetectionsPerClass")),
        "keep": _first_integer(node, ("keepTopK", "maxTotalDetections")),
        "threshold": _real(node, ("nmsThreshold", "iouThreshold")),
    }


def _name(node: SourceNode, names: tuple[str, ...]) -> str:
    """The first of the names that the node has."""
    return next((name for name in names if node.attrs.get(name) is not None), names[0])


def _real(node: SourceNode, names: tuple[str, ...]) -> float:
    return number(node, _name(node, names))


def _first_integer(node: SourceNode, names: tuple[str, ...]) -> int:
    return integer(node, _name(node, names))


def _reals(node: SourceNode, names: tuple[str, ...]) -> tuple[float, ...]:
    name = _name(node, names)
    value = node.attrs.get(name)
    if not isinstance(value, tuple) or not all(isinstance(v, (int, float)) for v in value):
        raise ParseError(f"{name!r} must be a list of numbers")
    return tuple(float(v) for v in value)
