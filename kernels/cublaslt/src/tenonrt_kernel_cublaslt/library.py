"""cuBLASLt through ctypes: descriptors of a product, the algorithms that its heuristics offer, and the call.

NVIDIA, "cuBLAS" (CUDA toolkit documentation), chapter "Using the cuBLASLt API"; numbers are those of cublasLt.h.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any

from tenonrt.contracts import ExecutionError, UnsupportedError, load_library

LIBRARY = "TENONRT_CUBLASLT"  # an environment variable: the path of the library to use
_PATTERNS = ("nvidia/cu1?/lib/libcublasLt.so.1?", "nvidia/cublas/lib/libcublasLt.so.1?")
_TOOLKITS = ("libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so")

FLOAT = 0  # cudaDataType
TRANSPOSED = 1  # CUBLAS_OP_T
EPILOGUES = {"none": 1, "relu": 2, "bias": 4, "bias+relu": 6, "gelu": 32, "bias+gelu": 36}
# cublasLtMatmulDescAttributes_t
TRANSA, TRANSB, EPILOGUE, BIAS_POINTER, BIAS_TYPE = 3, 4, 7, 8, 26
# cublasLtMatrixLayoutAttribute_t
_LEADING, _BATCHES, _BATCH_STRIDE = 4, 5, 6
# cublasLtMatmulPreferenceAttributes_t
_MOST_WORKSPACE, _ALIGNMENTS = 1, (5, 6, 7, 8)
ALGORITHM_BYTES = 64


@dataclass(frozen=True)
class Arithmetic:
    """How products are computed in a precision: the element type of operands and results; cudaDataType of that, and
    cublasComputeType_t. Sums are in single precision."""

    stored: str
    type: int
    compute: int


ARITHMETIC = {
    "float16": Arithmetic("float16", 2, 68), "bfloat16": Arithmetic("bfloat16", 14, 68),
    "tf32": Arithmetic("float32", FLOAT, 77), "float32": Arithmetic("float32", FLOAT, 68),
}  # fmt: skip


class Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = [
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    ]


@cache
def library() -> ctypes.CDLL:
    """The library with its signatures; `UnsupportedError` says how to get it."""
    found = load_library(LIBRARY, _PATTERNS, _TOOLKITS)
    if found is None:
        raise UnsupportedError(
            f"cuBLASLt is not installed: pip install nvidia-cublas, or set {LIBRARY} to the path of libcublasLt.so"
        )
    _declare(found)
    return found


def _declare(found: ctypes.CDLL) -> None:
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    found.cublasLtMatmul.argtypes = [pointer] * 14 + [size, pointer]
    found.cublasLtMatrixLayoutCreate.argtypes = [pointer, number, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int64]
    for name in (
        "cublasLtMatmulDescSetAttribute",
        "cublasLtMatmulPreferenceSetAttribute",
        "cublasLtMatrixLayoutSetAttribute",
    ):
        getattr(found, name).argtypes = [pointer, number, pointer, size]
    found.cublasLtMatmulAlgoGetHeuristic.argtypes = [pointer] * 7 + [number, pointer, pointer]


def check(status: int, what: str) -> None:
    """`ExecutionError` for a status that is none of success."""
    if status:
        raise ExecutionError(f"cuBLASLt: {what} returned status {status}")


@cache
def handle() -> ctypes.c_void_p:
    """The handle of this process. It has no stream of its own, so threads share it."""
    made = ctypes.c_void_p()
    check(library().cublasLtCreate(ctypes.byref(made)), "cublasLtCreate")
    return made


@cache
def missing() -> str:
    """Why nothing can be computed here; empty when it can."""
    try:
        import cupy

        if not cupy.cuda.runtime.getDeviceCount():
            return "there is no GPU"
        handle()
    except (UnsupportedError, ExecutionError) as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - CuPy raises errors of many kinds where it finds no driver
        return f"cuBLASLt cannot be used here: {error}"
    return ""


class _Object:
    """An opaque object of the library, destroyed with this one."""

    def __init__(self, kind: str, *arguments: Any) -> None:
        self.pointer, self._kind = ctypes.c_void_p(), kind
        check(getattr(library(), f"cublasLt{kind}Create")(ctypes.byref(self.pointer), *arguments), f"{kind}Create")

    def set(self, attribute: int, value: Any) -> None:
        """Set an attribute to a ctypes value."""
        status = getattr(library(), f"cublasLt{self._kind}SetAttribute")(
            self.pointer, attribute, ctypes.byref(value), ctypes.sizeof(value)
        )
        check(status, f"{self._kind}SetAttribute {attribute}")

    def __del__(self) -> None:
        if self.pointer.value:
            getattr(library(), f"cublasLt{self._kind}Destroy")(self.pointer)


class Operation(_Object):
    """How the operands are combined."""

    def __init__(self, transpose_a: bool, transpose_b: bool, epilogue: str, arithmetic: Arithmetic) -> None:
        super().__init__("MatmulDesc", arithmetic.compute, FLOAT)
        self.set(TRANSA, ctypes.c_int32(int(transpose_a)))
        self.set(TRANSB, ctypes.c_int32(int(transpose_b)))
        self.set(EPILOGUE, ctypes.c_int32(EPILOGUES[epilogue]))
        if epilogue.startswith("bias"):
            self.set(BIAS_TYPE, ctypes.c_int32(arithmetic.type))

    def set_bias(self, address: int) -> None:
        self.set(BIAS_POINTER, ctypes.c_void_p(address))


class Layout(_Object):
    """A matrix stored column by column; ``leading``: elements from one column to the next."""

    def __init__(self, type: int, rows: int, columns: int, leading: int, batches: int = 1, stride: int = 0) -> None:
        super().__init__("MatrixLayout", type, rows, columns, leading)
        if batches > 1:
            self.set(_BATCHES, ctypes.c_int32(batches))
            self.set(_BATCH_STRIDE, ctypes.c_int64(stride))

    def lead(self, leading: int) -> None:
        """Change the distance between columns."""
        self.set(_LEADING, ctypes.c_int64(leading))


def heuristics(
    operation: Operation, a: Layout, b: Layout, c: Layout, d: Layout, most: int, workspace: int, alignment: int = 16
) -> list[Heuristic]:
    """The algorithms that the library offers, best guess first."""
    preference = _Object("MatmulPreference")
    preference.set(_MOST_WORKSPACE, ctypes.c_size_t(workspace))
    for attribute in _ALIGNMENTS:
        preference.set(attribute, ctypes.c_uint32(alignment))
    results, count = (Heuristic * most)(), ctypes.c_int()
    status = library().cublasLtMatmulAlgoGetHeuristic(
        handle(), operation.pointer, a.pointer, b.pointer, c.pointer, d.pointer, preference.pointer, most, results,
        ctypes.byref(count),
    )  # fmt: skip
    not_supported = 15
    if status == not_supported:
        return []
    check(status, "MatmulAlgoGetHeuristic")
    return [found for found in results[: count.value] if found.state == 0]
