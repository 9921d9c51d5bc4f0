"""Which programs a loaded plan may hold: types that can be, and views of what is there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from tenonrt.contracts import Format, TensorType, symbol
from tenonrt.errors import PlanCorruptError
from tenonrt.plan.consistency import check_program
from tenonrt.plan.program import Program, ProgramTensor

ALL = (0, sys.maxsize, 1)
N = symbol("n", 1, 8)


def view(whole: TensorType, shown: TensorType, part: Any) -> None:
    tensors = (ProgramTensor("whole", whole), ProgramTensor("part", shown, base=0, part=part))
    check_program(Path("a.plan"), Program((0,), (("y", 1),), tensors, ()), [], [])


@pytest.mark.parametrize(
    ("whole", "shown", "part"),
    [
        ((N, 5), (N, 3), (ALL, (2, 5, 1))),
        ((symbol("m"), 5), (symbol("m"), 5), (ALL, (0, 5, 1))),
        ((4, 5), (4, 2), ((0, 4, 1), (3, 5, 1))),
        ((4, 5), (4, 3), ((0, 4, 1), (0, 5, 2))),
        ((4, 5), (0, 5), ((4, 4, 1), (0, 5, 1))),
    ],
)
def test_parts_that_are_there(whole: Any, shown: Any, part: Any) -> None:
    view(TensorType(whole), TensorType(shown), part)


@pytest.mark.parametrize(
    ("whole", "shown", "part"),
    [
        ((4, 5), (4, 3), ((0, 4, 1), (3, 6, 1))),
        ((4, 5), (4, 2), ((0, 4, 1), (-2, 5, 1))),
        ((4, 5), (4, 5), ((0, 4, 1), (0, 5, -1))),
        ((4, 5), (4, 5), ((0, 4, 1), (0, 5, 0))),
        ((4, 5), (4,), ((0, 4, 1),)),
        ((4, 5), (4, 5), ((0, 4, 1),)),
    ],
)
def test_parts_that_are_not(whole: Any, shown: Any, part: Any) -> None:
    with pytest.raises(PlanCorruptError, match=r"a\.plan: section 'program' .* tensor 1 .* is the part"):
        view(TensorType(whole), TensorType(shown), part)


@pytest.mark.parametrize(
    "type",
    [
        TensorType((2, 3), "float31"), TensorType((2, 3), format=Format((0, 0))), TensorType((2, -3)),
        TensorType((2, 3), format=Format((0, 1, 2))), TensorType((2, 3), format=Format(blocks=((1, 0),))),
        TensorType((2, 3), format=Format(blocks=((2, 4),))), TensorType((2, 3), format=Format(dtype="int9")),
    ],
)  # fmt: skip
def test_types_that_cannot_be(type: TensorType) -> None:
    with pytest.raises(PlanCorruptError, match="tensor 0"):
        check_program(Path("a.plan"), Program((0,), (), (ProgramTensor("x", type),), ()), [], [])
