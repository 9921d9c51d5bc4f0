"""An ONNX graph of images as a function of JAX in half precision, channels innermost, for times of XLA's kernels.

Covers ResNet-50 and MobileNetV2, whose batch normalizations are folded.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from graph_constants import folded
from onnx import helper

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else it takes three quarters of a GPU's memory


class JaxNetwork:
    """``network(images)``: images of [N, C, H, W] as the graph has them; compiled when first called."""

    def __init__(self, model: onnx.ModelProto) -> None:
        import jax

        tensors, self._nodes = folded(model)
        self._known = tensors
        self._weights = {
            name: jax.numpy.asarray(_innermost(values).astype(np.float16))
            for name, values in tensors.items()
            if values.dtype.kind == "f" and values.size > 1
        }
        (self._input,) = (i.name for i in model.graph.input if i.name not in tensors)
        (self._output,) = (o.name for o in model.graph.output)
        self._compiled = jax.jit(self._computed)

    def placed(self, images: np.ndarray[Any, Any]) -> Any:
        """Images on the device, channels innermost."""
        import jax

        return jax.numpy.asarray(images.transpose(0, 2, 3, 1).astype(np.float16))

    def __call__(self, placed: Any) -> Any:
        """Begins; the result is there when its ``block_until_ready`` returns."""
        return self._compiled(self._weights, placed)

    def _computed(self, weights: dict[str, Any], images: Any) -> Any:
        values = {self._input: images}
        for node in self._nodes:
            attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            given = [
                values[name] if name in values else weights.get(name, self._known.get(name)) for name in node.input
            ]
            if node.op_type not in _OPERATORS:
                raise ValueError(f"no function of JAX is known for {node.op_type}, in node {node.name!r}")
            values[node.output[0]] = _OPERATORS[node.op_type](attrs, *given)
        return values[self._output]


def _innermost(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Filters of [out, in, h, w] as [h, w, in, out]; other constants as they are."""
    return values.transpose(2, 3, 1, 0) if values.ndim == 4 else values


def _pads(attrs: Any) -> list[tuple[int, int]]:
    top, left, bottom, right = attrs.get("pads", (0, 0, 0, 0))
    return [(top, bottom), (left, right)]


def _convolution(attrs: Any, x: Any, w: Any, b: Any = None) -> Any:
    from jax import lax

    y = lax.conv_general_dilated(
        x, w, attrs.get("strides", (1, 1)), _pads(attrs), rhs_dilation=attrs.get("dilations"),
        feature_group_count=attrs.get("group", 1), dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    return y if b is None else y + b


def _maxima(attrs: Any, x: Any) -> Any:
    from jax import lax

    window, strides = (1, *attrs["kernel_shape"], 1), (1, *attrs["strides"], 1)
    return lax.reduce_window(x, -np.inf, lax.max, window, strides, [(0, 0), *_pads(attrs), (0, 0)])


def _mean(attrs: Any, x: Any, axes: Any) -> Any:
    if {int(a) % 4 for a in axes} != {2, 3}:
        raise ValueError(f"a mean along axes {axes}")
    return x.mean((1, 2), keepdims=bool(attrs.get("keepdims", 1)))


def _product(attrs: Any, x: Any, w: Any, b: Any) -> Any:
    return x @ (w.T if attrs.get("transB") else w) + b


def _bounded(attrs: Any, x: Any, least: Any, most: Any) -> Any:
    import jax

    return jax.numpy.clip(x, np.float16(least), np.float16(most))


def _relu(attrs: Any, x: Any) -> Any:
    import jax

    return jax.numpy.maximum(x, np.float16(0))


_OPERATORS: dict[str, Callable[..., Any]] = {
    "Conv": _convolution, "Relu": _relu, "Clip": _bounded, "Add": lambda attrs, a, b: a + b, "MaxPool": _maxima,
    "ReduceMean": _mean, "Reshape": lambda attrs, x, shape: x.reshape([int(n) for n in shape]), "Gemm": _product,
}  # fmt: skip
