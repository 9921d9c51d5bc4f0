"""Shape arithmetic through the layers that exporters write for ``x.view(x.shape[0], -1)`` and its relatives."""

from __future__ import annotations

import numpy as np
import pytest
from tenonrt.contracts import Attributes, TensorInfo, TensorType, dtype_name, symbol
from tenonrt_layer_shuffle.expand import ExpandLayer
from tenonrt_layer_shuffle.reshape import ReshapeAttributes, ReshapeLayer
from tenonrt_layer_shuffle.squeeze import SqueezeAttributes, SqueezeLayer
from tenonrt_layer_shuffle.unsqueeze import UnsqueezeAttributes, UnsqueezeLayer

N, H = symbol("N"), symbol("H")


def known(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return TensorInfo(TensorType((len(values),), "int64"), "device", array)


def step(layer, attrs, *inputs):
    """Infer a layer, and its value by its reference, as the core does when every input's value is known."""
    assert layer.shape_arithmetic
    (info,) = layer.infer(attrs, inputs)
    (value,) = layer.reference(attrs, [None if i is None else i.value for i in inputs], None)
    assert dtype_name(value.dtype) == "string"  # an object array
    assert value.shape == info.shape
    return info.with_value(value)


def test_batch_kept_and_rest_flattened():
    shapes = pytest.importorskip("tenonrt_layer_shape.shape")
    slices = pytest.importorskip("tenonrt_layer_slice.slice")
    joins = pytest.importorskip("tenonrt_layer_concatenation.concatenation")
    arithmetic = pytest.importorskip("tenonrt_layer_elementwise.elementwise")
    x = TensorInfo(TensorType((N, 8, H, 6)))
    (shape,) = shapes.ShapeLayer().infer(shapes.ShapeAttributes(), [x])
    pick = slices.SliceLayer()
    batch = step(pick, Attributes(), shape, known(0), known(1), known(0), None)
    height = step(pick, Attributes(), shape, known(2), known(3), known(0), None)
    scalar = step(SqueezeLayer(), SqueezeAttributes((0,)), batch)
    again = step(UnsqueezeLayer(), UnsqueezeAttributes((0,)), scalar)
    double = step(arithmetic.ElementwiseLayer(), arithmetic.ElementwiseAttributes("prod"), height, known(2))
    target = step(joins.ConcatenationLayer(), joins.ConcatenationAttributes(0), again, known(-1), double)
    assert list(target.value) == [N, -1, 2 * H]
    assert target.place == "host"
    (result,) = ReshapeLayer().infer(ReshapeAttributes(), [x, target])
    assert result.shape == (N, 24, 2 * H)
    first = step(pick, Attributes(), shape, known(0), known(2), None, None)
    (wide,) = ExpandLayer().infer(Attributes(), [TensorInfo(TensorType((1, 1))), first])
    assert wide.shape == (N, 8)
