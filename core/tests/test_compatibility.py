"""Simple requirements are judged without `packaging`, and as it judges them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from tenonrt.plugins.discovery import _surely_met

release = st.lists(st.integers(0, 3), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
bounds = st.lists(st.tuples(st.sampled_from([">=", "<"]), release), max_size=3)


@given(bounds, release)
def test_bounds_mean_what_they_mean_to_packaging(bounds: list[tuple[str, str]], installed: str) -> None:
    line = "tenonrt-core" + ",".join(sign + limit for sign, limit in bounds)
    assert _surely_met(line, installed) == Requirement(line).specifier.contains(installed, True)


@pytest.mark.parametrize(
    "line",
    [
        "numpy>1",
        "x ; extra == 'y'",
        "x[y]",
        "tenonrt-core @ file:///x",
        "tenonrt-core~=0.1",
        "Tenonrt_Core>=9",
        "tenonrt-core>=0.1<0.2",
        "?",
        "",
    ],
)
def test_anything_else_is_left_to_packaging(line: str) -> None:
    assert not _surely_met(line, "0.1.0")


@pytest.mark.parametrize("line", ["numpy", "numpy>=1.26", "Tenonrt.Core>=0.1", "tenonrt-core >=0.1, <0.2"])
def test_what_is_met(line: str) -> None:
    assert _surely_met(line, "0.1.0")
    assert not _surely_met("tenonrt-core>=0.1", "0.1.0.dev3")
