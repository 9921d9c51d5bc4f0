"""Tensors that are said never to be negative are not, on inputs of either sign."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt.calibration.insertion import quantize_network
from tenonrt.calibration.signs import nonnegative_tensors
from tenonrt.types import Range

RNG = np.random.default_rng(0)
Made = tuple[tenonrt.Network, Any]


def network(rectified: bool) -> Made:
    made = tenonrt.Network("signs")
    x = made.add_input("x", (2, 4, 6, 6))
    return made, made.add_activation(x, function="relu") if rectified else x


PRESERVING = [
    ("Pooling", {"function": "average", "window": (2, 2)}, []),
    ("Pooling", {"function": "max", "window": (2, 2), "pre_padding": (1, 1)}, []),
    ("Reduce", {"operation": "mean", "axes": (2, 3)}, []),
    ("Elementwise", {"operation": "sum"}, [np.full((1, 4, 1, 1), 0.5, np.float32)]),
    ("Elementwise", {"operation": "prod"}, [np.zeros((1, 4, 1, 1), np.float32)]),
    ("Concatenation", {"axis": 1}, [np.ones((2, 1, 6, 6), np.float32)]),
    ("Transpose", {"permutation": (0, 2, 3, 1)}, []),
    ("Flatten", {"axis": 1}, []),
]


def claimed(made: tenonrt.Network, last: Any) -> bool:
    """Whether the last tensor is said not to be negative; what is said holds."""
    made.mark_output(last, "y")
    found = last in nonnegative_tensors(made.graph)
    inputs = RNG.standard_normal((2, 4, 6, 6)).astype(np.float32) * 3
    y = tenonrt.compile(made, optimization_level=0).create_context().execute({"x": inputs})["y"]
    assert not found or (y >= 0).all()
    return found


@pytest.mark.parametrize("rectified", [True, False])
@pytest.mark.parametrize(("kind", "attrs", "others"), PRESERVING)
def test_layers_that_keep_signs(kind: str, attrs: dict[str, Any], others: list[Any], rectified: bool) -> None:
    made, x = network(rectified)
    assert claimed(made, made.add(kind, [x, *others], attrs)[0]) is rectified


@pytest.mark.parametrize(
    ("kind", "attrs", "expected"),
    [
        ("Activation", {"function": "relu"}, True),
        ("Activation", {"function": "clip", "alpha": 0.0, "beta": 6.0}, True),
        ("Activation", {"function": "clip", "alpha": -1.0, "beta": 6.0}, False),
        ("Activation", {"function": "clip"}, False),
        ("Activation", {"function": "sigmoid"}, True),
        ("Activation", {"function": "hard_sigmoid"}, True),
        ("Activation", {"function": "tanh"}, False),
        ("Activation", {"function": "leaky_relu"}, False),
        ("Activation", {"function": "swish"}, False),
        ("Softmax", {"axis": 1}, True),
        ("Softmax", {"axis": 1, "log": True}, False),
    ],
)
def test_layers_that_make_no_negative_values(kind: str, attrs: dict[str, Any], expected: bool) -> None:
    made, x = network(False)
    assert claimed(made, made.add(kind, [x], attrs)[0]) is expected


def test_layers_that_make_negative_values_of_others() -> None:
    for kind, attrs, others in (
        ("Elementwise", {"operation": "sub"}, [np.ones((1, 4, 1, 1), np.float32)]),
        ("Elementwise", {"operation": "sum"}, [np.full((1, 4, 1, 1), -0.5, np.float32)]),
        ("Reduce", {"operation": "log_sum", "axes": (2, 3)}, []),
    ):
        made, x = network(True)
        assert not claimed(made, made.add(kind, [x, *others], attrs)[0])


def test_what_is_never_negative_has_all_levels_of_uint8() -> None:
    made, x = network(True)
    weights = RNG.standard_normal((8, 4, 1, 1)).astype(np.float32)
    y = made.add_convolution(x, weights, name="first")
    made.mark_output(made.add_convolution(y, RNG.standard_normal((2, 8, 1, 1)).astype(np.float32), name="second"), "z")
    assert quantize_network(made, {x.name: Range(-5.1, 5.1), y.name: Range(-2.54, 2.54)}) == ["first", "second"]
    grids = {layer.inputs[0].name: layer for layer in made.layers if layer.kind == "Quantize"}
    assert grids[x.name].attrs.dtype == "uint8"
    assert grids[x.name].inputs[1].constant == pytest.approx(5.1 / 255)
    assert grids[y.name].attrs.dtype == "int8"
    assert grids[y.name].inputs[1].constant == pytest.approx(2.54 / 127)


def test_devices_that_multiply_no_uint8_have_int8() -> None:
    made, x = network(True)
    weights = RNG.standard_normal((8, 4, 1, 1)).astype(np.float32)
    made.mark_output(made.add_convolution(x, weights, name="first"), "z")
    quantize_network(made, {x.name: Range(-5.1, 5.1)}, unsigned=False)
    (grid,) = [layer for layer in made.layers if layer.kind == "Quantize"]
    assert grid.attrs.dtype == "int8"
    assert grid.inputs[1].constant == pytest.approx(5.1 / 127)
