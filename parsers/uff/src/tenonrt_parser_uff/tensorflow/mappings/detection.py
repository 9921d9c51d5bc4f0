"""Non-maximum suppression, versions 1 to 5."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import Array, GraphBuilder, ParseError, SourceNode, Tensor

from tenonrt_parser_uff.emit import Inputs, cast, check_count, concatenate, flag, given, number, shape_of, single
from tenonrt_parser_uff.tensorflow.mappings.pointwise import vector

_INPUTS = {"NonMaxSuppression": 3, "NonMaxSuppressionV2": 4, "NonMaxSuppressionV3": 5, "NonMaxSuppressionV4": 5,
           "NonMaxSuppressionV5": 6}  # fmt: skip


def non_max_suppression(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Boxes [B, 4], scores [B] to int32 indices, the best box first. V4 adds their number, V5 their scores too."""
    check_count(inputs, _INPUTS[node.type])
    boxes, scores, most = (given(inputs, i, what) for i, what in enumerate(("boxes", "scores", "the most")))
    chosen = _chosen(builder, node, inputs, boxes, scores)
    if node.type in ("NonMaxSuppression", "NonMaxSuppressionV2", "NonMaxSuppressionV3"):
        return [chosen]
    valid = shape_of(builder, chosen)
    count = single(builder, "Squeeze", [valid], {"axes": (0,)})
    picked = [chosen]
    if node.type == "NonMaxSuppressionV5":
        picked.append(single(builder, "Gather", [scores, chosen], {"axis": 0}))
    if flag(node, "pad_to_max_output_size"):
        picked = [_padded(builder, tensor, most) for tensor in picked]
    return [*picked, count]


def _chosen(builder: GraphBuilder, node: SourceNode, inputs: Inputs, boxes: Tensor, scores: Tensor) -> Tensor:
    if boxes.type.rank != 2 or scores.type.rank != 1:
        raise ParseError(f"boxes and scores are {boxes.type} and {scores.type}, expected [B, 4] and [B]")
    operands: list[Tensor | Array | None] = [
        single(builder, "Unsqueeze", [boxes], {"axes": (0,)}),
        single(builder, "Unsqueeze", [scores], {"axes": (0, 1)}),
        cast(builder, given(inputs, 2, "the most"), "int64"),
    ]
    if node.type == "NonMaxSuppression":
        operands.append(np.array(number(node, "iou_threshold", 0.5), np.float32))
    else:
        operands.append(cast(builder, given(inputs, 3, "the overlap"), "float32"))
    if len(inputs) > 4:
        operands.append(cast(builder, given(inputs, 4, "the least score"), "float32"))
    if len(inputs) > 5:
        sigma = given(inputs, 5, "sigma").constant
        if sigma is None or sigma.any():
            raise ParseError("soft suppression (a sigma other than 0) is not supported")
    rows = single(builder, "NonMaxSuppression", operands)  # image, class, box
    column = single(builder, "Gather", [rows, np.array(2, np.int64)], {"axis": 1})
    return cast(builder, column, "int32")


def _padded(builder: GraphBuilder, tensor: Tensor, most: Tensor) -> Tensor:
    """With zeros up to the most that could have been chosen."""
    if most.constant is None or most.constant.size != 1 or not 0 <= int(most.constant.reshape(-1)[0]) < 2**31:
        raise ParseError("pads to a number of boxes that is not known when the file is read")
    size = int(most.constant.reshape(-1)[0])
    zeros = single(builder, "Fill", [vector([size])], {"value": 0, "dtype": tensor.type.dtype})
    joined = concatenate(builder, [tensor, zeros], 0)
    return single(builder, "Slice", [joined, vector([0]), vector([size]), vector([0])])
