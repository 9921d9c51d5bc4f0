"""Images of bytes, channels innermost, to and from real images in planes or blocks, and planes of bytes.

A tile is 16 pixels of 16 channels in registers; planes are transposed there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tenonrt.contracts import LINEAR, NCHW16C, NHWC, Array, Code, Problem, Support, Tactic, Weights

from tenonrt_kernel_llvm.emitter import FLOAT, I8, I32, Value, vector
from tenonrt_kernel_llvm.indexing import known
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.operations import BYTES, dequantize, quantize, refusal
from tenonrt_kernel_llvm.routine import Operand, Routine
from tenonrt_kernel_llvm.target import BLOCK, Target
from tenonrt_kernel_llvm.transposition import transpose

_KINDS = ("Quantize", "Dequantize", "Reformat")
_UNIT_TILES = 32
_FEW = 4


class ByteLayoutKernel(LlvmKernel):
    """Quantize to bytes with channels innermost, Dequantize from them, and planes of bytes to and from them."""

    def supports(self, problem: Problem) -> Support:
        why = _refusal(problem)
        return Support(not why, why, runtime_symbols(problem))

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        layer = problem.layer
        if layer.kind == "Reformat":
            return (Tactic("tiles", (layer.attrs.source,), (layer.attrs.target,)),)
        real = (LINEAR, NCHW16C)
        pairs = [((f,), (NHWC,)) if layer.kind == "Quantize" else ((NHWC,), (f,)) for f in real]
        return [Tactic(f"{source[0]}-{target[0]}", source, target) for source, target in pairs]

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Scale, then zero point: absent ones are zero."""
        arrays = dict(zip(code.problem.constants, weights.constants, strict=True))
        given = [arrays[i].reshape(-1) for i in code.problem.layer.inputs[1:] if i >= 0]
        return [*given, *([np.zeros(1, np.uint8)] * (2 - len(given)))]

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        return _Tiles(Routine(problem, tactic, target, packed=2)).code()


def _refusal(problem: Problem) -> str:
    layer = problem.layer
    if len(problem.layers) != 1 or layer.kind not in _KINDS or len(problem.activations) != 1:
        return "not one Quantize, Dequantize or Reformat layer of a computed tensor"
    source = problem.types[layer.inputs[0]]
    if source.rank != 4 or not source.reshape(source.shape[1:]).static or 0 in source.shape:
        return "images of known sizes but for the batch"
    if layer.kind == "Reformat":
        formats = {layer.attrs.source, layer.attrs.target}
        return "" if source.dtype in BYTES and formats == {LINEAR, NHWC} else "bytes between planes and NHWC"
    return refusal(problem, layer)


