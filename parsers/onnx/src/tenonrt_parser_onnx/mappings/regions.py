"""Operators that read an image where other tensors say: regions, and windows whose taps move."""

from __future__ import annotations

from tenonrt.contracts import GraphBuilder, ParseError, SourceNode, Tensor

from tenonrt_parser_onnx.mappings.arguments import Inputs, emit, integer, integers, number, present, required, text
from tenonrt_parser_onnx.mappings.convolution import spatial_axes, window_attributes


def roi_align(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Samples in the parts of regions; the layer has the number of a region's image beside its corners."""
    features, corners, images = (required(inputs, i, name) for i, name in enumerate(("X", "rois", "batch_indices")))
    (numbers,) = builder.add("Cast", [images], {"to": corners.type.dtype})
    (column,) = builder.add("Unsqueeze", [numbers], {"axes": (1,)})
    (regions,) = builder.add("Concatenation", [column, corners], {"axis": 1})
    centres = "half_pixel" if node.version >= 16 else "output_half_pixel"
    found = text(node, "coordinate_transformation_mode", centres, ("half_pixel", "output_half_pixel"))
    attrs = {
        "pooled": (integer(node, "output_height", 1), integer(node, "output_width", 1)),
        "scale": number(node, "spatial_scale", 1.0),
        "samples": integer(node, "sampling_ratio", 0),
        "mode": {"avg": "average", "max": "max"}[text(node, "mode", "avg", ("avg", "max"))],
        "half_pixel": found == "half_pixel",
    }
    return list(emit(builder, node, "RoiAlign", [features, regions], attrs))


def max_roi_pool(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The maximum of each part of a region."""
    pooled = integers(node, "pooled_shape")
    if len(pooled) != 2:
        raise ParseError(f"attribute 'pooled_shape' has {len(pooled)} values, {list(pooled)[:8]}; 2 are needed")
    attrs = {"pooled": pooled, "scale": number(node, "spatial_scale", 1.0)}
    return list(emit(builder, node, "RoiPooling", [required(inputs, 0, "X"), required(inputs, 1, "rois")], attrs))


def deform_conv(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Input [N, C, H, W], weights, offsets of every tap, bias, and a factor for every tap."""
    x, weights, offsets = (required(inputs, i, name) for i, name in enumerate(("X", "W", "offset")))
    attrs = window_attributes(node, spatial_axes(node, weights)) | {
        "groups": integer(node, "group", 1),
        "offset_groups": integer(node, "offset_group", 1),
    }
    operands = [x, weights, offsets, present(inputs, 3), present(inputs, 4)]
    return list(emit(builder, node, "DeformableConvolution", operands, attrs))
