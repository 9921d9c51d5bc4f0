"""FullyConnected: y = x W^T + b over the last axis (Caffe InnerProduct, TensorRT IFullyConnectedLayer)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import (
    Array,
    Case,
    Dimension,
    LayerType,
    Pattern,
    Run,
    TensorInfo,
    TensorType,
    differ,
    optional,
    required,
    working_dtype,
)

from tenonrt_layer_matmul.operands import check_types


class FullyConnectedLayer(LayerType):
    """input [..., K], weights [N, K], bias [N] to [..., N]."""

    inputs: ClassVar[tuple[str, ...]] = ("input", "weights", "bias?")
    pattern: ClassVar[Pattern] = "contraction"

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (source, weights), bias = required(inputs, 2), optional(inputs, 2)
        check_types(input=source, weights=weights, bias=bias)
        if not source.rank:
            raise ValueError(f"input is {source.type}, expected at least one axis")
        if weights.rank != 2 or differ(weights.shape[1], source.shape[-1]):
            raise ValueError(f"weights are {weights.type}, expected [N, {source.shape[-1]}] for input {source.type}")
        if bias is not None and (bias.rank != 1 or differ(bias.shape[0], weights.shape[0])):
            raise ValueError(f"bias is {bias.type}, expected [{weights.shape[0]}], one value for each row of weights")
        return [source.like((*source.shape[:-1], weights.shape[0]))]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (source, weights), bias = required(arrays, 2), optional(arrays, 2)
        dtype = working_dtype(source.dtype)
        output: Array = np.matmul(source.astype(dtype, copy=False), weights.astype(dtype, copy=False).T)
        if bias is not None:
            output += bias.astype(dtype, copy=False)
        return [output.astype(source.dtype, copy=False)]

    def reduction(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> Dimension:
        return required(inputs, 2)[1].shape[1]

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        return 2 * outputs[0].type.size * self.reduction(attrs, inputs)

    def cases(self) -> Iterable[Case]:
        def case(name: str, source: tuple[int, ...], outputs: int, bias: bool = True) -> Case:
            types = (TensorType(source), TensorType((outputs, source[-1])), TensorType((outputs,)) if bias else None)
            return Case(self.Attrs(), types, name)

        yield case("batch", (4, 37), 19)
        yield case("no bias", (3, 16), 32, bias=False)
        yield case("one row", (1, 64), 10)
        yield case("sequence", (2, 5, 8), 6)
        yield case("vector", (12,), 5)
        yield case("size one", (1, 1), 1)
        yield case("empty batch", (0, 8), 4)
