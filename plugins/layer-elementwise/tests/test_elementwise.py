from __future__ import annotations

import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes
from tenonrt.contracts import TensorInfo, TensorType, maximum, symbol
from tenonrt_layer_elementwise.elementwise import ElementwiseAttributes, ElementwiseLayer
from tenonrt_layer_elementwise.operations import OPERATIONS

LAYER = ElementwiseLayer()
N, M = symbol("N"), symbol("M")


def compute(operation, a, b):
    return LAYER.reference(ElementwiseAttributes(operation), [a, b], None)[0]


def infer(operation, a, b):
    return LAYER.infer(ElementwiseAttributes(operation), [TensorInfo(a), TensorInfo(b)])[0]


def objects(*values):
    result = np.empty(len(values), object)
    result[:] = values
    return result


# operation: ONNX operator, element types, attributes
ONNX = {
    "sum": ("Add", "float32 float64 int32 int64 int8 uint8", {}),
    "prod": ("Mul", "float32 float64 int32 int64", {}),
    "sub": ("Sub", "float32 float64 int32 int64", {}),
    "div": ("Div", "float32 float64 int32 int64 int8 uint8", {}),
    "max": ("Max", "float32 float64 float16 int32 int64", {}),
    "min": ("Min", "float32 float64 float16 int32 int64", {}),
    "mod": ("Mod", "int8 int32 int64 uint8", {}),
    "fmod": ("Mod", "float32 float64 int32 int64", {"fmod": 1}),
    "equal": ("Equal", "float32 int32 int64 bool", {}),
    "greater": ("Greater", "float32 int32 int64", {}),
    "greater_equal": ("GreaterOrEqual", "float32 int32 int64", {}),
    "less": ("Less", "float32 int32 int64", {}),
    "less_equal": ("LessOrEqual", "float32 int32 int64", {}),
    "and": ("And", "bool", {}),
    "or": ("Or", "bool", {}),
    "xor": ("Xor", "bool", {}),
    "bitwise_and": ("BitwiseAnd", "int8 int32 uint16 int64", {}),
    "bitwise_or": ("BitwiseOr", "int8 int32 uint16 int64", {}),
    "bitwise_xor": ("BitwiseXor", "int8 int32 uint16 int64", {}),
    "shift_left": ("BitShift", "uint8 uint32 uint64", {"direction": "LEFT"}),
    "shift_right": ("BitShift", "uint8 uint32 uint64", {"direction": "RIGHT"}),
}
EXAMPLES = [(name, dtype) for name, (_, dtypes, _) in ONNX.items() for dtype in dtypes.split()]


@pytest.mark.parametrize(("name", "dtype"), EXAMPLES)
def test_equals_onnxruntime(oracle, rng, name, dtype):
    onnx_operator, _, attributes = ONNX[name]
    a = rng.integers(0 if dtype[0] in "ub" else -9, 2 if dtype == "bool" else 9, (4, 1, 7))
    b = rng.integers(1, 2 if dtype == "bool" else 7, (5, 1))
    if name == "equal" or dtype == "bool":
        b = b - 1
    elif dtype[0] in "if":
        b = b * rng.choice([-1, 1], b.shape)
    if dtype.startswith("float"):
        a, b = a * 0.75, b * 0.5
    a, b = a.astype(dtype), b.astype(dtype)
    (expected,) = oracle(onnx_operator, [a, b], **attributes)
    result = compute(name, a, b)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("name", ["max", "min"])
def test_extremes_propagate_nan_as_onnxruntime_does(oracle, name):
    a = np.array([np.nan, 1, np.inf, -np.inf, np.nan], np.float32)
    b = np.array([0, np.nan, 1, 1, np.nan], np.float32)
    np.testing.assert_array_equal(compute(name, a, b), oracle(name.capitalize(), [a, b])[0])


