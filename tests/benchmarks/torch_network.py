"""An ONNX graph as a PyTorch module: the same weights and layers as ours, for times and errors of PyTorch's kernels.

Covers the operators of the networks that are measured. Sizes are fixed; constants of one element are Python numbers, as
in networks that are written by hand, and attention is what the graph says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from graph_constants import folded
from onnx import helper
from torch import nn
from torch.nn import functional

Operator = Callable[..., Any]


class TorchNetwork(nn.Module):
    """Inputs in the graph's order; the result is a tuple of its outputs."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        graph = model.graph
        self.constants: dict[str, Any] = {}
        tensors, nodes = folded(model)
        self.nodes = []
        for node in nodes:
            attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            operator, inputs = _OPERATORS.get(node.op_type), list(node.input)
            if node.op_type == "LSTM":
                operator, inputs = (
                    _Recurrent(attrs, [tensors.pop(name) for name in inputs[1:4]], len(node.output)),
                    [inputs[0], *inputs[5:]],
                )
                self.add_module(f"recurrent{len(self.nodes)}", operator)
            if operator is None:
                raise ValueError(f"no operator of PyTorch is known for {node.op_type}, in node {node.name!r}")
            self.nodes.append((operator, inputs, list(node.output), attrs))
        self.inputs = [i.name for i in graph.input if i.name not in tensors]
        self.outputs = [o.name for o in graph.output]
        for number, (name, values) in enumerate(tensors.items()):
            self._keep(f"constant{number}", name, values)

    def _keep(self, attribute: str, name: str, values: np.ndarray[Any, Any]) -> None:
        if values.dtype.kind == "f" and values.size > 1:
            self.register_buffer(attribute, torch.from_numpy(values.copy()))
            self.constants[name] = attribute
        elif values.dtype.kind == "f":
            self.constants[name] = float(values.reshape(()))
        else:
            self.register_buffer(attribute, torch.from_numpy(values.copy()))
            self.constants[name] = (attribute, values.reshape(-1).tolist())

    def forward(self, *given: Any) -> Any:
        values = dict(zip(self.inputs, given, strict=True))
        dtype = self.dtype
        for operator, inputs, outputs, attrs in self.nodes:
            made = operator(attrs, *(self._value(values, name) for name in inputs))
            several = made if isinstance(made, (tuple, list)) else (made,)
            # Of two Python numbers PyTorch makes single precision.
            several = [t.to(dtype) if t.is_floating_point() and t.dtype != dtype else t for t in several]
            values.update(zip(outputs, several, strict=True))
        return tuple(values[name] for name in self.outputs)

    @property
    def dtype(self) -> Any:
        """The element type of real tensors."""
        return next(b.dtype for b in self.buffers() if b.is_floating_point())

    def _value(self, values: dict[str, Any], name: str) -> Any:
        if name in values or not name:
            return values.get(name)
        constant = self.constants[name]
        if isinstance(constant, str):
            return getattr(self, constant)
        return Integers(getattr(self, constant[0]), constant[1]) if isinstance(constant, tuple) else constant


class _Recurrent(nn.Module):
    """An LSTM of ONNX as PyTorch's, whose weights are one piece of memory, as cuDNN wants them."""

    def __init__(self, attrs: Any, weights: list[np.ndarray[Any, Any]], results: int) -> None:
        super().__init__()
        self.results = results
        if attrs.get("direction", b"forward") != b"forward" or attrs.get("layout", 0):
            raise ValueError(f"an LSTM that is {attrs['direction']!r}, or whose batch comes first")
        self.module = nn.LSTM(weights[0].shape[2], attrs["hidden_size"]).eval()
        own = self.module
        targets = (own.weight_ih_l0, own.weight_hh_l0, own.bias_ih_l0, own.bias_hh_l0)
        for target, values in zip(targets, (*weights[:2], *np.split(weights[2], 2, 1)), strict=True):
            into, out, forget, cell = np.split(values[0], 4)
            target.data.copy_(torch.from_numpy(np.concatenate([into, forget, cell, out])))

    def forward(self, attrs: Any, x: Any, *states: Any) -> Any:
        every, last = self.module(x, states[:2] or None)
        return (every.unsqueeze(1), *last)[: self.results]


class Integers:
    """A constant of integers or truth values: on the GPU where it is computed with, known where it is a shape."""

    def __init__(self, tensor: Any, known: list[int]) -> None:
        self.tensor, self.known = tensor, known


def _tensor(value: Any) -> Any:
    return value.tensor if isinstance(value, Integers) else value


def _pads(attrs: Any, rank: int) -> list[int]:
    pads = attrs.get("pads", [0] * 2 * rank)
    if pads[:rank] != pads[rank:]:
        raise ValueError(f"uneven padding {pads}")
    return list(pads[:rank])


