"""Squares of elements in registers, turned so that rows become columns."""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt_kernel_llvm.emitter import Function, Value


def transpose(fn: Function, rows: Sequence[Value]) -> list[Value]:
    """The columns of a square of vectors: halves of growing size change places, log2 times."""
    found, size = list(rows), len(rows)
    distance = 1
    while distance < size:
        lanes = range(size)
        low = [lane if not lane & distance else size + lane - distance for lane in lanes]
        high = [lane + distance if not lane & distance else size + lane for lane in lanes]
        for i in range(size):
            if not i & distance:
                a, b = found[i], found[i + distance]
                found[i], found[i + distance] = fn.shuffle(a, b, low), fn.shuffle(a, b, high)
        distance *= 2
    return found
