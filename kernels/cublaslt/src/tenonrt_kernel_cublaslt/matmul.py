"""One product with its epilogue: described by values, found among the heuristics by its algorithm, launched."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tenonrt.contracts import LINEAR, Format

from tenonrt_kernel_cublaslt import library as lt

WORKSPACE = 32 << 20
_MOST_EXACT = 2


@dataclass(frozen=True)
class Description:
    """y[M, N] = epilogue(x[M, K] w[N, K]^T + c[M, N]) row by row; w is [K, N] where not transposed.

    batches: so many products, the operands ``strides`` (x, w, y) elements apart. precision: of ARITHMETIC.
    """

    m: int
    n: int
    k: int
    epilogue: str = "none"
    added: bool = False
    transpose_x: bool = False
    transpose_w: bool = True
    batches: int = 1
    strides: tuple[int, int, int] = (0, 0, 0)
    precision: str = "float16"

    @property
    def arithmetic(self) -> lt.Arithmetic:
        return lt.ARITHMETIC[self.precision]


def rows(precision: str) -> Format:
    """Row by row in the element type of a precision."""
    stored = lt.ARITHMETIC[precision].stored
    return LINEAR if stored == "float32" else Format(dtype=stored)


def most(heuristics: int, precision: str) -> int:
    """How many of the library's heuristics are tried. Those in single precision are permitted in every build, and
    fastest where nothing less precise is."""
    return min(heuristics, _MOST_EXACT) if precision == "float32" else heuristics


class Product:
    """The library's objects of a description. It sees columns: y^T[N, M] = w[N, K] x^T[K, M]."""

    def __init__(self, d: Description) -> None:
        self.description = d
        self.operation = lt.Operation(d.transpose_w, d.transpose_x, d.epilogue, d.arithmetic)
        count, type = d.batches, d.arithmetic.type
        rows, columns, lead = (d.k, d.n, d.k) if d.transpose_w else (d.n, d.k, d.n)
        self.w = lt.Layout(type, rows, columns, lead, count, d.strides[1])
        rows, columns, lead = (d.m, d.k, d.m) if d.transpose_x else (d.k, d.m, d.k)
        self.x = lt.Layout(type, rows, columns, lead, count, d.strides[0])
        self.c = lt.Layout(type, d.n, d.m, d.n, count, d.strides[2])
        self.y = lt.Layout(type, d.n, d.m, d.n, count, d.strides[2])

    def algorithms(self, most: int) -> dict[str, lt.Heuristic]:
        """Algorithms by name, best guess first: the digest of their 64 bytes, and a precision other than float16.

        Those of single precision have other bytes each time they are asked for, so that they are called by their rank.
        """
        d = self.description
        if d.epilogue.startswith("bias"):
            self.operation.set_bias(1 << 20)  # an address that is aligned as weights are: the offer depends on it
        found = lt.heuristics(self.operation, self.w, self.x, self.c, self.y, most, WORKSPACE)
        if d.arithmetic.stored == "float32":
            return {f"{d.precision} {rank}": heuristic for rank, heuristic in enumerate(found)}
        behind = "" if d.precision == "float16" else f" {d.precision}"
        return {hashlib.blake2b(bytes(h.algorithm), digest_size=8).hexdigest() + behind: h for h in found}


class Launched:
    """An `Executable`: x is input ``x``, c input ``added``, w input ``w`` or packed first; bias is packed last."""

    def __init__(
        self,
        description: Description,
        algorithm: bytes,
        packed: Sequence[Any],
        x: int,
        w: int | None,
        added: int | None,
    ) -> None:
        self._product = Product(description)
        self._algorithm = (ctypes.c_uint64 * 8).from_buffer_copy(algorithm)
        self._packed, self._x, self._w, self._added = packed, x, w, added
        if description.epilogue.startswith("bias"):
            self._product.operation.set_bias(packed[-1].data.ptr)
        self._alpha, self._beta = ctypes.c_float(1.0), ctypes.c_float(1.0 if added is not None else 0.0)

    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any | None, stream: Any | None) -> None:
        import cupy

        p, y = self._product, outputs[0].data.ptr
        x, w = inputs[self._x], inputs[self._w] if self._w is not None else self._packed[0]
        c = inputs[self._added].data.ptr if self._added is not None else y
        self._lead(inputs, outputs)
        where = stream.ptr if stream is not None else cupy.cuda.get_current_stream().ptr
        address, nbytes = (0, 0) if workspace is None else (workspace.data.ptr, workspace.nbytes)
        status = lt.library().cublasLtMatmul(
            lt.handle(), p.operation.pointer,
            ctypes.byref(self._alpha), w.data.ptr, p.w.pointer, x.data.ptr, p.x.pointer,
            ctypes.byref(self._beta), c, p.c.pointer, y, p.y.pointer,
            ctypes.byref(self._algorithm), address, nbytes, where,
        )  # fmt: skip
        lt.check(status, "cublasLtMatmul")

    def _lead(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Pixels of images may lie further apart than they are wide: slices of larger tensors."""
        p = self._product
        operands = [(p.x, inputs[self._x]), (p.y, outputs[0])]
        operands += [(p.c, inputs[self._added])] if self._added is not None else [(p.c, outputs[0])]
        for layout, array in operands:
            if array.ndim == 5:  # N, H, W and two of channels
                layout.lead(array.strides[2] // array.itemsize)
