"""Object detection: SSD's boxes, Faster R-CNN's and R-FCN's regions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import sqrt
from typing import Any

from tenonrt.contracts import GraphBuilder, ParseError, SourceNode, Tensor

from tenonrt_parser_caffe.mappings.operands import Inputs, bottoms, one, positive, rank, reshape

MAX_BOXES = 1000  # of a cell


def prior_box(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Boxes around the cells of the first bottom, in an image of the second's size."""
    features, image = bottoms(inputs, 2)
    attrs = {
        "boxes": _boxes(node),
        "variances": node.attrs["variance"] or (0.1,),
        "image": _pair(node, "img", positive=True),
        "step": _pair(node, "step", positive=True),
        "offset": node.attrs["offset"],
        "clip": node.attrs["clip"],
    }
    return [one(builder.add("PriorBox", [features, image], attrs))]


def _boxes(node: SourceNode) -> tuple[tuple[float, float], ...]:
    """Width and height of each box of a cell, in SSD's order; sizes count in whole pixels."""
    least, greatest = (_whole(name, node.attrs[name]) for name in ("min_size", "max_size"))
    if not least or min(least) < 1 or (greatest and len(greatest) != len(least)):
        raise ParseError(f"min_size is {least} and max_size {greatest}; there must be some, and as many or no greatest")
    if any(high <= low for low, high in zip(least, greatest, strict=False)):
        raise ParseError(f"max_size is {greatest}; each must be above its min_size, {least}")
    ratios = [1.0]
    for ratio in node.attrs["aspect_ratio"]:
        if not 0 < ratio < float("inf"):
            raise ParseError(f"aspect_ratio is {ratio}; it must be above 0")
        if all(abs(ratio - known) >= 1e-6 for known in ratios):
            ratios += [ratio, 1 / ratio] if node.attrs["flip"] else [ratio]
    if len(ratios) * len(least) > MAX_BOXES:
        raise ParseError(f"has {len(ratios) * len(least)} boxes in a cell; at most {MAX_BOXES} are made")
    found: list[tuple[float, float]] = []
    for index, size in enumerate(least):
        found.append((size, size))
        if greatest:
            found.append((sqrt(size * greatest[index]),) * 2)
        found += [(size * sqrt(ratio), size / sqrt(ratio)) for ratio in ratios if abs(ratio - 1) >= 1e-6]
    return tuple(found)


def _whole(name: str, values: Sequence[float]) -> list[int]:
    if not all(abs(value) < 1 << 31 for value in values):
        raise ParseError(f"{name} is {values}; sizes are pixels")
    return [int(value) for value in values]


def _pair(node: SourceNode, stem: str, positive: bool) -> tuple[Any, Any] | None:
    """Height and width, from the _h and _w fields or from one for both; None when not given."""
    both = node.attrs["img_size" if stem == "img" else stem]
    sides = tuple(node.attrs[f"{stem}_{side}"] for side in "hw")
    if both is not None and sides != (None, None):
        raise ParseError(f"{stem}_h and {stem}_w exclude one {stem} for both")
    found = (both, both) if both is not None else sides
    if found == (None, None):
        return None
    if None in found or (positive and min(found) <= 0):
        raise ParseError(f"{stem} is {found}; height and width must both be above 0")
    return found[0], found[1]


_CODES = {"CORNER": "corner", "CENTER_SIZE": "center_size", "CORNER_SIZE": "corner_size"}


