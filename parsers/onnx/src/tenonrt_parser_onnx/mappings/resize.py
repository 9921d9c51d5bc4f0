"""Resize and its forerunner Upsample."""

from __future__ import annotations

from typing import Any

import numpy as np
from tenonrt.contracts import Array, GraphBuilder, ParseError, SourceNode, Tensor

from tenonrt_parser_onnx.mappings.arguments import (
    Inputs,
    emit,
    flag,
    is_absent,
    number,
    numbers,
    optional_integers,
    present,
    required,
    text,
)

_COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
                "tf_half_pixel_for_nn", "tf_crop_and_resize")  # fmt: skip
_ROUNDING = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
_ASPECT = ("stretch", "not_larger", "not_smaller")


def upsample(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Scales are two attributes in opset 1, one before opset 9, then an input."""
    scales: Tensor | Array = required(inputs, 1, "scales") if node.version >= 9 else _scales(node)
    return _old(builder, node, required(inputs, 0, "X"), scales)


def _scales(node: SourceNode) -> Array:
    if node.version < 7:
        return np.array([1, 1, number(node, "height_scale"), number(node, "width_scale")], np.float32)
    return np.array(numbers(node, "scales"), np.float32)


def _old(builder: GraphBuilder, node: SourceNode, x: Tensor, scales: Tensor | Array) -> list[Tensor]:
    """Resize before opset 11: output position divided by scale, rounded down."""
    attrs = {
        "mode": text(node, "mode", "nearest", ("nearest", "linear")),
        "coordinate_transformation": "asymmetric",
        "nearest_rounding": "floor",
    }
    return list(emit(builder, node, "Resize", [x, None, scales], attrs))


def resize(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Opset 10 had scales only; coordinate transformations came with 11, axes and antialiasing with 18."""
    x = required(inputs, 0, "X")
    if node.version < 11:
        return _old(builder, node, x, required(inputs, 1, "scales"))
    roi, scales, sizes = (None if is_absent(present(inputs, i)) else present(inputs, i) for i in (1, 2, 3))
    if (scales is None) == (sizes is None):
        raise ParseError("needs scales or sizes, and not both")
    attrs = _attributes(node)
    if attrs["coordinate_transformation"] != "tf_crop_and_resize":
        roi = None  # exporters give one that nothing reads
    elif roi is None:
        raise ParseError("input 1 (roi) is missing; tf_crop_and_resize needs it")
    return list(emit(builder, node, "Resize", [x, roi, scales, sizes], attrs))


def _attributes(node: SourceNode) -> dict[str, Any]:
    return {
        "mode": text(node, "mode", "nearest", ("nearest", "linear", "cubic")),
        "coordinate_transformation": text(node, "coordinate_transformation_mode", "half_pixel", _COORDINATES),
        "nearest_rounding": text(node, "nearest_mode", "round_prefer_floor", _ROUNDING),
        "cubic_coefficient": number(node, "cubic_coeff_a", -0.75),
        "exclude_outside": flag(node, "exclude_outside"),
        "extrapolation": number(node, "extrapolation_value", 0.0),
        "antialias": flag(node, "antialias"),
        "axes": optional_integers(node, "axes") or None,
        "keep_aspect": text(node, "keep_aspect_ratio_policy", "stretch", _ASPECT),
    }
