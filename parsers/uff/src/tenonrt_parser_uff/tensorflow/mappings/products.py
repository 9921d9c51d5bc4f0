"""Matrix products."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import GraphBuilder, SourceNode, Tensor

from tenonrt_parser_uff.emit import Inputs, check_count, flag, given, single, text


def matmul(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """MatMul of matrices; weights that are constant make it a fully connected layer."""
    check_count(inputs, 2)
    a, b = given(inputs, 0, "a"), given(inputs, 1, "b")
    left, right = flag(node, "transpose_a"), flag(node, "transpose_b")
    if b.constant is not None and not left and b.type.rank == 2:
        weights = b.constant if right else np.ascontiguousarray(b.constant.T)
        return [single(builder, "FullyConnected", [a, weights])]
    return [single(builder, "MatrixMultiply", [a, b], {"transpose_a": left, "transpose_b": right})]


def batch_matmul(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """BatchMatMul, BatchMatMulV2 and V3: leading axes broadcast."""
    check_count(inputs, 2)
    attrs = {"transpose_a": flag(node, "adj_x"), "transpose_b": flag(node, "adj_y")}
    return [single(builder, "MatrixMultiply", [given(inputs, 0, "x"), given(inputs, 1, "y")], attrs)]


def einsum(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Einsum of any number of tensors."""
    tensors = [given(inputs, i, "input") for i in range(max(len(inputs), 1))]
    return [single(builder, "Einsum", tensors, {"equation": text(node, "equation")})]
