"""Reformat: between rows of pixels and blocks of 16 channels by transposing square tiles in registers; copies else.

A tile is as wide as a register: as many channels of as many pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt.contracts import LINEAR, NCHW16C, Code, Format, Problem, Support, Tactic

from tenonrt_kernel_llvm.emitter import Function, Index, Value, vector
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.target import BLOCK, Target

_UNIT_BYTES = 1 << 15  # moved by a unit


class ReformatKernel(LlvmKernel):
    """float32 of 2 to 5 axes between LINEAR and blocks of 16 channels, and copies of either; any batch, any slices."""

    def supports(self, problem: Problem) -> Support:
        layer = problem.layer
        if problem.kinds != ("Reformat",) or len(problem.activations) != 1:
            return Support(False, f"only a Reformat of a computed tensor, not {'+'.join(problem.kinds)}")
        type = problem.types[layer.inputs[0]]
        formats = (layer.attrs.source, layer.attrs.target)
        if type.dtype != "float32" or any(f not in (LINEAR, NCHW16C) for f in formats):
            return Support(False, f"moves float32 between {LINEAR} and {NCHW16C}, not {formats[0]} to {formats[1]}")
        if not 2 <= type.rank <= 5:
            return Support(False, f"tensors of 2 to 5 axes, not {type.rank}")
        if not type.reshape(type.shape[1:]).static:
            return Support(False, "all sizes but the batch must be known")
        return Support(True, runtime_symbols=runtime_symbols(problem))

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        attrs = problem.layer.attrs
        return (Tactic("tiles", (attrs.source,), (attrs.target,), reads_strided=(0,), writes_strided=(0,)),)

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        routine = Routine(problem, tactic, target)
        attrs = problem.layer.attrs
        if attrs.source == attrs.target:
            return _Copy(routine, target).code()
        return _Transpose(routine, target, attrs.source).code()


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


class _Transpose:
    """Writes tiles of pixels by channels. The pixels of an image follow each other in rows of the last axis."""

    def __init__(self, routine: Routine, target: Target, source: Format) -> None:
        self.routine, self.fn, self.lanes = routine, routine.function, target.lanes
        self.blocks_to_rows = source == NCHW16C
        given, made = routine.inputs[0], routine.outputs[0]
        self.blocked, self.linear = (given, made) if self.blocks_to_rows else (made, given)
        shape = [int(d) for d in given.type.shape[1:]]  # type: ignore[call-overload]
        self.channels = shape[0]
        # Slices may have strides of their own on every outer axis: rows are the longest pieces that are surely dense.
        self.outer, self.row = shape[1:-1], (shape[-1] if len(shape) > 1 else 1)

    def code(self) -> Code:
        blocks = -(-self.channels // BLOCK)
        lines = _product(self.outer)
        whole = self._dense()
        length = self.row * lines if whole else self.row
        parts = max(1, min(length // (4 * self.lanes), length * BLOCK * 4 // _UNIT_BYTES))
        each = -(-length // parts // self.lanes) * self.lanes
        parts = -(-length // each)
        count = 1 if whole else lines

        def unit(number: Value) -> None:
            rest, part = number // parts, number % parts
            rest, line = rest // count, rest % count
            image, block = rest // blocks, rest % blocks
            first = part * each
            self._block(image, block, line, first, self.fn.minimum(first + each, length))

        batch = self.routine.problem.types[self.routine.problem.activations[0]].shape[0]
        self.routine.phase(batch * (blocks * count * parts), unit)
        return self.routine.code()

    def _dense(self) -> bool:
        """Whether an image's pixels follow each other in both tensors, whatever slice they are of."""
        return all(isinstance(s, int) for operand in (self.linear, self.blocked) for s in operand.strides[2:])

    def _block(self, image: Value, block: Value, line: Value, first: Value, last: Index) -> None:
        """Pixels [first, last) of a line of one block of channels; a last block may have fewer channels."""
        rest = self.channels % BLOCK
        if not rest:
            self._tiles(image, block, line, first, last, BLOCK)
            return
        full = self.fn.compare("slt", block, self.channels // BLOCK)
        self.fn.when(
            full,
            lambda: self._tiles(image, block, line, first, last, BLOCK),
            lambda: self._tiles(image, block, line, first, last, rest),
        )

    def _tiles(self, image: Value, block: Value, line: Value, first: Value, last: Index, channels: int) -> None:
        fn, lanes = self.fn, self.lanes
        linear, stride = self._linear_base(image, block, line)
        blocked = self._blocked_base(image, block, line)
        tiles = (last - first) // lanes if isinstance(last, Value) else (first * -1 + last) // lanes

        def tile(number: Value, _: list[Value]) -> Sequence[Value]:
            pixel = number * lanes + first
            self._tile(fn.offset(linear, pixel * 4), stride, fn.offset(blocked, pixel * (4 * BLOCK)), lanes, channels)
            return ()

        fn.loop(0, tiles, tile)

        def single(pixel: Value, _: list[Value]) -> Sequence[Value]:
            self._tile(fn.offset(linear, pixel * 4), stride, fn.offset(blocked, pixel * (4 * BLOCK)), 1, channels)
            return ()

        fn.loop(tiles * lanes + first if isinstance(tiles, Value) else first + tiles * lanes, last, single)

    def _tile(self, linear: Value, stride: Index, blocked: Value, pixels: int, channels: int) -> None:
        """``pixels`` is the lanes of a register, or 1."""
        fn, lanes = self.fn, self.lanes
        for part in range(0, BLOCK, lanes):
            present = max(0, min(lanes, channels - part))
            if self.blocks_to_rows:
                if not present:
                    continue
                vectors = [fn.load(vector(lanes), blocked, p * 4 * BLOCK + part * 4) for p in range(pixels)]
                self._store_rows(linear, stride, vectors, part, present)
                continue
            zero = fn.zero(vector(pixels))
            rows = [fn.load(vector(pixels), linear, stride * (part + c)) if c < present else zero for c in range(lanes)]
            columns = transpose(fn, rows) if pixels > 1 else [self._gather(rows)]
            for p, column in enumerate(columns):
                fn.store(column, blocked, p * 4 * BLOCK + part * 4)

    def _store_rows(self, linear: Value, stride: Index, vectors: Sequence[Value], part: int, present: int) -> None:
        fn = self.fn
        if len(vectors) > 1:
            for c, row in enumerate(transpose(fn, vectors)[:present]):
                fn.store(row, linear, stride * (part + c))
        else:
            for c in range(present):
                fn.store(fn.extract(vectors[0], c), linear, stride * (part + c))

    def _gather(self, elements: Sequence[Value]) -> Value:
        fn = self.fn
        result = fn.zero(vector(self.lanes))
        for lane, element in enumerate(elements):
            result = fn.insert(result, element, lane)
        return result

    def _linear_base(self, image: Value, block: Value, line: Value) -> tuple[Value, Index]:
        """Where the line of the block's first channel begins, and the bytes from channel to channel."""
        strides = self.linear.strides
        offset = image * strides[0] + block * (strides[1] * BLOCK)
        return self.fn.offset(self.linear.pointer, offset + self._line_offset(line, strides[2:-1])), strides[1]

    def _blocked_base(self, image: Value, block: Value, line: Value) -> Value:
        strides = self.blocked.strides  # batch, block, outer axes, last axis, channels
        offset = image * strides[0] + block * strides[1]
        return self.fn.offset(self.blocked.pointer, offset + self._line_offset(line, strides[2:-2]))

    def _line_offset(self, line: Value, strides: Sequence[Index]) -> Value:
        offset = self.fn.constant("i64", 0)
        if self._dense():
            return offset
        for size, stride in zip(reversed(self.outer), reversed(strides), strict=True):
            offset = offset + line % size * stride
            line = line // size
        return offset


class _Copy:
    """Writes copies of the innermost axis, vector by vector; of both innermost ones where they are dense."""

    def __init__(self, routine: Routine, target: Target) -> None:
        self.routine, self.fn, self.lanes = routine, routine.function, target.lanes
        self.source, self.target = routine.inputs[0], routine.outputs[0]

    def code(self) -> Code:
        shape = self.source.shape
        inner = len(shape)
        length = 1
        while inner > 1 and self._dense(inner - 1, length):
            inner -= 1
            length *= int(shape[inner])  # type: ignore[call-overload]
        parts = max(1, min(length // (8 * self.lanes), length * 4 // _UNIT_BYTES))
        each = -(-length // parts)
        parts = -(-length // each)
        outer = shape[1:inner]
        lines = _product([int(d) for d in outer])  # type: ignore[call-overload]

        def unit(number: Value) -> None:
            line, part = number // parts, number % parts
            source, target = self.source.pointer, self.target.pointer
            rest = line
            for axis in range(inner - 1, 0, -1):
                index, rest = rest % shape[axis], rest // shape[axis]
                source = self.fn.offset(source, index * self.source.strides[axis])
                target = self.fn.offset(target, index * self.target.strides[axis])
            source = self.fn.offset(source, rest * self.source.strides[0])
            target = self.fn.offset(target, rest * self.target.strides[0])
            first = part * each
            self._line(source, target, first, self.fn.minimum(first + each, length))

        batch = self.source.type.physical_shape[0]
        self.routine.phase(batch * (lines * parts), unit)
        return self.routine.code()

    def _dense(self, axis: int, length: int) -> bool:
        return all(operand.strides[axis] == 4 * length for operand in (self.source, self.target))

    def _line(self, source: Value, target: Value, first: Value, last: Index) -> None:
        fn, lanes = self.fn, self.lanes
        count = (first * -1 + last if isinstance(last, int) else last - first) // lanes

        def several(number: Value, _: list[Value]) -> Sequence[Value]:
            at = (number * lanes + first) * 4
            fn.store(fn.load(vector(lanes), source, at), target, at)
            return ()

        def one(number: Value, _: list[Value]) -> Sequence[Value]:
            fn.store(fn.load("float", source, number * 4), target, number * 4)
            return ()

        fn.loop(0, count, several)
        fn.loop(count * lanes + first, last, one)


def _product(sizes: Sequence[int]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total
