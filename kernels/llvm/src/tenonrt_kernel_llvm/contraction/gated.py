"""1x1 convolution of an input that is computed on the way: the gate of squeeze-and-excite, a scale, an activation.

The pointwise layers before the convolution are computed for a strip of pixels into scratch, where it stays in the cache
while all output channels are computed from it. A gate alone may go into the weights instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
from tenonrt.contracts import (
    NCHW16C,
    Array,
    Code,
    Dimension,
    GraphView,
    Layer,
    Problem,
    ProblemLayer,
    Support,
    Tactic,
    Weights,
)

from tenonrt_kernel_llvm.contraction.direct import strided_operands
from tenonrt_kernel_llvm.contraction.direct_recipes import Recipe, pack_weights, recipes
from tenonrt_kernel_llvm.contraction.direct_writer import DirectWriter, Work
from tenonrt_kernel_llvm.contraction.epilogue import (
    Epilogue,
    Place,
    bias_of,
    epilogue_rows,
    named,
    operand_formats,
    pack_epilogue,
    tail_refusal,
)
from tenonrt_kernel_llvm.contraction.geometry import Geometry, read_geometry
from tenonrt_kernel_llvm.contraction.microkernel import BLOCK_BYTES
from tenonrt_kernel_llvm.contraction.scaled_weights import (
    PREFIX,
    ScaledWeightsWriter,
    gate_of,
    scaled_recipes,
    workspace,
)
from tenonrt_kernel_llvm.contraction.tiles import Run, runs_of
from tenonrt_kernel_llvm.emitter import Index, Value
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.operations import refusal
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.tails import Reach, Tail, operand_reach, read_tail, regions_with_tail, tail_of
from tenonrt_kernel_llvm.target import BLOCK, Target, host_target

MAX_HEAD = 6
STRIPS = 8  # of an image, at least, where it has as many tiles
SCRATCH_BYTES = 1 << 17  # of a strip: a quarter of the smallest second-level cache in use


@dataclass(frozen=True)
class Parts:
    """A problem as the layers before the convolution, and the same problem from the convolution on."""

    head: Tail
    rest: Problem
    geometry: Geometry


def read_parts(problem: Problem) -> Parts | str:
    """The parts of a problem, or why it is not one of this kind."""
    kinds = problem.kinds
    if "Convolution" not in kinds[1:]:
        return "computes what comes before a convolution along with it; here nothing does"
    start = kinds.index("Convolution")
    rest = msgspec.structs.replace(problem, layers=problem.layers[start:])
    geometry = read_geometry(rest)
    if isinstance(geometry, str):
        return geometry
    if not geometry.flat or geometry.groups != 1:
        return "computes the input along with 1x1 convolutions of stride 1 only"
    head = _read_head(problem, problem.layers[:start], rest.layer.inputs[0])
    return head if isinstance(head, str) else Parts(head, rest, geometry)


def _read_head(problem: Problem, layers: Sequence[ProblemLayer], result: int) -> Tail | str:
    made, operands = set[int](), dict[int, Reach]()
    for layer in layers:
        why = refusal(problem, layer)
        if why:
            return f"before the convolution is {why}"
        for number in layer.inputs:
            if number in made or number < 0:
                continue
            spread = operand_reach(problem, number, result, 1)
            if spread is None or problem.types[number].dtype != "float32":
                return f"before the convolution is {problem.types[number]} beside {problem.types[result]}"
            operands[number] = spread
        made.update(layer.outputs)
    if layers[-1].outputs[0] != result or result in problem.outputs:
        return "what comes before the convolution is wanted elsewhere"
    return Tail(tuple(layers), operands, -1)


class GatedConvolution(LlvmKernel):
    """float32, 1x1, stride 1, any batch; constant weights; pointwise layers before and after."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        head = _head_layers(view, layer)
        if head:
            for region in regions_with_tail(view, layer):
                yield (*head, *region)

    def supports(self, problem: Problem) -> Support:
        parts = read_parts(problem)
        if isinstance(parts, str):
            return Support(False, parts)
        tail = read_tail(parts.rest)
        why = tail if isinstance(tail, str) else tail_refusal(parts.rest, tail) or tail_refusal(parts.rest, parts.head)
        return Support(False, why) if why else Support(True, runtime_symbols=runtime_symbols(problem))

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        parts = _parts(problem)
        tail = tail_of(parts.rest)
        formats = operand_formats(problem, tail, NCHW16C, NCHW16C)
        strided = strided_operands(problem, formats)
        kept = [r for r in recipes(parts.geometry, host_target()) if r.order == "p" and not r.planes]
        found: list[tuple[str, Dimension]] = [(r.key, 0) for r in kept]
        if gate_of(problem, parts.head) is not None:
            scaled = scaled_recipes(parts.geometry, host_target())
            found += [(PREFIX + r.key, workspace(parts.geometry, r)) for r in scaled]
        return [
            Tactic(key, formats, (NCHW16C,), workspace=nbytes, reads_strided=strided, writes_strided=(0,))
            for key, nbytes in found
        ]

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """As `DirectConvolution` packs, then the constants of the layers before."""
        parts, arrays = _parts(code.problem), named(code, weights)
        rest, geometry, tail = parts.rest, parts.geometry, tail_of(parts.rest)
        dense = arrays[rest.layer.inputs[1]].reshape(geometry.outputs, -1, 1, 1)
        return [
            pack_weights(dense, geometry, _recipe(code.tactic).tile.blocks, planes=False),
            *pack_epilogue(rest, tail, bias_of(rest), geometry.outputs, arrays),
            *pack_epilogue(rest, parts.head, -1, geometry.channels, arrays, padded=False),
        ]

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        parts = _parts(problem)
        rest, geometry = parts.rest, parts.geometry
        rows = epilogue_rows(rest, tail_of(rest), bias_of(rest), geometry.outputs)
        head = epilogue_rows(rest, parts.head, -1, geometry.channels, padded=False)
        routine = Routine(rest, tactic, target, packed=1 + rows + head)
        recipe, gate = _recipe(tactic), gate_of(problem, parts.head)
        if tactic.key.startswith(PREFIX):
            assert gate is not None
            source = next(n for n, spread in parts.head.operands.items() if spread == "full")
            code = ScaledWeightsWriter(routine, geometry, recipe, source, gate).code()
        else:
            code = _Gated(routine, parts, recipe, 1 + rows).code()
        return msgspec.structs.replace(code, problem=problem)


