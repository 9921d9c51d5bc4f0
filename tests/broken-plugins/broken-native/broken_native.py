"""A native call that is right as one range of rows, and counts rows from its own range's beginning otherwise."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from tenonrt.contracts import Array, Code, Executable, Kernel, Problem, Support

# What a compiler would make of the contract's signature; a callback needs no compiler and is called the same way.
SIGNATURE = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
)


class SoftmaxKernel(Kernel):
    """Takes float32 Softmax along the last axis of a matrix."""

    def supports(self, problem: Problem) -> Support:
        [layer, *others], given = problem.layers, problem.types[0]
        if others or layer.kind != "Softmax" or layer.attrs.log or problem.inputs[0].role != "activation":
            return Support(False, "only a single Softmax of a computed tensor")
        if given.dtype != "float32" or given.rank != 2 or layer.attrs.axis not in (1, -1) or not given.static:
            return Support(False, "only the last axis of a float32 matrix of known sizes")
        return Support(True)

    def bind(self, code: Code, packed: Sequence[Array]) -> Executable:
        return SoftmaxCall(code.problem.types[0].concrete({}))  # type: ignore[return-value]


class SoftmaxCall:
    """A `NativeCall` with a row for a unit."""

    packed: Sequence[Array] = ()
    scratch = 0

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.function = SIGNATURE(self.rows)
        self.address = ctypes.cast(self.function, ctypes.c_void_p).value

    def units(self, symbols: Sequence[int]) -> int:
        return self.shape[0]

    def rows(self, buffers: int, symbols: int, scratch: int, begin: int, end: int) -> int:
        y, x = (self.array(pointer) for pointer in (ctypes.c_void_p * 2).from_address(buffers))
        powers = np.exp(x[begin:end] - x[begin:end].max(1, keepdims=True, initial=-np.inf))
        y[: end - begin] = powers / powers.sum(1, keepdims=True)
        return 0

    def array(self, pointer: int) -> Array:
        return np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), self.shape)
