"""MatMul and Gemm."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import Array, GraphBuilder, ParseError, SourceNode, Tensor, is_float, numpy_dtype

from tenonrt_parser_onnx.mappings.arguments import Inputs, emit, flag, number, present, required


def matmul(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """`numpy.matmul`."""
    return list(emit(builder, node, "MatrixMultiply", [required(inputs, 0, "A"), required(inputs, 1, "B")]))


def gemm(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """``alpha * A' B' + beta * C``; the plain case is a fully connected layer."""
    a, b, c = required(inputs, 0, "A"), required(inputs, 1, "B"), present(inputs, 2)
    if a.info.rank != 2 or b.info.rank != 2:
        raise ParseError(f"multiplies matrices, not {a.info.type} by {b.info.type}")
    alpha, beta = _factor(node, "alpha", a), _factor(node, "beta", a)
    plain = alpha == 1.0 and not flag(node, "transA") and (c is None or beta == 1.0)
    if plain and (c is None or _is_bias(c, b, flag(node, "transB"))):
        return list(emit(builder, node, "FullyConnected", [a, _weights(builder, node, b), c]))
    return [_general(builder, node, (a, b, c if beta else None), alpha, beta)]


def _factor(node: SourceNode, name: str, a: Tensor) -> float:
    """alpha or beta; integers are multiplied by whole numbers only."""
    factor = number(node, name, 1.0)
    if not is_float(a.info.dtype) and not factor.is_integer():
        raise ParseError(f"attribute {name!r} is {factor}, expected a whole number for matrices of {a.info.dtype}")
    return factor


def _is_bias(c: Tensor, b: Tensor, transposed: bool) -> bool:
    return c.info.shape == (b.info.shape[0 if transposed else 1],)


def _weights(builder: GraphBuilder, node: SourceNode, b: Tensor) -> Tensor | Array:
    """B as outputs by inputs."""
    if flag(node, "transB"):
        return b
    if b.constant is not None:
        return np.ascontiguousarray(b.constant.T)
    return emit(builder, node, "Transpose", [b], {"permutation": (1, 0)}, part="weights")[0]


def _general(
    builder: GraphBuilder, node: SourceNode, operands: tuple[Tensor, Tensor, Tensor | None], alpha: float, beta: float
) -> Tensor:
    a, b, c = operands
    attrs = {"transpose_a": flag(node, "transA"), "transpose_b": flag(node, "transB")}
    scaled = alpha != 1.0
    (y,) = emit(builder, node, "MatrixMultiply", [a, b], attrs, part="product" if scaled or c is not None else "")
    if scaled:
        y = _scaled(builder, node, y, alpha, "alpha" if c is not None else "")
    if c is None:
        return y
    if beta != 1.0:
        c = _scaled(builder, node, c, beta, "beta")
    return emit(builder, node, "Elementwise", [y, c], {"operation": "sum"})[0]


def _scaled(builder: GraphBuilder, node: SourceNode, x: Tensor, factor: float, part: str) -> Tensor:
    scale = np.asarray(factor, numpy_dtype(x.info.dtype))
    return emit(builder, node, "Elementwise", [x, scale], {"operation": "prod"}, part=part)[0]
