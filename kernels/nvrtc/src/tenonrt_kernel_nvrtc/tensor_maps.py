"""Tensor maps: how a matrix lies in memory, for the unit that copies tiles of it into swizzled shared memory.

NVIDIA, "CUDA driver API", tensor map object management: cuTensorMapEncodeTiled, cuTensorMapEncodeIm2col; numbers are
those of cuda.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tenonrt_kernel_nvrtc.launching import check, driver
from tenonrt_kernel_nvrtc.loading import Launched

_ELEMENTS = {1: 0, 2: 6}  # CU_TENSOR_MAP_DATA_TYPE_UINT8, CU_TENSOR_MAP_DATA_TYPE_FLOAT16
_SWIZZLES = {64: 2, 128: 3}  # CU_TENSOR_MAP_SWIZZLE_64B, CU_TENSOR_MAP_SWIZZLE_128B
_PROMOTE_256 = 3  # CU_TENSOR_MAP_L2_PROMOTION_L2_256B
_BYTES, _ALIGNMENT = 128, 64


class Mapped(Protocol):
    """What a map can be made of."""

    @property
    def columns(self) -> int:
        """Elements of a row that is whole."""

    def encoded(self, address: int, pitch: int) -> Any:
        """The map, as a ctypes value, of rows that lie ``pitch`` elements apart. What is outside reads as 0."""


@dataclass(frozen=True)
class Matrix:
    """A matrix [rows, columns] and the tiles [box, depth] that are copied of it at once; item: bytes of an element."""

    rows: int
    columns: int
    box: int
    depth: int
    item: int = 2

    def encoded(self, address: int, pitch: int) -> Any:
        aligned = _room()
        status = driver().cuTensorMapEncodeTiled(
            ctypes.byref(aligned), _ELEMENTS[self.item], 2, ctypes.c_void_p(address),
            (ctypes.c_uint64 * 2)(self.columns, self.rows), (ctypes.c_uint64 * 1)(self.item * pitch),
            (ctypes.c_uint32 * 2)(self.depth, self.box), (ctypes.c_uint32 * 2)(1, 1),
            0, _SWIZZLES[self.item * self.depth], _PROMOTE_256, 0,
        )  # fmt: skip
        check(status, f"cuTensorMapEncodeTiled of {self} at {address:#x}, {pitch} elements from row to row")
        return aligned


@dataclass(frozen=True)
class Images:
    """Images [images, height, width, columns], of which a window's corners meet ``box`` pixels at once.

    before, after: how far the corners of windows may lie outside of an image, down and across: the first, and the last
    behind the last pixel. stride: from corner to corner. item: bytes of an element.
    """

    images: int
    height: int
    width: int
    columns: int
    box: int
    depth: int
    before: tuple[int, int]
    after: tuple[int, int]
    stride: tuple[int, int]
    item: int = 1

    def encoded(self, address: int, pitch: int) -> Any:
        aligned, pixel = _room(), self.item * pitch
        status = driver().cuTensorMapEncodeIm2col(
            ctypes.byref(aligned), _ELEMENTS[self.item], 4, ctypes.c_void_p(address),
            (ctypes.c_uint64 * 4)(self.columns, self.width, self.height, self.images),
            (ctypes.c_uint64 * 3)(pixel, pixel * self.width, pixel * self.width * self.height),
            (ctypes.c_int * 2)(*(-n for n in reversed(self.before))), (ctypes.c_int * 2)(*reversed(self.after)),
            ctypes.c_uint32(self.depth), ctypes.c_uint32(self.box),
            (ctypes.c_uint32 * 4)(1, self.stride[1], self.stride[0], 1),
            0, _SWIZZLES[self.item * self.depth], _PROMOTE_256, 0,
        )  # fmt: skip
        check(status, f"cuTensorMapEncodeIm2col of {self} at {address:#x}, {pitch} elements from pixel to pixel")
        return aligned


def _room() -> Any:
    """For a map, as aligned as it has to be."""
    room = (ctypes.c_ubyte * (_BYTES + _ALIGNMENT))()
    return (ctypes.c_ubyte * _BYTES).from_buffer(room, -ctypes.addressof(room) % _ALIGNMENT)


class MappedLaunch(Launched):
    """A kernel whose first parameters are the maps of its first input's rows and of the packed weights."""

    def __init__(
        self,
        cubin: bytes,
        packed: Sequence[Any],
        rows: Mapped,
        weights: Mapped,
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
