"""Convolution of 3x3 windows by Winograd's minimal filtering: 2.25 or 4 times fewer multiplications than outputs have
with stride 1, 1.44 or 1.78 times with stride 2.

Tiles of the image are transformed to points, each point is a matrix product over channels, and the products
are transformed back. Fused tactics take a few tiles from input to output within a thread's cache; phased ones transform
all tiles first, so that each weight is read once. An infinite input makes NaN of its whole tile: transforms subtract.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tenonrt.contracts import NCHW16C, Array, Code, GraphView, Layer, Problem, Support, Tactic, Weights

from tenonrt_kernel_llvm.contraction.direct import strided_operands
from tenonrt_kernel_llvm.contraction.epilogue import (
    Epilogue,
    bias_of,
    epilogue_rows,
    named,
    operand_formats,
    overwritable,
    pack_epilogue,
    tail_refusal,
)
from tenonrt_kernel_llvm.contraction.geometry import Geometry, geometry_of, read_geometry
from tenonrt_kernel_llvm.contraction.microkernel import BLOCK_BYTES, VECTOR, Steps, accumulate
from tenonrt_kernel_llvm.contraction.tiles import Run
from tenonrt_kernel_llvm.contraction.winograd_recipes import Plan, Recipe, cycles, recipes
from tenonrt_kernel_llvm.contraction.winograd_tiles import TileTransforms
from tenonrt_kernel_llvm.contraction.winograd_transforms import WINDOW, transform_weights
from tenonrt_kernel_llvm.emitter import Index, Value
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.tails import read_tail, regions_with_tail, tail_of
from tenonrt_kernel_llvm.target import BLOCK, Target, host_target

PHASE_TILES = 16  # transformed in one unit of a phase


class WinogradConvolution(LlvmKernel):
    """float32, windows of 3x3 and stride 1 or 2, any padding, channels and batch; constant weights; pointwise tails."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return regions_with_tail(view, layer)

    def supports(self, problem: Problem) -> Support:
        geometry, tail = read_geometry(problem), read_tail(problem)
        if isinstance(geometry, str) or isinstance(tail, str):
            return Support(False, geometry if isinstance(geometry, str) else str(tail))
        why = refusal(geometry) or tail_refusal(problem, tail)
        if not why and not self.recipes(geometry, problem):
            why = "the direct method should be faster"
        return Support(False, why) if why else Support(True, runtime_symbols=runtime_symbols(problem))

    def recipes(self, geometry: Geometry, problem: Problem) -> Sequence[Recipe]:
        return recipes(geometry, host_target(), problem.threads)

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        geometry, tail = geometry_of(problem), tail_of(problem)
        formats = operand_formats(problem, tail, NCHW16C, NCHW16C)
        strided = strided_operands(problem, formats)
        found = []
        for recipe in self.recipes(geometry, problem):
            plan = Plan(geometry, recipe)
            workspace = 0 if recipe.tiles else geometry.batch * (plan.inputs.nbytes + plan.outputs.nbytes)
            found.append(
                Tactic(
                    recipe.key, formats, (NCHW16C,), workspace=workspace, exact=recipe.size == 2,
                    inplace=overwritable(problem, [tail], formats, NCHW16C), reads_strided=strided, writes_strided=(0,),
                )
            )  # fmt: skip
        return found

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        """Cycles from end to end, as if the clock were 3 GHz."""
        return cycles(geometry_of(problem), Recipe.parse(tactic.key), host_target(), problem.threads) / 3e9

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Transformed weights in the order in which the tactic reads them, then the epilogue's."""
        problem, recipe = code.problem, Recipe.parse(code.tactic.key)
        geometry, tail, arrays = geometry_of(problem), tail_of(problem), named(code, weights)
        dense = arrays[problem.layer.inputs[1]]
        packed = transform_weights(
            dense, recipe.size, geometry.y.stride, recipe.tile.blocks, group_first=recipe.tiles > 0
        )
        return [packed, *pack_epilogue(problem, tail, bias_of(problem), geometry.outputs, arrays)]

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        recipe = Recipe.parse(tactic.key)
        geometry = geometry_of(problem)
        rows = epilogue_rows(problem, tail_of(problem), bias_of(problem), geometry.outputs)
        writer = _Winograd(Routine(problem, tactic, target, packed=1 + rows), Plan(geometry, recipe))
        return writer.fused() if recipe.tiles else writer.phased()


