from __future__ import annotations

import numpy as np
import pytest
from tenonrt.containers import boxed, contents, is_container, joined, ranked
from tenonrt.types import numpy_dtype


@pytest.mark.parametrize("name", ["sequence(float32)", "optional(sequence(int64:2))", "map(string,int64)"])
def test_containers_are_objects(name):
    assert is_container(name)
    assert numpy_dtype(name) == np.dtype(object)


def test_a_container_of_nothing_known_is_refused():
    with pytest.raises(ValueError, match="unknown element type 'float33'"):
        numpy_dtype("sequence(float33:2)")


def test_parts_of_names():
    assert contents("map(string,sequence(float32:1))") == ("map", ("string", "sequence(float32:1)"))
    assert (ranked("float32:2"), ranked("int64")) == (("float32", 2), ("int64", None))
    with pytest.raises(ValueError, match="float32 is no sequence"):
        contents("float32")


@pytest.mark.parametrize(
    ("left", "right", "both"),
    [
        ("sequence(float32:2)", "sequence(float32)", "sequence(float32)"),
        ("sequence(float32:2)", "sequence(float32:2)", "sequence(float32:2)"),
        ("sequence(float32)", "sequence(int64)", None),
        ("sequence(float32)", "optional(float32)", None),
        ("sequence(float32)", "float32", None),
    ],
)
def test_what_two_types_have_in_common(left, right, both):
    assert joined(left, right) == joined(right, left) == both


def test_a_box_holds_lists_as_they_are():
    values = [np.zeros(2), np.zeros(2)]
    assert boxed(values).item() is values
    assert boxed(boxed(values)).item() is values
