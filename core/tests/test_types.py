"""Element types, tensor types and known values."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenonrt.contracts import LINEAR, NCHW16C, NHWC, Format, Quant, Range, TensorInfo, TensorType, numpy_dtype, symbol
from tenonrt.types import EXTENDED_TYPES, NUMPY_TYPES, dtype_name, is_float


@pytest.mark.parametrize("name", sorted(NUMPY_TYPES | EXTENDED_TYPES))
def test_element_types_have_one_name_each(name: str) -> None:
    assert dtype_name(numpy_dtype(name)) == name
    assert is_float(name) == ("float" in name)


def test_an_unknown_element_type_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'float31'; known are bfloat16, bool, .*uint8"):
        numpy_dtype("float31")


def test_strings_are_objects() -> None:
    assert numpy_dtype("string") == np.dtype(object)
    assert dtype_name(np.array(["a"]).dtype) == "string"


@given(st.integers(0, 9), st.integers(0, 40))
def test_sizes_of_a_symbolic_type_agree_with_those_of_its_value(n: int, c: int) -> None:
    type = TensorType((symbol("n"), symbol("c"), 3, 5), "float16", NCHW16C)
    exact = type.substitute({"n": n, "c": c})
    assert exact.static
    assert not type.static
    assert exact.concrete({}) == type.concrete({"n": n, "c": c}) == (n, c, 3, 5)
    assert exact.nbytes == n * -(-c // 16) * 16 * 15 * 2
    assert exact.size == n * c * 15
    assert type.symbol_names() == {"n", "c"}


def test_a_missing_symbol_is_named() -> None:
    with pytest.raises(KeyError, match="'n'"):
        TensorType((symbol("n"), 2)).concrete({"m": 1})


@pytest.mark.parametrize(
    ("type", "text"),
    [
        (TensorType(()), "float32[scalar]"),
        (TensorType((symbol("n"), 3), "int8"), "int8[nx3]"),
        (TensorType((1, 2, 3, 4), format=NHWC), "float32[1x2x3x4] NHWC"),
        (TensorType((1, 2), format=NCHW16C), "float32[1x2] linear16c"),
        (TensorType((1, 2), format=Format(dtype="int8", quant=Quant())), "float32[1x2] linear:int8q"),
    ],
)
def test_text(type: TensorType, text: str) -> None:
    assert str(type) == text


def test_types_survive_msgpack() -> None:
    type = TensorType(
        (symbol("n", 1, 8) * 2 + 1, 3), "bfloat16", Format((1, 0), ((0, 4),), "int8", Quant(0, 2, "int8"))
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(type), type=TensorType) == type


def test_known_integers() -> None:
    type = TensorType((2,), "int64")
    assert TensorInfo(type, value=np.array([1, np.int64(2)], object)).integers() == [1, 2]
    with pytest.raises(ValueError, match="must be known when the network is built"):
        TensorInfo(type).integers()
    with pytest.raises(ValueError, match=r"must hold integers, not \['1', 'n'\]"):
        TensorInfo(type, value=np.array([1, symbol("n")], object)).integers()


def test_the_scale_of_a_range_covers_both_ends() -> None:
    assert Range(-12.7, 1.0).scale == pytest.approx(0.1)
    assert Range(-1.0, 25.4).scale == pytest.approx(0.2)
    assert TensorType((1,)).format == LINEAR