def refusal(geometry: Geometry) -> str:
    """Why a convolution is none of 3x3 with stride 1 or 2; empty when it is."""
    if geometry.groups > 1:
        return f"{geometry.groups} groups"
    for axis in (geometry.y, geometry.x):
        if (axis.window, axis.dilation) != (WINDOW, 1):
            return f"a window of {axis.window} with dilation {axis.dilation} is not 3 and 1"
    strides = geometry.y.stride, geometry.x.stride
    return "" if strides in ((1, 1), (2, 2)) else f"strides {strides[0]} and {strides[1]} are not both 1 or both 2"


class _Winograd:
    """Writes the code of one recipe."""

    def __init__(self, routine: Routine, plan: Plan) -> None:
        self.routine, self.fn, self.plan = routine, routine.function, plan
        problem, geometry = routine.problem, plan.geometry
        self.source = routine.inputs[problem.activations.index(problem.layer.inputs[0])]
        self.source_block = geometry.y.size * geometry.x.size * BLOCK_BYTES
        self.weights = routine.packed[0]
        self.epilogue = Epilogue(routine, bias_of(problem), geometry.outputs, 1)
        self.transforms = TileTransforms(self.fn, plan.grid)

    # a few tiles at a time -------------------------------------------------------------------------------------------

    def fused(self) -> Code:
        """Units of a few tiles, in memory of the thread's own."""
        fn, plan = self.fn, self.plan
        inputs = self.routine.scratch
        outputs = fn.offset(inputs, plan.inputs.nbytes)

        def unit(number: Value) -> None:
            image, first = number // plan.units, number % plan.units * plan.tiles
            count = plan.tiles if plan.grid.tiles % plan.tiles == 0 else fn.minimum(plan.tiles, plan.grid.tiles - first)
            self._read_tiles(image, first, count, inputs)
            fn.loop(0, plan.groups, lambda group, _: self._group(image, group, first, count, inputs, outputs))

        self.routine.phase(plan.geometry.batch * plan.units, unit)
        return self.routine.code(plan.inputs.nbytes + plan.outputs.nbytes)

    def _read_tiles(self, image: Value, first: Value, count: Index, inputs: Value) -> None:
        """The points of these tiles for every block of input channels."""
        fn, plan = self.fn, self.plan
        source = fn.offset(self.source.pointer, image * self.source.strides[0])

        def block(number: Value, _: list[Value]) -> Sequence[Value]:
            base, target = fn.offset(source, number * self.source_block), fn.offset(inputs, number * plan.inputs.block)

            def tile(index: Value, _: list[Value]) -> Sequence[Value]:
                self.transforms.read(base, first + index, fn.offset(target, index * BLOCK_BYTES), plan.inputs.step)
                return ()

            fn.loop(0, count, tile)
            return ()

        fn.loop(0, plan.input_blocks, block)

    def _group(
        self, image: Value, group: Value, first: Value, count: Index, inputs: Value, outputs: Value
    ) -> Sequence[Value]:
        """Multiply and transform back one group of output blocks."""
        fn, plan, blocks = self.fn, self.plan, self.plan.recipe.tile.blocks
        points = plan.grid.points
        weights = fn.offset(self.weights, group * (plan.grid.matrices * plan.matrix_bytes))

        def point(number: Value, _: list[Value]) -> Sequence[Value]:
            self._multiply(
                fn.offset(inputs, number * plan.inputs.step),
                fn.offset(weights, plan.grid.matrix(fn, number) * plan.matrix_bytes),
                fn.offset(outputs, number * plan.outputs.step),
            )
            return ()

        def back(index: Value, _: list[Value]) -> Sequence[Value]:
            block, tile = group * blocks + index // count, index % count
            at = index // count * plan.outputs.block + tile * BLOCK_BYTES
            self.transforms.write(
                fn.offset(outputs, at), plan.outputs.step, first + tile, image, block, self.epilogue
            )  # fmt: skip
            return ()

        fn.loop(0, points, point)
        there = fn.minimum(blocks, plan.geometry.output_blocks - group * blocks)
        if plan.geometry.output_blocks % blocks == 0:
            there = blocks
        fn.loop(0, there * count if isinstance(there, Value) else count * there, back)
        return ()

    # all tiles in phases ---------------------------------------------------------------------------------------------

    def phased(self) -> Code:
        """Points of an image's tiles, then products, lie in the workspace, image after image."""
        plan, batch = self.plan, self.plan.geometry.batch
        chunks = -(-plan.grid.tiles // PHASE_TILES)
        self.routine.phase(batch * plan.input_blocks * chunks, lambda unit: self._transform_unit(unit, chunks))
        self.routine.phase(plan.grid.points * plan.groups * batch, self._multiply_unit)
        blocks = plan.geometry.output_blocks
        self.routine.phase(batch * blocks * chunks, lambda unit: self._inverse_unit(unit, chunks))
        return self.routine.code()

    def _image(self, image: Value) -> Value:
        """The workspace of an image."""
        return self.fn.offset(self.routine.workspace, image * (self.plan.inputs.nbytes + self.plan.outputs.nbytes))

    def _chunk(self, chunk: Value) -> tuple[Value, Index]:
        first = chunk * PHASE_TILES
        return first, self.fn.minimum(first + PHASE_TILES, self.plan.grid.tiles)

    def _transform_unit(self, unit: Value, chunks: int) -> None:
        fn, plan = self.fn, self.plan
        rest, chunk = unit // chunks, unit % chunks
        image, block = rest // plan.input_blocks, rest % plan.input_blocks
        source = fn.offset(self.source.pointer, image * self.source.strides[0])
        source = fn.offset(source, block * self.source_block)
        target = fn.offset(self._image(image), block * plan.inputs.block)

        def tile(index: Value, _: list[Value]) -> Sequence[Value]:
            self.transforms.read(source, index, fn.offset(target, index * BLOCK_BYTES), plan.inputs.step)
            return ()

        fn.loop(*self._chunk(chunk), tile)

    def _multiply_unit(self, unit: Value) -> None:
        """Images innermost: they share a matrix of weights."""
        fn, plan = self.fn, self.plan
        batch = self.routine.dimension(plan.geometry.batch)
        product, image = unit // batch, unit % batch
        point, group = product // plan.groups, product % plan.groups
        matrix = plan.grid.matrix(fn, point) * plan.groups + group
        base = self._image(image)
        outputs = fn.offset(fn.offset(base, point * plan.outputs.step), plan.inputs.nbytes)
        self._multiply(
            fn.offset(base, point * plan.inputs.step),
            fn.offset(self.weights, matrix * plan.matrix_bytes),
            fn.offset(outputs, group * (plan.recipe.tile.blocks * plan.outputs.block)),
        )

    def _inverse_unit(self, unit: Value, chunks: int) -> None:
        fn, plan = self.fn, self.plan
        rest, chunk = unit // chunks, unit % chunks
        image, block = rest // plan.geometry.output_blocks, rest % plan.geometry.output_blocks
        source = fn.offset(fn.offset(self._image(image), plan.inputs.nbytes), block * plan.outputs.block)

        def tile(index: Value, _: list[Value]) -> Sequence[Value]:
            at = fn.offset(source, index * BLOCK_BYTES)
            self.transforms.write(at, plan.outputs.step, index, image, block, self.epilogue)
            return ()

        fn.loop(*self._chunk(chunk), tile)

    # both ------------------------------------------------------------------------------------------------------------

    def _multiply(self, inputs: Value, weights: Value, outputs: Value) -> None:
        """The products of one point for one group of output blocks and all tiles."""
        plan, fn = self.plan, self.fn
        share = plan.prefetched

        def tile(number: Value, _: list[Value], run: Run) -> Sequence[Value]:
            shift = (number * run.width + run.start) * BLOCK_BYTES
            ahead = fn.offset(weights, (number + run.first) * (share * BLOCK_BYTES) + plan.matrix_bytes)
            self._register_tile(
                fn.offset(inputs, shift), weights, fn.offset(outputs, shift), run.width, ahead if share else None
            )
            return ()

        for run in plan.runs:
            fn.loop(0, run.count, lambda number, carried, run=run: tile(number, carried, run))  # type: ignore[misc]

    def _register_tile(self, inputs: Value, weights: Value, outputs: Value, width: int, ahead: Value | None) -> None:
        fn, plan, blocks = self.fn, self.plan, self.plan.recipe.tile.blocks
        pixels = [(p, p * BLOCK_BYTES) for p in range(width)]
        step = blocks * BLOCK_BYTES
        whole, rest = divmod(plan.geometry.channels, BLOCK)

        def block(number: Value, sums: list[Value]) -> Sequence[Value]:
            at, where = fn.offset(inputs, number * plan.inputs.block), fn.offset(weights, number * (BLOCK * step))
            for line in range(plan.prefetched):
                assert ahead is not None
                fn.prefetch(ahead, number * (BLOCK * step) + line * BLOCK_BYTES)
            return accumulate(fn, sums, blocks, at, where, pixels, Steps(BLOCK, 4, step))

        sums = fn.loop(0, whole, block, [fn.zero(VECTOR)] * (width * blocks))
        if rest:
            at, where = fn.offset(inputs, whole * plan.inputs.block), fn.offset(weights, whole * BLOCK * step)
            sums = accumulate(fn, sums, blocks, at, where, pixels, Steps(rest, 4, step))
        for index, value in enumerate(sums):
            pixel, number = divmod(index, blocks)
            fn.store(value, outputs, pixel * BLOCK_BYTES + number * plan.outputs.block)
