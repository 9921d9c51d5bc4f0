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
from itertools import accumulate, pairwise
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
    """The address of a function, its arguments, and the ranges of its phases. Keeps alive all that they point to."""

    def __init__(self, launch: Launch) -> None:
        call: Any = launch.executable
        self.name = launch.name
        self.address = int(call.address)
        self.scratch = int(call.scratch)
        strided = tuple(getattr(call, "strided_operands", ()))
        operands, packed = [*launch.outputs, *launch.inputs], list(call.packed)
        addresses = [address(array) for array in (*operands, *packed)]
        self._check([*operands, *packed], addresses, len(operands), strided)
        strides = [stride for index in strided for stride in operands[index].strides]
        workspace = launch.workspace
        self._buffers = (ctypes.c_void_p * (len(addresses) + 1))(
            *addresses, address(workspace) if isinstance(workspace, np.ndarray) and workspace.size else None
        )
        self._symbols = (ctypes.c_int64 * (len(launch.symbols) + len(strides)))(*launch.symbols, *strides)
        self._kept = (launch, packed)
        self.buffers, self.symbols = ctypes.addressof(self._buffers), ctypes.addressof(self._symbols)
        units = call.units(launch.symbols)
        ends = list(accumulate([units] if isinstance(units, int) else units, initial=0))
        self.phases = list(pairwise(ends))  # (begin, end): units are counted on from phase to phase

    def _check(self, arrays: list[Array], addresses: list[int], operands: int, strided: Sequence[int]) -> None:
        for index, (array, start) in enumerate(zip(arrays, addresses, strict=True)):
            alignment = array.dtype.alignment if index in strided else ALIGNMENT
            if start % alignment and array.size:
                hint = "" if index in strided or index >= operands else f"; {UNDECLARED}"
                self._refuse(index, f"starts at {start:#x}, which is no multiple of {alignment}{hint}")
            if index not in strided and not array.flags.c_contiguous:
                self._refuse(index, f"is not contiguous; {UNDECLARED}")

    def _refuse(self, index: int, why: str) -> None:
        raise ExecutionError(f"step {self.name!r}: buffer {index} (outputs, inputs, packed weights) {why}")


def split(begin: int, end: int, parts: int) -> list[int]:
    """Where the parts of a range begin, and its end. Depends on the counts alone, so that results do not on timing."""
    return [begin + (end - begin) * i // parts for i in range(parts + 1)]


def address(array: Array) -> int:
    """Where an array begins."""
    return int(array.ctypes.data)


def scratch_for(nbytes: int, threads: int) -> tuple[Array, int, int]:
    """Room for each thread, where it begins, and the bytes from one thread's to the next. Not touched before use.

    Two cache lines apart from the next thread's, for processors fetch lines in pairs.
    """
    stride = -(-nbytes // (2 * ALIGNMENT)) * 2 * ALIGNMENT
    raw = np.empty(stride * threads + ALIGNMENT, np.uint8)
    return raw, address(raw) + -address(raw) % ALIGNMENT, stride