def detection_output(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Rows of image, class, score and box."""
    location, scores, priors = bottoms(inputs, 3, 5)[:3]
    suppression = node.attrs["nms_param"] or {"nms_threshold": 0.3, "top_k": None, "eta": 1.0}
    confidence, top = node.attrs["confidence_threshold"], suppression["top_k"]
    attrs = {
        "classes": positive(node, "num_classes"),
        "share_location": node.attrs["share_location"],
        "background": node.attrs["background_label_id"],
        "code": _CODES[node.attrs["code_type"]],
        "scaled": node.attrs["variance_encoded_in_target"],
        "top": -1 if top is None else max(top, -1),
        "keep": max(node.attrs["keep_top_k"], -1),
        "threshold": suppression["nms_threshold"],
        "eta": suppression["eta"],
    }
    if confidence is not None:
        attrs["confidence"] = confidence
    flat = [_flat(builder, x) for x in (location, scores)]
    return [one(builder.add("DetectionOutput", [*flat, priors], attrs))]


def _flat(builder: GraphBuilder, x: Tensor) -> Tensor:
    return x if rank(x) == 2 else one(builder.add("Flatten", [x], {"axis": 1}))


def roi_pooling(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The maxima of the parts of regions."""
    features, regions = bottoms(inputs, 2)
    attrs = {"pooled": (positive(node, "pooled_h"), positive(node, "pooled_w")), "scale": node.attrs["spatial_scale"]}
    return [one(builder.add("RoiPooling", [features, _regions(builder, regions)], attrs))]


def roi_align(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The means of samples between pixels in the parts of regions (Mask R-CNN)."""
    features, regions = bottoms(inputs, 2)
    attrs = {"pooled": (positive(node, "pooled_h"), positive(node, "pooled_w")), "scale": node.attrs["spatial_scale"],
             "samples": max(node.attrs["sampling_ratio"], 0)}  # fmt: skip
    return [one(builder.add("RoiAlign", [features, _regions(builder, regions)], attrs))]


def psroi_pooling(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The means of the parts of regions, each of channels of its own."""
    features, regions = bottoms(inputs, 2)
    attrs = {"channels": positive(node, "output_dim"), "groups": positive(node, "group_size"),
             "scale": node.attrs["spatial_scale"] or 0.0}  # fmt: skip
    return [one(builder.add("PositionSensitiveRoiPooling", [features, _regions(builder, regions)], attrs))]


def _regions(builder: GraphBuilder, regions: Tensor) -> Tensor:
    """[R, 5]; some networks write [R, 5, 1, 1]."""
    return regions if rank(regions) == 2 else reshape(builder, regions, regions.type.shape[:2])


def proposal(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Regions that a region proposal network sees objects in."""
    scores, shifts, image = bottoms(inputs, 3)
    attrs = {
        "stride": positive(node, "feat_stride"), "base": positive(node, "base_size"),
        "ratios": node.attrs["ratio"] or (0.5, 1.0, 2.0), "scales": node.attrs["scale"] or (8.0, 16.0, 32.0),
        "least": float(node.attrs["min_size"]), "before": positive(node, "pre_nms_topn"),
        "after": positive(node, "post_nms_topn"), "threshold": node.attrs["nms_thresh"],
    }  # fmt: skip
    return _proposal(builder, [scores, shifts, image], attrs)


def python(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Layers written in Python cannot be run; the proposal layer of py-faster-rcnn is known by its name."""
    if node.attrs["layer"] != "ProposalLayer":
        raise ParseError(
            f"is the Python class {node.attrs['layer']!r} of {node.attrs['module']!r}, which is not run; offer a "
            f"mapping caffe:layer:{node.name} that says what it computes"
        )
    stride = re.search(r"feat_stride['\"]?\s*:\s*(\d{1,4})\b", node.attrs["param_str"] or "")
    return _proposal(builder, bottoms(inputs, 3), {"stride": int(stride[1]) if stride else 16})


def rproi(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """TensorRT's proposal and pooling in one: tops are the regions [R, 5] and what is pooled of them."""
    scores, shifts, features, image = bottoms(inputs, 4)
    for name in ("ratio", "scale"):
        if len(node.attrs[f"anchor_{name}"]) != (node.attrs[f"anchor_{name}_count"] or 0):
            raise ParseError(f"anchor_{name}_count is not the number of values of anchor_{name}")
    attrs = {
        "stride": positive(node, "feature_stride"), "ratios": node.attrs["anchor_ratio"],
        "scales": node.attrs["anchor_scale"], "least": node.attrs["min_box_size"] or 0.0,
        "before": positive(node, "prenms_top"), "after": positive(node, "nms_max_out"),
        "threshold": 0.7 if node.attrs["iou_threshold"] is None else node.attrs["iou_threshold"],
    }  # fmt: skip
    regions, *_ = _proposal(builder, [scores, shifts, image], attrs)
    return [regions, *roi_pooling(builder, node, [features, regions])]


def _proposal(builder: GraphBuilder, operands: list[Tensor], attrs: dict[str, Any]) -> list[Tensor]:
    """image may be [N, 3] with further axes."""
    image = operands[2]
    if rank(image) != 2:
        operands = [*operands[:2], reshape(builder, image, image.type.shape[:2])]
    return list(builder.add("Proposal", operands, attrs))