class _Tiles:
    def __init__(self, routine: Routine) -> None:
        self.routine, self.fn = routine, routine.function
        problem = routine.problem
        self.problem, self.layer = problem, problem.layer
        self.source, self.result = routine.inputs[0], routine.outputs[0]
        shape = [known(d) for d in self.source.type.shape[1:]]
        self.channels, self.pixels = shape[0], shape[1] * shape[2]
        self.lanes = min(BLOCK, self.pixels)
        self.blocks = -(-self.channels // BLOCK)

    def code(self) -> Code:
        fn = self.fn
        self.scale, self.zero = self._parameters()
        tiles = -(-self.pixels // BLOCK)
        parts = max(1, tiles // _UNIT_TILES)

        def unit(number: Value) -> None:
            rest, part = number // parts, number % parts
            image, block = rest // self.blocks, rest % self.blocks

            def tile(index: Value, _: list[Value]) -> Sequence[Value]:
                # The last tile is moved back to where it is whole.
                pixel = fn.as_value(fn.minimum(index * BLOCK, self.pixels - self.lanes), "i64")
                self._ragged(image, block, pixel)
                return ()

            fn.loop(part * tiles // parts, (part + 1) * tiles // parts, tile)

        self.routine.phase(self.source.type.shape[0] * (self.blocks * parts), unit)
        return self.routine.code()

    def _parameters(self) -> tuple[Value | None, Value | None]:
        fn = self.fn
        if self.layer.kind == "Reformat":
            return None, None
        scale = fn.splat(fn.load(FLOAT, self.routine.packed[0]), BLOCK)
        if len(self.layer.inputs) < 3 or self.layer.inputs[2] < 0:
            return scale, None
        return scale, fn.splat(fn.load(I8, self.routine.packed[1], 0, 1), BLOCK)

    def _ragged(self, image: Value, block: Value, pixel: Value) -> None:
        rest = self.channels % BLOCK
        if not rest:
            self._tile(image, block, pixel, BLOCK)
        elif self.blocks == 1:
            self._tile(image, block, pixel, rest)
        else:
            self.fn.when(
                self.fn.compare("eq", block, self.blocks - 1),
                lambda: self._tile(image, block, pixel, rest),
                lambda: self._tile(image, block, pixel, BLOCK),
            )

    def _tile(self, image: Value, block: Value, pixel: Value, count: int) -> None:
        """``count``: channels that there are."""
        if self._interleaves:
            self._interleave(image, pixel)
            return
        given = self._load(image, block, pixel, count)
        self._store(image, block, pixel, count, [self._convert(value) for value in given])

    @property
    def _interleaves(self) -> bool:
        """Whether planes of few channels, such as colours, become pixels of bytes: rows of 16 are stored at once."""
        few, whole = 2 <= self.channels <= _FEW, self.lanes == BLOCK
        return few and whole and self.source.type.format == LINEAR and self.result.type.dtype != "float32"

    def _interleave(self, image: Value, pixel: Value) -> None:
        fn, channels = self.fn, self.channels
        type = vector(BLOCK, FLOAT if self.source.type.dtype == "float32" else I8)
        base, step = self._place(self.source, image, fn.constant("i64", 0), pixel)
        align = 4 if self.source.type.dtype == "float32" else 1
        rows = [self._convert(fn.load(type, base, channel * step, align)) for channel in range(channels)]
        pairs = [fn.shuffle(rows[i], rows[min(i + 1, channels - 1)], range(2 * BLOCK)) for i in range(0, channels, 2)]
        order = [channel * BLOCK + lane for lane in range(BLOCK) for channel in range(channels)]
        target, _ = self._place(self.result, image, fn.constant("i64", 0), pixel)
        fn.store(fn.shuffle(pairs[0], pairs[-1], order), target, 0, 1)

    def _convert(self, value: Value) -> Value:
        if self.layer.kind == "Quantize":
            assert self.scale is not None
            return quantize(self.fn, value, self.scale, self.zero, self.layer.attrs.dtype)
        if self.layer.kind == "Dequantize":
            assert self.scale is not None
            return dequantize(self.fn, value, self.scale, self.zero, self.source.type.dtype)
        return value

    def _load(self, image: Value, block: Value, pixel: Value, count: int) -> list[Value]:
        """A vector of 16 channels for each pixel."""
        fn, type = self.fn, vector(BLOCK, FLOAT if self.source.type.dtype == "float32" else I8)
        align = 4 if self.source.type.dtype == "float32" else 1
        base, step = self._place(self.source, image, block, pixel)
        if self.source.type.format != LINEAR:
            present = BLOCK if self.source.type.format == NCHW16C else count
            return [fn.load_lanes(type, base, present, p * step, align) for p in range(self.lanes)]
        rows = [fn.load_lanes(type, base, self.lanes, channel * step, align) for channel in range(count)]
        wide = [row if align == 4 else fn.convert_bits(fn.convert("zext", row, I32), vector(BLOCK)) for row in rows]
        columns = transpose(fn, [*wide, *([fn.zero(vector(BLOCK))] * (BLOCK - count))])[: self.lanes]
        return columns if align == 4 else [self._narrow(column) for column in columns]

    def _narrow(self, bits: Value) -> Value:
        return self.fn.convert("trunc", self.fn.convert_bits(bits, vector(BLOCK, I32)), I8)

    def _store(self, image: Value, block: Value, pixel: Value, count: int, values: Sequence[Value]) -> None:
        fn, bytes_out = self.fn, self.result.type.dtype != "float32"
        align = 1 if bytes_out else 4
        base, step = self._place(self.result, image, block, pixel)
        if self.result.type.format != LINEAR:
            blocked = self.result.type.format == NCHW16C
            for p, value in enumerate(values):
                kept = self._kept(value, count) if blocked else value
                fn.store_lanes(kept, base, BLOCK if blocked else count, p * step, align)
            return
        wide = [fn.convert_bits(fn.convert("zext", v, I32), vector(BLOCK)) if bytes_out else v for v in values]
        rows = transpose(fn, [*wide, *([fn.zero(vector(BLOCK))] * (BLOCK - len(wide)))])[:count]
        for channel, row in enumerate(rows):
            fn.store_lanes(self._narrow(row) if bytes_out else row, base, self.lanes, channel * step, align)

    def _kept(self, value: Value, count: int) -> Value:
        """Zero in the lanes of a block that are no channels."""
        if count == BLOCK:
            return value
        return self.fn.shuffle(value, self.fn.zero(value.type), [i if i < count else BLOCK for i in range(BLOCK)])

    def _place(self, operand: Operand, image: Value, block: Value, pixel: Value) -> tuple[Value, int]:
        """Where a tile begins, and bytes from pixel to pixel, or from plane to plane."""
        fn, format = self.fn, operand.type.format
        size = operand.type.numpy.itemsize
        if format == LINEAR:
            plane = self.pixels * size
            at = (image * self.channels + block * BLOCK) * plane + pixel * size
            return fn.offset(operand.pointer, at), plane
        if format == NHWC:
            step = self.channels * size
            return fn.offset(operand.pointer, (image * self.pixels + pixel) * step + block * (BLOCK * size)), step
        at = ((image * self.blocks + block) * self.pixels + pixel) * (BLOCK * size)
        return fn.offset(operand.pointer, at), BLOCK * size
