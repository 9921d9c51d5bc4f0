"""Convolutions and fully connected layers in bfloat16, where a configuration permits it; sums are of float32.

Activations stay float32 in memory. Weights are rounded once, inputs as they are copied for the multiplication.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tenonrt.contracts import NCHW16C, Array, Code, Dimension, GraphView, Layer, Problem, Support, Tactic, Weights

from tenonrt_kernel_llvm.contraction.direct import strided_operands
from tenonrt_kernel_llvm.contraction.epilogue import Place, named, operand_formats
from tenonrt_kernel_llvm.contraction.filters import Filters, filters_of, read_filters
from tenonrt_kernel_llvm.contraction.fully_connected import matrices_of, read_matrices
from tenonrt_kernel_llvm.contraction.geometry import Geometry
from tenonrt_kernel_llvm.contraction.microkernel import BLOCK_BYTES, VECTOR
from tenonrt_kernel_llvm.contraction.pairs import DEPTH, Window, halved, pack_pairs, rounded
from tenonrt_kernel_llvm.contraction.pairs_writer import PairsWriter
from tenonrt_kernel_llvm.contraction.results import Piece
from tenonrt_kernel_llvm.emitter import Function, Index, Value
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.tails import regions_with_tail
from tenonrt_kernel_llvm.target import BLOCK, DOT_BF16, TILES_BF16, Target, bfloat16_targets

# The key of a tactic, and what its code is generated for.
WAYS = {"amx": TILES_BF16, "dot": DOT_BF16}
_RATES = {"amx": 200.0, "dot": 16.0}  # multiply-adds a cycle, for estimates
_LEAST_CHANNELS = BLOCK  # of fewer a step would be mostly padding


def _ways() -> list[str]:
    return [way for way, target in WAYS.items() if target in bfloat16_targets()]


class _Bfloat16(LlvmKernel):
    aggregates = True

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return regions_with_tail(view, layer)

    def supports(self, problem: Problem) -> Support:
        why = self.refusal(problem)
        if not why and not _ways():
            why = "the processor, or the target that was asked for, does not multiply bfloat16"
        return Support(False, why) if why else Support(True, runtime_symbols=runtime_symbols(problem))

    def refusal(self, problem: Problem) -> str:
        raise NotImplementedError

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        """Cycles of the multiplications, as if the clock were 3 GHz."""
        work = 0
        for layer in problem.layers:
            if layer.kind in ("Convolution", "FullyConnected"):
                weights, result = problem.types[layer.inputs[1]], problem.types[layer.outputs[0]]
                sizes = [d if isinstance(d, int) else 1 for d in result.shape]
                channels = sizes[1] if layer.kind == "Convolution" else sizes[-1]
                pixels = 1
                for size in sizes:
                    pixels *= size
                work += pixels // max(1, channels) * weights.concrete({})[0] * _depth(weights.concrete({}))
        return work / _RATES[tactic.key] / 3e9 / problem.threads


def _depth(shape: Sequence[int]) -> int:
    depth = 1
    for size in shape[1:]:
        depth *= size
    return depth


# convolution ----------------------------------------------------------------------------------------------------------


class Bfloat16Convolution(_Bfloat16):
    """Images in blocks of 16 channels, any window, stride, dilation, padding and batch, one group."""

    def refusal(self, problem: Problem) -> str:
        """Why a problem is not computed."""
        filters = read_filters(problem)
        if isinstance(filters, str):
            return filters
        if filters.geometry.groups > 1 or filters.geometry.channels < _LEAST_CHANNELS:
            return f"multiplies at least {_LEAST_CHANNELS} channels in one group"
        return ""

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        filters, results = filters_of(problem), tuple(range(len(problem.outputs)))
        formats = operand_formats(problem, filters.reach, NCHW16C, NCHW16C)
        common: dict[str, Any] = {
            "inputs": formats, "outputs": (NCHW16C,) * len(results), "precision": "bfloat16",
            "reads_strided": strided_operands(problem, formats), "writes_strided": results,
            "workspace": filters.geometry.batch * _copy_bytes(filters.geometry),
        }  # fmt: skip
        return [Tactic(way, **common) for way in _ways()]

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        filters, arrays = filters_of(code.problem), named(code, weights)
        dense = filters.dense(arrays)
        return [pack_pairs(dense.reshape(*dense.shape[:2], -1)), *filters.pack_epilogues(arrays)]

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        filters = filters_of(problem)
        routine = Routine(problem, tactic, WAYS[tactic.key], packed=1 + sum(filters.rows))
        return _convolve(routine, filters, tactic.key)


def _copied(geometry: Geometry) -> tuple[int, int]:
    """Lines and pixels of an image's copy: what windows reach, or of single elements only those that are read."""
    y, x = geometry.y, geometry.x
    if y.window == x.window == 1:
        return y.output, x.output
    return (
        (y.output - 1) * y.stride + (y.window - 1) * y.dilation + 1,
        (x.output - 1) * x.stride + (x.window - 1) * x.dilation + 1,
    )


