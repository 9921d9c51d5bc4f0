from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tenonrt.contracts import Case, Run, TensorInfo, TensorType, symbol
from tenonrt_layer_scale.scale import ScaleAttributes, ScaleLayer

LAYER = ScaleLayer()
CASES = [pytest.param(c, id=c.name) for c in LAYER.cases()]


def info(*shape: Any, dtype: str = "float32") -> TensorInfo:
    return TensorInfo(TensorType(shape, dtype))


def values(case: Case) -> list[Any]:
    drawn = LAYER.sample(case.attrs, case.inputs, np.random.default_rng(0))
    assert [a is None for a in drawn] == [t is None for t in case.inputs]
    return list(drawn)


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_onnxruntime(case: Case, oracle: Any, no_graphs: Run) -> None:
    """The oracle is a Mul, an Add and a Pow, with the parameters in the shape that they broadcast from."""
    x, *parameters = values(case)
    if case.attrs.mode == "channel":
        axes = [1] * x.ndim
        axes[case.attrs.axis] = -1
        parameters = [p if p is None else p.reshape(axes) for p in parameters]
    shift, scale, power = parameters
    expected = x
    for operator, parameter in (("Mul", scale), ("Add", shift), ("Pow", power)):
        if parameter is not None:
            (expected,) = oracle(operator, [expected, parameter])
    (found,) = LAYER.reference(case.attrs, values(case), no_graphs)
    assert found.dtype == np.float32
    assert found.shape == x.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(npst.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4), st.data())
def test_random_channels(shape: tuple[int, ...], data: Any) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x, shift, scale = (np.random.default_rng(i).standard_normal(s) for i, s in enumerate([shape, *[shape[axis]] * 2]))
    attrs = ScaleAttributes("channel", axis)
    (found,) = LAYER.reference(attrs, [x, shift, scale, None], None)  # type: ignore[arg-type]
    expected = np.moveaxis(np.moveaxis(x, axis, -1) * scale + shift, -1, axis)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    parameter = info(shape[axis], dtype="float64")
    assert LAYER.infer(attrs, [info(*shape, dtype="float64"), parameter, parameter])[0].shape == found.shape
    symbolic = info(*(symbol(f"s{i}") for i in range(len(shape))), dtype="float64")
    (inferred,) = LAYER.infer(attrs, [symbolic, parameter, parameter])
    assert inferred.type.concrete({f"s{i}": d for i, d in enumerate(shape)}) == found.shape


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_floats_are_rounded_once(dtype: str, no_graphs: Run) -> None:
    narrow = TensorType((), dtype).numpy
    # 300 * 300 overflows float16, and its root does not.
    arrays = [np.array(v, narrow) for v in ([300.0, 3.0], 0.0, 300.0, 0.5)]
    (found,) = LAYER.reference(ScaleAttributes(), arrays, no_graphs)
    assert found.dtype.name == dtype
    np.testing.assert_allclose(found.astype(np.float64), [300.0, 30.0], rtol=2.0**-7)


def test_inputs_are_left_alone(no_graphs: Run) -> None:
    x = np.ones((2, 3))
    x.flags.writeable = False
    for parameters in ([np.ones(3)] * 3, [None] * 3):
        (found,) = LAYER.reference(ScaleAttributes("channel"), [x, *parameters], no_graphs)
        assert not np.shares_memory(found, x)


def test_a_negative_base_has_whole_powers_only(no_graphs: Run) -> None:
    x, power = np.array([[-2.0, -2.0, 0.0]]), np.array([3.0, 0.5, -1.0])
    (found,) = LAYER.reference(ScaleAttributes("channel"), [x, None, None, power], no_graphs)
    np.testing.assert_array_equal(found, [[-8.0, np.nan, np.inf]])


def test_a_scalar_stays_an_array(no_graphs: Run) -> None:
    (found,) = LAYER.reference(ScaleAttributes(), [np.array(2.0), np.array(1.0), None, np.array(2.0)], no_graphs)
    assert isinstance(found, np.ndarray)
    assert found.shape == ()
    assert found == 9.0


@pytest.mark.parametrize(
    ("attrs", "inputs", "message"),
    [
        ({}, [info(2, 3), info(3)], r"shift is float32\[3\], expected one element"),
        ({}, [info(2, 3), info(1, 1)], "expected a scalar or one axis"),
        ({"mode": "channel"}, [info(2, 3), None, info(2)], r"scale is float32\[2\], expected \[3\]: axis 1"),
        ({"mode": "channel"}, [info(2, 3), None, None, info(1, 3)], "power is"),
        ({"mode": "channel", "axis": 2}, [info(2, 3), info(3)], "axis is 2, expected one of the 2 axes"),
        ({"mode": "elementwise"}, [info(2, 3), info(5, 2, 3)], "broadcasts to input"),
        ({"mode": "elementwise"}, [info(1, 3), info(2, 3)], "broadcasts to input"),
        ({"mode": "all"}, [info(2, 3)], "mode is 'all'"),
        ({}, [info(2, 3), info(dtype="float16")], "expected the input's element type float32"),
        ({}, [info(2, 3, dtype="int32")], "input is int32"),
        ({"mode": "channel"}, [info(2, symbol("c", 4, 8)), info(3)], r"expected \[c\]"),
    ],
)
def test_refusals_say_what_was_found(attrs: Any, inputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LAYER.infer(ScaleAttributes(**attrs), inputs)
