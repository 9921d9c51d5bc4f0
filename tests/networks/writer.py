"""Writes ONNX models as exporters do, in the dialect of the one that traced and of the one that came after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dialect = Literal["traced", "exported"]
OPSETS: dict[Dialect, int] = {"traced": 17, "exported": 20}
Array = np.ndarray[Any, Any]


class Writer:
    """A model in the making. Names are given as nodes come.

    ``traced``: opset 17, raw BatchNormalization, constants as nodes, shapes by Shape, Gather, Unsqueeze and Concat.
    ``exported``: opset 20, BatchNormalization folded into convolutions, constants as initializers, shapes where they
    are known, every attribute spelled out. ``batch`` is a number or the name of a symbol.
    """

    def __init__(self, name: str, dialect: Dialect, batch: int | str) -> None:
        self.name = name
        self.dialect = dialect
        self.batch = batch
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.initializers: list[onnx.TensorProto] = []

    @property
    def traced(self) -> bool:
        return self.dialect == "traced"

    # parts -----------------------------------------------------------------------------------------------------------

    def input(self, name: str, shape: Sequence[int], code: int = TensorProto.FLOAT) -> str:
        """An input whose first axis is the batch."""
        self.inputs.append(helper.make_tensor_value_info(name, code, [self.batch, *shape]))
        return name

    def output(self, tensor: str, rank: int = 2) -> None:
        """Rename a tensor to ``output``, the only one of the model."""
        for node in self.nodes:
            node.output[:] = ["output" if name == tensor else name for name in node.output]
            node.input[:] = ["output" if name == tensor else name for name in node.input]
        self.outputs.append(helper.make_tensor_value_info("output", TensorProto.FLOAT, [None] * rank))

    def weight(self, *shape: int, scale: float | None = None) -> str:
        """Seeded normal weights, scaled to keep the variance of what they multiply."""
        fan = int(np.prod(shape[1:])) or 1
        values = self.rng.standard_normal(shape) * ((2 / fan) ** 0.5 if scale is None else scale)
        return self.initializer(values.astype(np.float32))

    def initializer(self, values: Array) -> str:
        name = f"p_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """A small constant, in the dialect's way."""
        array = np.asarray(values, dtype)
        if not self.traced:
            return self.initializer(array)
        return self.node("Constant", [], value=numpy_helper.from_array(array))

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def node(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        return self.split(kind, inputs, 1, **attributes)[0]

    def split(self, kind: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """A node with several outputs."""
        name = f"node_{kind}_{len(self.nodes)}"
        outputs = [f"{kind.lower()}_{len(self.nodes)}_{i}" for i in range(count)]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, name, **attributes))
        return outputs

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.initializers)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSETS[self.dialect])], ir_version=8 if self.traced else 9
        )
        onnx.checker.check_model(model)
        return model

    # what both dialects say, each in its words ------------------------------------------------------------------------

    def convolution(self, x: str, channels: tuple[int, int], size: int, *, stride: int = 1, group: int = 1,
                    normalized: bool = True) -> str:  # fmt: skip
        """``channels`` (in, out), padded to keep the size, followed by BatchNormalization: raw when traced."""
        inside, outside = channels
        attributes = {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": [size // 2] * 4, "group": group,
                      "dilations": [1, 1]}  # fmt: skip
        weight = self.weight(outside, inside // group, size, size)
        if self.traced and normalized:
            y = self.node("Conv", [x, weight], **attributes)
            scale, variance = (self.initializer(self.rng.uniform(0.5, 1.5, outside).astype(np.float32)) for _ in "sv")
            bias, mean = (self.weight(outside, scale=0.1) for _ in "bm")
            return self.node("BatchNormalization", [y, scale, bias, mean, variance], epsilon=1e-5, momentum=0.9)
        return self.node("Conv", [x, weight, self.weight(outside, scale=0.1)], auto_pad="NOTSET", **attributes)

    def mean(self, x: str, axes: Sequence[int], *, keep: bool) -> str:
        """Axes are an attribute until opset 17, an input since."""
        if self.traced:
            return self.node("ReduceMean", [x], axes=list(axes), keepdims=int(keep))
        return self.node("ReduceMean", [x, self.ints(*axes)], keepdims=int(keep), noop_with_empty_axes=0)

    def batch_first(self, x: str, *rest: int) -> str:
        """Reshape to (batch, *rest), the batch computed when it is a symbol."""
        if isinstance(self.batch, int):
            extra = {} if self.traced else {"allowzero": 1}
            return self.node("Reshape", [x, self.ints(self.batch, *rest)], **extra)
        if self.traced:
            size = self.node("Gather", [self.node("Shape", [x]), self.constant(0, np.int64)], axis=0)
            first = self.node("Unsqueeze", [size, self.ints(0)])
            shape = self.node("Concat", [first, *(self.ints(n) for n in rest)], axis=0)
            return self.node("Reshape", [x, shape])
        first = self.node("Shape", [x], start=0, end=1)
        return self.node("Reshape", [x, self.node("Concat", [first, self.ints(*rest)], axis=0)], allowzero=1)

    def linear(self, x: str, inside: int, outside: int) -> str:
        weight, bias = self.weight(outside, inside), self.weight(outside, scale=0.1)
        return self.node("Gemm", [x, weight, bias], transB=1, alpha=1.0, beta=1.0)

    def projection(self, x: str, inside: int, outside: int) -> str:
        """A linear map of tokens: a product with the weights, then the bias."""
        product = self.node("MatMul", [x, self.weight(inside, outside, scale=inside**-0.5)])
        return self.node("Add", [product, self.weight(outside, scale=0.1)])

    def sigmoid_product(self, x: str) -> str:
        """SiLU as exporters write it."""
        return self.node("Mul", [x, self.node("Sigmoid", [x])])
