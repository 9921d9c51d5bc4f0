"""Blobs: the arrays of a Caffe file, converted when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

import numpy as np
from tenonrt.contracts import Array, ParseError

# BlobProto.Type of NVCaffe -> element type of its raw data.
_RAW = {0: "<f8", 1: "<f4", 2: "<f2", 3: "<i4", 4: "<u4"}


class Segment(NamedTuple):
    """Numbers in a file: the first one's byte, how many, the bytes from one to the next, and bytes left over."""

    dtype: str
    start: int
    length: int
    stride: int
    rest: int = 0


@dataclass(eq=False)
class Blob:
    """A BlobProto that lies in ``data``; `array` makes it float32. Not looked at before, so errors come late."""

    data: bytes
    position: int
    legacy: list[int | None] = field(default_factory=lambda: [None] * 4)
    shape: list[int] | None = None
    segments: list[Segment] = field(default_factory=list)
    raw_type: int = 1
    raw: tuple[int, int] | None = None

    def dimensions(self) -> tuple[int, ...]:
        """``shape`` if it is there, else the four numbers of old files, else none: a scalar."""
        if self.shape is not None:
            return tuple(self.shape)
        if any(size is not None for size in self.legacy):
            return tuple(size or 0 for size in self.legacy)
        return ()

    def array(self) -> Array:
        """The values, float32; shares the file's bytes where those are float32 and aligned.

        `ParseError` when they are not as many as the shape says.
        """
        shape, values = self.dimensions(), self._values()
        if any(size < 0 for size in shape) or prod(shape) != values.size:
            raise ParseError(
                f"byte {self.position}: a blob of shape {'x'.join(map(str, shape)) or 'scalar'} holds "
                f"{values.size} values"
            )
        return values.reshape(shape)

    def _values(self) -> Array:
        if self.raw is not None and self.raw[1]:
            return self._raw_values(*self.raw)
        doubles = [s for s in self.segments if s.dtype == "float64"]
        # As Caffe does: double_data is preferred to data where both are present.
        parts = [self._segment(s) for s in doubles or self.segments]
        if not parts:
            return np.zeros(0, np.float32)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _raw_values(self, start: int, length: int) -> Array:
        name = _RAW.get(self.raw_type)
        if name is None:
            raise ParseError(f"byte {self.position}: raw_data_type is {self.raw_type}; it is one of {sorted(_RAW)}")
        dtype = np.dtype(name)
        return self._segment(Segment(name, start, length // dtype.itemsize, dtype.itemsize, length % dtype.itemsize))

    def _segment(self, segment: Segment) -> Array:
        if segment.rest:
            raise ParseError(f"byte {segment.start}: {segment.rest} bytes are left over after {segment.length} numbers")
        dtype = np.dtype(segment.dtype).newbyteorder("<")
        values: Array = np.ndarray((segment.length,), dtype, self.data, segment.start, (segment.stride,))
        # A cast to the same type still copies what is strided or not aligned.
        return np.require(values, np.float32, ["ALIGNED", "C_CONTIGUOUS"])
