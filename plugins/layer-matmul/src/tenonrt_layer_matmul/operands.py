"""Checks on the operands of matrix products."""

from __future__ import annotations

from tenonrt.contracts import FLOATS, INTEGERS, TensorInfo


def check_types(**operands: TensorInfo | None) -> None:
    """`ValueError` unless all operands have the first one's element type, and it is a number."""
    given = {name: info for name, info in operands.items() if info is not None}
    first, expected = next((name, info.dtype) for name, info in given.items())
    for name, info in given.items():
        if info.dtype not in FLOATS + INTEGERS:
            raise ValueError(f"{name} is {info.type}, expected one of {', '.join(FLOATS + INTEGERS)}")
        if info.dtype != expected:
            raise ValueError(f"{name} is {info.type}, expected the element type of {first}, {expected}")