def _conv(attrs: Any, x: Any, w: Any, bias: Any = None) -> Any:
    rank = w.ndim - 2
    ones = [1] * rank
    return functional.conv2d(
        x, w, bias, attrs.get("strides", ones), _pads(attrs, rank), attrs.get("dilations", ones), attrs.get("group", 1)
    )


def _max_pool(attrs: Any, x: Any) -> Any:
    size = attrs["kernel_shape"]
    ceil = bool(attrs.get("ceil_mode", 0))
    return functional.max_pool2d(x, size, attrs["strides"], _pads(attrs, len(size)), attrs.get("dilations", 1), ceil)


def _average_pool(attrs: Any, x: Any) -> Any:
    size = attrs["kernel_shape"]
    pool = functional.avg_pool2d if len(size) == 2 else functional.avg_pool3d
    ceil, padded = bool(attrs.get("ceil_mode", 0)), bool(attrs.get("count_include_pad", 0))
    return pool(x, size, attrs["strides"], _pads(attrs, len(size)), ceil, padded)


def _pad(attrs: Any, x: Any, pads: Integers, value: Any = 0.0) -> Any:
    rank = len(pads.known) // 2
    sides = [side for axis in reversed(range(rank)) for side in (pads.known[axis], pads.known[rank + axis])]
    return functional.pad(x, sides, value=float(value or 0.0))


def _mean(attrs: Any, x: Any, axes: Any = None) -> Any:
    return x.mean(attrs["axes"] if axes is None else axes.known, bool(attrs.get("keepdims", 1)))


def _gemm(attrs: Any, x: Any, w: Any, bias: Any = None) -> Any:
    return functional.linear(x, w if attrs.get("transB") else w.T, bias)


def _split(attrs: Any, x: Any, sizes: Any = None) -> Any:
    axis = attrs.get("axis", 0)
    return x.chunk(attrs["num_outputs"], axis) if sizes is None else x.split(sizes.known, axis)


def _clip(attrs: Any, x: Any, low: Any = None, high: Any = None) -> Any:
    return x.clamp(low, high)


def _squeeze(attrs: Any, x: Any, axes: Integers) -> Any:
    return x.squeeze(axes.known[0])


def _resize(attrs: Any, x: Any, region: Any, scales: Any) -> Any:
    return functional.interpolate(x, scale_factor=2, mode="nearest")


def _gather(attrs: Any, x: Any, indices: Any) -> Any:
    return functional.embedding(_tensor(indices), x)


def _gather_nd(attrs: Any, x: Any, indices: Integers) -> Any:
    return x[tuple(_tensor(indices).unbind(-1))]


def _layer_norm(attrs: Any, x: Any, w: Any, bias: Any) -> Any:
    return functional.layer_norm(x, w.shape, w, bias, attrs["epsilon"])


def _gelu(attrs: Any, x: Any) -> Any:
    return functional.gelu(x, approximate=attrs.get("approximate", b"none").decode())


def _binary(operation: Callable[[Any, Any], Any]) -> Operator:
    return lambda attrs, a, b: operation(_tensor(a), _tensor(b))


_OPERATORS: dict[str, Operator] = {
    "Conv": _conv, "MaxPool": _max_pool, "AveragePool": _average_pool, "Pad": _pad, "ReduceMean": _mean, "Gemm": _gemm,
    "Split": _split, "Clip": _clip, "Squeeze": _squeeze, "Resize": _resize, "Gather": _gather, "GatherND": _gather_nd,
    "LayerNormalization": _layer_norm, "Gelu": _gelu,
    "Relu": lambda attrs, x: functional.relu(x),
    "Sigmoid": lambda attrs, x: torch.sigmoid(x),
    "Softmax": lambda attrs, x: functional.softmax(x, attrs.get("axis", -1)),
    "Transpose": lambda attrs, x: x.permute(attrs["perm"]),
    "Reshape": lambda attrs, x, shape: x.reshape(shape.known),
    "Concat": lambda attrs, *x: torch.cat([_tensor(a) for a in x], attrs["axis"]),
    "Cast": lambda attrs, x: x.to(torch.bool if attrs["to"] == onnx.TensorProto.BOOL else torch.int64),
    "IsNaN": lambda attrs, x: x.isnan(),
    "Where": lambda attrs, c, a, b: torch.where(_tensor(c), a, b),
    "MatMul": _binary(lambda a, b: a @ b), "Add": _binary(lambda a, b: a + b), "Sub": _binary(lambda a, b: a - b),
    "Mul": _binary(lambda a, b: a * b), "Div": _binary(lambda a, b: a / b), "Pow": _binary(lambda a, b: a**b),
    "And": _binary(lambda a, b: a & b),
}  # fmt: skip


def images_innermost(module: nn.Module, dtype: Any) -> nn.Module:
    """On the GPU in an element type, filters with channels innermost."""
    module = module.to("cuda", dtype)
    for name, buffer in module.named_buffers():
        if buffer.ndim == 4 and buffer.is_floating_point():
            setattr(module, name, buffer.contiguous(memory_format=torch.channels_last))
    return module