def _copy_bytes(geometry: Geometry) -> int:
    lines, width = _copied(geometry)
    return -(-lines * width * 2 * rounded(geometry.channels) // 64) * 64


def _window(geometry: Geometry) -> Window:
    y, x, pixel = geometry.y, geometry.x, 2 * rounded(geometry.channels)
    steps = rounded(geometry.channels) // DEPTH
    if y.window == x.window == 1:
        return Window(1, y.output * x.output, 0, pixel, (1, 0), (1, 0), steps)
    line = _copied(geometry)[1] * pixel
    return Window(
        y.output, x.output, y.stride * line, x.stride * pixel,
        (y.window, y.dilation * line), (x.window, x.dilation * pixel), steps,
    )  # fmt: skip


def _convolve(routine: Routine, filters: Filters, way: str) -> Code:
    geometry, problem = filters.geometry, routine.problem
    source = routine.inputs[problem.activations.index(problem.layer.inputs[0])]
    image_bytes, lines = _copy_bytes(geometry), _copied(geometry)[0]
    writer = PairsWriter(routine, way, _window(geometry), filters.results(routine), geometry.batch, image_bytes)
    fn, plane = routine.function, geometry.y.output * geometry.x.output * BLOCK_BYTES

    def copy(unit: Value) -> None:
        image, line = unit // lines, unit % lines
        begin = fn.offset(source.pointer, image * source.strides[0])
        target = fn.offset(routine.workspace, image * image_bytes)
        _copy_line(fn, geometry, begin, target, line)

    def placed(piece: Piece, image: Value, group: Value, pixel: Value) -> tuple[Place, tuple[int, int]]:
        block = group * 2 + (piece.start - piece.result.first)
        return Place(image, block, block * plane + pixel * BLOCK_BYTES), (0, plane)

    return writer.code(geometry.batch * lines, copy, placed)


def _copy_line(fn: Function, geometry: Geometry, source: Value, target: Value, line: Value) -> None:
    """A line of the copy: pixels of the image, zeros around it."""
    y, x, width = geometry.y, geometry.x, _copied(geometry)[1]
    pixel, row = 2 * rounded(geometry.channels), geometry.x.size * BLOCK_BYTES
    single = y.window == x.window == 1
    step_y, step_x = (y.stride, x.stride) if single else (1, 1)
    at = fn.offset(target, line * (width * pixel))
    there = line * step_y + -y.padding
    first = min(width, -(-x.padding // step_x))  # pixels of the copy before the image, and the first one behind it
    last = max(first, min(width, (x.size - 1 + x.padding) // step_x + 1))

    def inside() -> None:
        _zeros(fn, at, first * pixel)
        begin = fn.offset(source, there * row + (first * step_x - x.padding) * BLOCK_BYTES)
        _copy_pixels(fn, geometry, begin, fn.offset(at, first * pixel), last - first, step_x)
        _zeros(fn, fn.offset(at, last * pixel), (width - last) * pixel)

    # Negative as an unsigned number is large, so one comparison finds lines on either side of the image.
    fn.when(fn.compare("ult", there, y.size), inside, lambda: _zeros(fn, at, width * pixel))


def _copy_pixels(fn: Function, geometry: Geometry, source: Value, target: Value, count: int, step: int) -> None:
    pixel, blocks = 2 * rounded(geometry.channels), -(-geometry.channels // BLOCK)
    plane = geometry.y.size * geometry.x.size * BLOCK_BYTES

    def one(x: Value, _: list[Value]) -> Sequence[Value]:
        begin, at = fn.offset(source, x * (step * BLOCK_BYTES)), fn.offset(target, x * pixel)

        def both(number: Value, _: list[Value]) -> Sequence[Value]:
            low = fn.load(VECTOR, fn.offset(begin, number * (2 * plane)))
            high = fn.load(VECTOR, fn.offset(begin, number * (2 * plane)), plane)
            fn.store(halved(fn, low, high), fn.offset(at, number * (2 * DEPTH)), 0, 2)
            return ()

        fn.loop(0, blocks // 2, both)
        if blocks % 2:
            low = fn.load(VECTOR, begin, (blocks - 1) * plane)
            fn.store(halved(fn, low, fn.zero(VECTOR)), at, (blocks - 1) * BLOCK * 2, 2)
        return ()

    fn.loop(0, count, one)


def _zeros(fn: Function, target: Value, nbytes: Index) -> None:
    """Lines and pixels are whole numbers of 64 bytes."""

    def some(number: Value, _: list[Value]) -> Sequence[Value]:
        fn.store(fn.zero(VECTOR), fn.offset(target, number * BLOCK_BYTES))
        return ()

    fn.loop(0, nbytes // BLOCK_BYTES, some)


# fully connected ------------------------------------------------------------------------------------------------------


class Bfloat16Product(_Bfloat16):
    """Rows of a known number times constant weights."""

    def refusal(self, problem: Problem) -> str:
        """Why a problem is not computed."""
        found = read_matrices(problem)
        if isinstance(found, str):
            return found
        if not isinstance(found.product.rows, int) or not found.product.rows:
            return "the number of rows must be known"
        return "" if found.product.depth >= DEPTH else f"sums at least {DEPTH} products"

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        product = matrices_of(problem).product
        workspace: Dimension = product.rows * (2 * rounded(product.depth))
        return [Tactic(way, precision="bfloat16", workspace=workspace) for way in _ways()]

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        found, arrays = matrices_of(code.problem), named(code, weights)
        dense = found.dense(arrays)
        return [pack_pairs(dense[..., None]), *found.pack_epilogues(arrays)]

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        found = matrices_of(problem)
        product = found.product
        assert isinstance(product.rows, int)
        routine = Routine(problem, tactic, WAYS[tactic.key], packed=1 + sum(found.rows))
        fn, row = routine.function, 2 * rounded(product.depth)
        source = routine.inputs[problem.activations.index(problem.layer.inputs[0])]
        window = Window(1, product.rows, 0, row, (1, 0), (1, 0), row // (2 * DEPTH))
        writer = PairsWriter(routine, tactic.key, window, found.results(routine), 1, 0)

        def copy(unit: Value) -> None:
            begin = fn.offset(source.pointer, unit * (4 * product.depth))
            _copy_row(fn, begin, fn.offset(routine.workspace, unit * row), product.depth)

        def placed(piece: Piece, _: Value, group: Value, pixel: Value) -> tuple[Place, tuple[int, int]]:
            block, row_bytes = group * 2 + (piece.start - piece.result.first), 4 * piece.result.channels
            return Place(0, block, pixel * row_bytes + block * BLOCK_BYTES), (row_bytes, BLOCK_BYTES)

        return writer.code(product.rows, copy, placed)


def _copy_row(fn: Function, source: Value, target: Value, depth: int) -> None:
    def some(number: Value, _: list[Value]) -> Sequence[Value]:
        at = fn.offset(source, number * (4 * DEPTH))
        found = halved(fn, fn.load(VECTOR, at), fn.load(VECTOR, at, BLOCK_BYTES))
        fn.store(found, fn.offset(target, number * (2 * DEPTH)), 0, 2)
        return ()

    whole, rest = divmod(depth, DEPTH)
    fn.loop(0, whole, some)
    if rest:
        at = fn.offset(source, whole * 4 * DEPTH)
        low = fn.load_lanes(VECTOR, at, min(rest, BLOCK))
        high = fn.load_lanes(VECTOR, at, rest - BLOCK, BLOCK_BYTES) if rest > BLOCK else fn.zero(VECTOR)
        fn.store(halved(fn, low, high), target, whole * 2 * DEPTH, 2)
