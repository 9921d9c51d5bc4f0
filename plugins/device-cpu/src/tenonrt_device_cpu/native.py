"""A native call with every argument made beforehand.

The C signature is that of `tenonrt.contracts.NativeCall`. A device sees arrays, not tactics, so an executable whose
tactic declares strided operands says so here by an optional attribute::

    strided_operands: Sequence[int]   # positions in (outputs + inputs), in ascending order

For each of them, and only for them, the array's byte strides (one per physical axis) follow the symbols, contiguous or
not, so that the meaning of ``symbols[i]`` never depends on the buffers. Such an operand needs the alignment of its
element type only; every other operand must be contiguous and 64-byte aligned.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from tenonrt.contracts import Array, ExecutionError, Launch

ALIGNMENT = 64
UNDECLARED = "a slice of a larger buffer must be listed in the executable's `strided_operands`"

# Made once: creating a function type costs more than calling it. Calls through it release the interpreter's lock.
SIGNATURE = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
)


class BoundCall:
    """A function and, per range of its work, the arguments to call it with. Keeps alive all that they point to."""

    def __init__(self, launch: Launch, threads: int) -> None:
        call: Any = launch.executable
        self.name = launch.name
        self.function = SIGNATURE(call.address)
        strided = tuple(getattr(call, "strided_operands", ()))
        operands = [*launch.outputs, *launch.inputs]
        self._check(operands, list(call.packed), strided)
        strides = [stride for index in strided for stride in operands[index].strides]
        self._buffers = _pointers([*operands, *call.packed])
        self._symbols = (ctypes.c_int64 * (len(launch.symbols) + len(strides)))(*launch.symbols, *strides)
        spans = split(call.units(launch.symbols), threads)
        self._scratch = [_scratch(call.scratch) for _ in spans]
        self._kept = (launch, list(call.packed))
        self.ranges = [
            (ctypes.addressof(self._buffers), ctypes.addressof(self._symbols), _address(scratch), *span)
            for span, scratch in zip(spans, self._scratch, strict=True)
        ]

    def _check(self, operands: list[Array], packed: list[Array], strided: Sequence[int]) -> None:
        for index, array in enumerate([*operands, *packed]):
            alignment = array.dtype.alignment if index in strided else ALIGNMENT
            if array.size and array.ctypes.data % alignment:
                hint = "" if index in strided or index >= len(operands) else f"; {UNDECLARED}"
                self._refuse(index, f"starts at {array.ctypes.data:#x}, which is no multiple of {alignment}{hint}")
            if index not in strided and not array.flags.c_contiguous:
                self._refuse(index, f"is not contiguous; {UNDECLARED}")

    def _refuse(self, index: int, why: str) -> None:
        raise ExecutionError(f"step {self.name!r}: buffer {index} (outputs, inputs, packed weights) {why}")


def split(units: int, threads: int) -> list[tuple[int, int]]:
    """Contiguous ranges of 0..units: one per thread when there is a unit for each, otherwise one (none without work).

    They depend on the counts alone, so that results do not depend on timing.
    """
    parts = threads if units >= threads else min(units, 1)
    return [(units * i // parts, units * (i + 1) // parts) for i in range(parts)]


def _pointers(arrays: Sequence[Array]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))


def _scratch(nbytes: int) -> Array | None:
    if not nbytes:
        return None
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    return raw[-raw.ctypes.data % ALIGNMENT :][:nbytes]


def _address(scratch: Array | None) -> int | None:
    return None if scratch is None else int(scratch.ctypes.data)