def _parts(problem: Problem) -> Parts:
    parts = read_parts(problem)
    assert not isinstance(parts, str), parts
    return parts


def _head_layers(view: GraphView, layer: Layer) -> list[Layer]:
    """The pointwise layers that only the convolution's input needs, nearest first in the end."""
    found: list[Layer] = []
    tensor = layer.inputs[0]
    while tensor is not None and len(found) < MAX_HEAD:
        producer = view.producer(tensor)
        if producer is None or view.layer_type(producer).pattern != "pointwise" or len(producer.outputs) != 1:
            break
        if view.is_output(tensor) or len(view.consumers(tensor)) != 1 or tensor.type.rank != 4:
            break
        large = [t for t in producer.inputs if t is not None and t.type.shape == tensor.type.shape]
        if len(large) != 1:
            break
        found.insert(0, producer)
        tensor = large[0]
    # A computed activation is cheaper where its producer can do it: what begins with one is left to that.
    gates = [i for i, member in enumerate(found) if any(_is_gate(t) for t in member.inputs)]
    return found[gates[0] :] if gates else []


def _is_gate(tensor: object) -> bool:
    constant, type = getattr(tensor, "constant", None), getattr(tensor, "type", None)
    return type is not None and constant is None and type.rank == 4 and all(d == 1 for d in type.shape[2:])


def even_runs(pixels: int, width: int) -> list[Run]:
    """The runs of an image. Of few tiles there is an even number, for each is a unit and threads are mostly even."""
    tiles = -(-pixels // width)
    tiles += tiles % 2 if tiles < min(STRIPS, pixels) else 0
    return runs_of(pixels, -(-pixels // tiles))


def _recipe(tactic: Tactic) -> Recipe:
    return Recipe.parse(tactic.key.removeprefix(PREFIX))


class _Gated(DirectWriter):
    """Writes the code of one recipe: strips of pixels, computed into scratch and multiplied there."""

    def __init__(self, routine: Routine, parts: Parts, recipe: Recipe, first: int) -> None:
        source = next(n for n, spread in parts.head.operands.items() if spread == "full")
        super().__init__(routine, parts.geometry, recipe, source)
        self.head = Epilogue(routine, -1, parts.geometry.channels, first, padded=False, tail=parts.head)
        self.input_plane = self.plane

    def code(self) -> Code:
        geometry, blocks = self.geometry, -(-self.geometry.channels // BLOCK)
        self.runs = even_runs(geometry.y.size * geometry.x.size, self.recipe.tile.width)
        width, tiles = max(run.width for run in self.runs), sum(run.count for run in self.runs)
        each = max(1, min(SCRATCH_BYTES // (blocks * BLOCK_BYTES * width), -(-tiles // STRIPS)))
        self.plane = each * width * BLOCK_BYTES
        strips = -(-tiles // each)

        def unit(number: Value) -> None:
            strip = number % strips
            self._strip(number // strips, strip * tiles // strips, (strip + 1) * tiles // strips)

        self.routine.phase(geometry.batch * strips, unit)
        return self.routine.code(scratch=blocks * self.plane)

    def _strip(self, image: Value, first: Value, last: Value) -> None:
        """Of the tiles [first, last)."""
        fn = self.fn
        begin, end = self._pixel(first), self._pixel(last)
        self._fill(image, begin, end)
        source = fn.offset(self.routine.scratch, begin * -BLOCK_BYTES)

        def group(number: Value, _: list[Value]) -> Sequence[Value]:
            weights = fn.offset(self.weights, number * self.weights_bytes())
            self.tiles(Work(image, number, source, weights, self.whole), 0, (first, last))
            return ()

        fn.loop(0, self.groups, group)

    def _pixel(self, tile: Index) -> Value:
        """The first pixel of a tile; tiles come in at most two widths, the wider first."""
        fn, wide = self.fn, self.runs[0]
        narrow = self.runs[-1].width
        value = fn.as_value(tile, "i64")
        before = fn.minimum(value, wide.count)
        return value * narrow + before * (wide.width - narrow) if len(self.runs) > 1 else value * wide.width

    def _fill(self, image: Value, begin: Value, end: Value) -> None:
        """Compute the layers before the convolution for pixels [begin, end) of every block of channels."""
        fn, geometry = self.fn, self.geometry

        def block(number: Value, _: list[Value]) -> Sequence[Value]:
            place = Place(image, number, number * self.input_plane)
            channel, full = self.head.channel_values(place, 0, BLOCK), self.head.full_bases(place)
            target = fn.offset(fn.offset(self.routine.scratch, number * self.plane), begin * -BLOCK_BYTES)

            def pixel(x: Value, _: list[Value]) -> Sequence[Value]:
                value = self.head.finish(dict(channel), full, BLOCK, x * BLOCK_BYTES)
                fn.store(value, target, x * BLOCK_BYTES)
                return ()

            fn.loop(begin, end, pixel)
            return ()

        fn.loop(0, -(-geometry.channels // BLOCK), block)