@pytest.mark.parametrize("base", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize("exponent", ["float32", "float64", "int32", "int64"])
def test_power_equals_onnxruntime(oracle, base, exponent):
    a = np.array([[1], [2], [3], [7]], base)
    b = np.array([0, 1, 2, 3], exponent)
    (expected,) = oracle("Pow", [a, b])
    result = compute("pow", a, b)
    assert result.dtype == expected.dtype
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_integer_to_a_negative_power_truncates():
    np.testing.assert_array_equal(compute("pow", np.array([1, 2, -1]), np.array([-1, -2, -3])), [1, 0, -1])


def test_floor_division_and_modulo_take_the_divisors_sign():
    a, b = np.array([7, -7, 7, -7]), np.array([2, 2, -2, -2])
    np.testing.assert_array_equal(compute("floor_div", a, b), [3, -4, -4, 3])
    np.testing.assert_array_equal(compute("mod", a, b), [1, 1, -1, -1])
    np.testing.assert_array_equal(compute("mod", a * 1.0, b * 1.0), [1, 1, -1, -1])


def test_shifting_by_the_width_leaves_nothing():
    x = np.array([255, 255], np.uint8)
    np.testing.assert_array_equal(compute("shift_left", x, np.array([8, 200], np.uint8)), [0, 0])


def test_strings_compare_equal():
    result = compute("equal", objects("a", "b"), objects("a", "c"))
    assert result.dtype == bool
    np.testing.assert_array_equal(result, [True, False])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int4", "uint4"])
def test_extended_types_keep_their_type(agrees, dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    numpy = np.dtype(getattr(ml_dtypes, dtype, dtype))
    a, b = np.array([1, 2, 7]).astype(numpy), np.array([3, 1, 7]).astype(numpy)
    (result,) = agrees(LAYER, ElementwiseAttributes("sum"), [a, b])
    wrapped = {"int4": [4, 3, -2], "uint4": [4, 3, 14]}.get(dtype, [4, 3, 14])
    np.testing.assert_array_equal(result.astype(np.float64), wrapped)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(OPERATIONS)),
    mutually_broadcastable_shapes(num_shapes=2, min_dims=0, max_dims=4, min_side=0, max_side=4),
)
def test_infer_agrees_with_reference(agrees, name, shapes):
    dtype = {"float": "float32", "integer": "int32", "bool": "bool"}[
        next(k for k in ("float", "integer", "bool") if k in OPERATIONS[name].kinds)
    ]
    agrees(LAYER, ElementwiseAttributes(name), [np.ones(shape, dtype) for shape in shapes.input_shapes])


def test_cases(check_cases):
    check_cases(LAYER)


def test_symbolic_broadcasting():
    def shape(a, b):
        return infer("sum", TensorType(a), TensorType(b)).shape

    assert shape((N, 1), (1, M)) == (N, M)
    assert shape((N, 4), (N, 1)) == (N, 4)
    assert shape((N,), (8,)) == (8,)
    assert shape((8,), (2, N)) == (2, 8)
    positive = symbol("P", 1), symbol("Q", 1)
    assert shape(positive[:1], positive[1:]) == (maximum(*positive),)
    (either,) = shape((N,), (M,))
    for n, m in ((5, 5), (1, 7), (7, 1), (0, 1), (1, 0), (0, 0)):
        assert TensorType((either,)).concrete({"N": n, "M": m}) == np.broadcast_shapes((n,), (m,))
    assert shape((), (N, 3)) == (N, 3)


def test_refusals_name_what_was_found():
    x = TensorType((2, 3))
    with pytest.raises(ValueError, match=r"shapes 2x3 and 4 do not broadcast: axis -1 has 3 and 4"):
        infer("sum", x, TensorType((4,)))
    with pytest.raises(ValueError, match="one element type, found float32 and int32"):
        infer("sum", x, TensorType((3,), "int32"))
    with pytest.raises(ValueError, match=r"bitwise_and takes integer tensors, found float32\[2x3\]"):
        infer("bitwise_and", x, x)
    with pytest.raises(ValueError, match=r"less takes float or integer tensors, found bool\[2\]"):
        infer("less", TensorType((2,), "bool"), TensorType((2,), "bool"))
    with pytest.raises(ValueError, match="unknown elementwise operation 'add'"):
        infer("add", x, x)


