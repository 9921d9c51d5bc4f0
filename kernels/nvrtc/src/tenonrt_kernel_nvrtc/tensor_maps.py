"""Tensor maps: how a matrix lies in memory, for the unit that copies tiles of it into swizzled shared memory.

NVIDIA, "CUDA driver API", tensor map object management: cuTensorMapEncodeTiled; numbers are those of cuda.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tenonrt_kernel_nvrtc.launching import check, driver
from tenonrt_kernel_nvrtc.loading import Launched

_HALF = 6  # CU_TENSOR_MAP_DATA_TYPE_FLOAT16
_SWIZZLE_128 = 3  # CU_TENSOR_MAP_SWIZZLE_128B
_PROMOTE_256 = 3  # CU_TENSOR_MAP_L2_PROMOTION_L2_256B
_BYTES, _ALIGNMENT = 128, 64


@dataclass(frozen=True)
class Matrix:
    """A matrix of half precision [rows, columns] and the tiles [box, depth] that are copied of it at once."""

    rows: int
    columns: int
    box: int
    depth: int

    def encoded(self, address: int, pitch: int) -> Any:
        """The map, as a ctypes value, of rows that lie ``pitch`` elements apart. What is outside reads as 0."""
        room = (ctypes.c_ubyte * (_BYTES + _ALIGNMENT))()
        aligned = (ctypes.c_ubyte * _BYTES).from_buffer(room, -ctypes.addressof(room) % _ALIGNMENT)
        status = driver().cuTensorMapEncodeTiled(
            ctypes.byref(aligned), _HALF, 2, ctypes.c_void_p(address),
            (ctypes.c_uint64 * 2)(self.columns, self.rows), (ctypes.c_uint64 * 1)(2 * pitch),
            (ctypes.c_uint32 * 2)(self.depth, self.box), (ctypes.c_uint32 * 2)(1, 1),
            0, _SWIZZLE_128, _PROMOTE_256, 0,
        )  # fmt: skip
        check(status, f"cuTensorMapEncodeTiled of {self} at {address:#x}, {pitch} elements from row to row")
        return aligned


class MappedLaunch(Launched):
    """A kernel whose first parameters are the maps of its first input's rows and of the packed weights."""

    def __init__(
        self,
        cubin: bytes,
        packed: Sequence[Any],
        rows: Matrix,
        weights: Matrix,
        source: int,
        **how: Any,
    ) -> None:
        super().__init__(cubin, packed, **how)
        self._rows, self._source = rows, source
        self._weights = weights.encoded(packed[0].data.ptr, weights.columns)

    def values(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
        source = inputs[self._source]
        pitch = source.strides[-3] // source.itemsize if self._pitches else self._rows.columns
        return [self._rows.encoded(source.data.ptr, pitch), self._weights, *super().values(inputs, outputs)]
