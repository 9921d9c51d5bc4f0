"""The inputs of windows behind each other: rows of a panel that products of matrices read."""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt_kernel_llvm.emitter import I8, Function, Index, Value, lanes_of, vector
from tenonrt_kernel_llvm.quantized.geometry import Shape

_UNROLLED = 1024  # bytes of a copy without a loop


class Gatherer:
    """Copies the window of a pixel, the channels of one set, where the image begins with them.

    padding: 64 bytes of the zero point, which is what lies outside of the image.
    """

    def __init__(self, fn: Function, shape: Shape, padding: Value) -> None:
        self.fn, self.shape, self.padding = fn, shape, padding

    def pixels(self, image: Value, first: Value, last: Index, panel: Value, step: int) -> None:
        """Pixels [first, last) of an image, ``step`` bytes apart."""

        def pixel(number: Value, _: list[Value]) -> Sequence[Value]:
            self._pixel(image, number, self.fn.offset(panel, (number - first) * step))
            return ()

        self.fn.loop(first, last, pixel)

    def _pixel(self, image: Value, number: Value, target: Value) -> None:
        fn, shape = self.fn, self.shape
        y0 = number // shape.x.output * shape.y.stride + -shape.y.padding
        x0 = number % shape.x.output * shape.x.stride + -shape.x.padding
        width = shape.x.window * shape.taken
        if self._unrolls(width):
            last = [axis.size - (axis.window - 1) * axis.dilation for axis in (shape.y, shape.x)]
            inside = [fn.compare("ult", at, end) for at, end in zip((y0, x0), last, strict=True)]
            line = fn.offset(image, (y0 * shape.x.size + x0) * shape.channels)
            fn.when(
                fn.binary("and", *inside),
                lambda: self._whole(line, target, width),
                lambda: self._rows(image, (y0, x0), target, width),
            )
        else:
            self._rows(image, (y0, x0), target, width)

    def _unrolls(self, width: int) -> bool:
        """Whether a window that lies within the image is copied without loops and tests."""
        shape = self.shape
        fits = all(axis.size > (axis.window - 1) * axis.dilation for axis in (shape.y, shape.x))
        return (
            fits
            and shape.sets == shape.x.dilation == 1
            and shape.y.window > 1
            and shape.y.window * width <= _UNROLLED * 4
        )

    def _whole(self, line: Value, target: Value, width: int) -> None:
        shape = self.shape
        for ky in range(shape.y.window):
            source = self.fn.offset(line, ky * shape.y.dilation * shape.x.size * shape.channels)
            self._copy(source, self.fn.offset(target, ky * width), width)

    def _rows(self, image: Value, at: tuple[Value, Value], target: Value, width: int) -> None:
        fn, shape = self.fn, self.shape
        y0, x0 = at

        def row(ky: Value, _: list[Value]) -> Sequence[Value]:
            y = ky * shape.y.dilation + y0
            line = fn.offset(image, (y * shape.x.size + x0) * shape.channels)
            self._row(line, y, x0, fn.offset(target, ky * width))
            return ()

        fn.loop(0, shape.y.window, row)

    def _row(self, line: Value, y: Value, x0: Value, target: Value) -> None:
        """One row of the window, in one piece where it lies within the image."""
        fn, shape, axis = self.fn, self.shape, self.shape.x
        together = axis.dilation == shape.sets == 1
        if together and not axis.padded and not shape.y.padded:
            self._copy(line, target, axis.window * shape.channels)
            return
        present = fn.compare("ult", y, shape.y.size)
        if not together:
            self._taps(line, present, x0, target)
            return
        inside = fn.compare("sle", x0, axis.size - axis.window)
        whole = fn.binary("and", fn.binary("and", fn.compare("sge", x0, 0), inside), present)
        fn.when(
            whole,
            lambda: self._copy(line, target, axis.window * shape.channels),
            lambda: self._taps(line, present, x0, target),
        )

    def _taps(self, line: Value, present: Value, x0: Value, target: Value) -> None:
        fn, shape, axis = self.fn, self.shape, self.shape.x

        def tap(kx: Value, _: list[Value]) -> Sequence[Value]:
            x = kx * axis.dilation + x0
            here = fn.binary("and", fn.compare("ult", x, axis.size), present)
            to = fn.offset(target, kx * shape.taken)
            fn.when(
                here,
                lambda: self._copy(fn.offset(line, kx * (axis.dilation * shape.channels)), to, shape.taken),
                lambda: self._fill(to),
            )
            return ()

        fn.loop(0, axis.window, tap)

    def _copy(self, source: Value, target: Value, nbytes: int) -> None:
        """Bytes in the widest pieces, the last of which may overlap the one before."""
        fn, whole = self.fn, 0
        if nbytes > _UNROLLED:
            whole = nbytes // 64 * 64

            def piece(at: Value, _: list[Value]) -> Sequence[Value]:
                fn.store(fn.load(vector(64, I8), source, at, 1), target, at, 1)
                return ()

            fn.loop(0, whole, piece, step=64)
        for at, type in _pieces(whole, nbytes):
            fn.store(fn.load(type, source, at, 1), target, at, 1)

    def _fill(self, target: Value) -> None:
        fn, channels = self.fn, self.shape.taken
        size = min(64, 1 << (channels.bit_length() - 1))
        value = fn.load(vector(size, I8), self.padding, 0, 1)

        def piece(at: Value, _: list[Value]) -> Sequence[Value]:
            fn.store(value, target, at, 1)
            return ()

        fn.loop(0, channels // size * size, piece, step=size)
        for at, type in _pieces(channels // size * size, channels):
            fn.store(fn.load(type, self.padding, 0, 1) if lanes_of(type) < 64 else value, target, at, 1)


def _pieces(start: int, end: int) -> list[tuple[int, str]]:
    """(byte, type) of moves that cover [start, end) and nothing outside of [0, end)."""
    found, at = list[tuple[int, str]](), start
    while at < end:
        size = 64
        while size > end - at:
            size //= 2
        if at > 0 and size < end - at < 64 and 2 * size <= end:
            at, size = end - 2 * size, 2 * size
        found.append((at, vector(size, I8)))
        at += size
    return found