def test_place_is_the_host_only_when_every_input_is_there_or_known():
    shape = TensorInfo(TensorType((1,), "int64"), "host", objects(N))
    known = TensorInfo(TensorType((1,), "int64"), "device", objects(2))
    data = TensorInfo(TensorType((1,), "int64"))
    places = [LAYER.infer(ElementwiseAttributes("prod"), pair)[0].place for pair in ([shape, known], [shape, data])]
    assert places == ["host", "device"]
    assert LAYER.infer(ElementwiseAttributes("prod"), [known, data])[0].place == "device"


# --- shape arithmetic


def test_shape_arithmetic_is_symbolic():
    two = objects(2)
    assert list(compute("sum", objects(N, 3), two)) == [N + 2, 5]
    assert list(compute("prod", objects(N, M), objects(M, 4))) == [N * M, 4 * M]
    assert list(compute("sub", objects(2 * N), objects(N))) == [N]
    assert list(compute("div", objects(4 * N, 7, -7), two)) == [2 * N, 3, -3]
    assert list(compute("floor_div", objects(4 * N, -7), two)) == [2 * N, -4]
    assert list(compute("mod", objects(4 * N, -7), two)) == [0, 1]
    assert list(compute("pow", objects(N, 3), two)) == [N * N, 9]
    assert list(compute("max", objects(N, N), objects(0, M))) == [N, maximum(N, M)]
    assert list(compute("min", objects(N + 3, 5), objects(2, 4))) == [2, 4]
    assert compute("sum", np.array(N, object), np.array(1, object)).shape == ()
    assert compute("sum", np.array(N, object), np.array(1, object)).item() == N + 1


@given(st.integers(-20, 20), st.integers(-20, 20).filter(bool), st.integers(0, 30))
def test_symbolic_division_has_the_values_of_the_concrete_one(offset, divisor, n):
    dividend = N + offset
    for name in ("div", "floor_div", "mod", "fmod"):
        symbolic = compute(name, objects(dividend), objects(divisor))[0]
        value = symbolic if isinstance(symbolic, int) else TensorType((symbolic,)).concrete({"N": n})[0]
        assert value == compute(name, np.array([n + offset]), np.array([divisor]))[0], name


@given(st.sampled_from(sorted(OPERATIONS)), st.integers(-9, 9), st.integers(-9, 9).filter(bool))
def test_known_integers_compute_as_arrays_do(name, a, b):
    if OPERATIONS[name].kinds == {"bool"}:
        a, b = a > 0, b > 0
    elif name.startswith("shift"):
        b = abs(b)
    elif name == "pow":
        b = abs(b) // 2
    known = compute(name, objects(a), objects(b))
    assert known.dtype == object
    assert known[0] == compute(name, np.array([a]), np.array([b]))[0]


def test_comparisons_answer_when_every_value_agrees():
    assert list(compute("equal", objects(N, N, 3, N + 1), objects(-1, N, 3, 0))) == [False, True, True, False]
    assert list(compute("less", objects(N, 2), objects(N + 1, 2))) == [True, False]
    with pytest.raises(ValueError, match="cannot tell whether"):
        compute("equal", objects(N), objects(3))


def test_what_no_dimension_expresses_is_refused():
    with pytest.raises(ValueError, match="sum mixes a symbolic dimension"):
        compute("sum", objects(N), objects(0.5))
    with pytest.raises(ValueError, match="bits of a symbolic dimension"):
        compute("bitwise_and", objects(N), objects(1))
    with pytest.raises(ValueError, match="is no dimension"):
        compute("pow", objects(2), objects(N))


def test_known_floats_divide_like_arrays():
    result = compute("div", objects(1.0, 1.0, -7.0), objects(4.0, 0.0, 2.0))
    assert list(result) == [0.25, float("inf"), operator.truediv(-7.0, 2.0)]
