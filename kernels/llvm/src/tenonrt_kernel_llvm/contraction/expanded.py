"""A convolution and the depthwise one that reads it, as in inverted residuals: rows between the two stay in the cache.

The first makes more channels than a cache holds of a whole image, and the second reads each of them once. Here a unit
computes a strip of rows of a few blocks of channels: each new row of the first convolution goes into a ring of as many
rows as the second one's window spans. Rows under two strips are computed in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import msgspec
from tenonrt.contracts import (
    LINEAR,
    NCHW16C,
    Array,
    Code,
    GraphView,
    Layer,
    Problem,
    Support,
    Tactic,
    Weights,
    only_reader,
)

from tenonrt_kernel_llvm.contraction.depthwise import DepthwiseWriter, pack_windows, widths
from tenonrt_kernel_llvm.contraction.direct import strided_operands
from tenonrt_kernel_llvm.contraction.direct_recipes import Recipe, cycles, pack_weights, recipes
from tenonrt_kernel_llvm.contraction.direct_writer import DirectWriter, Work
from tenonrt_kernel_llvm.contraction.epilogue import (
    Epilogue,
    Place,
    bias_of,
    epilogue_rows,
    named,
    operand_formats,
    pack_epilogue,
    reads_source,
    tail_refusal,
)
from tenonrt_kernel_llvm.contraction.filters import filters_of
from tenonrt_kernel_llvm.contraction.geometry import Axis, Geometry, read_geometry
from tenonrt_kernel_llvm.contraction.microkernel import BLOCK_BYTES
from tenonrt_kernel_llvm.contraction.pooled import Pooled, read_pooled, regions_with_mean
from tenonrt_kernel_llvm.contraction.results import results_of
from tenonrt_kernel_llvm.contraction.tiles import runs_of
from tenonrt_kernel_llvm.emitter import I64, Index, Value
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.tails import Tail, read_tail, regions_with_tail
from tenonrt_kernel_llvm.target import Target, host_target

MOST_TILES = 3  # of the first convolution that are tried
UNITS = (8, 32)  # at least so many, for few threads and for many


@dataclass(frozen=True)
class Part:
    """One of the two convolutions: the problem up to its result, or from it on, its geometry and its tail."""

    problem: Problem
    geometry: Geometry
    tail: Tail

    @property
    def rows(self) -> int:
        """Arrays that its epilogue packs."""
        return epilogue_rows(self.problem, self.tail, bias_of(self.problem), self.geometry.outputs)

    def pack_epilogue(self, arrays: dict[int, Array]) -> list[Array]:
        """Bias, constants and mask of its channels."""
        return pack_epilogue(self.problem, self.tail, bias_of(self.problem), self.geometry.outputs, arrays)


@dataclass(frozen=True)
class Choice:
    """What a tactic's key says: ``p9x3-w8-s4``: the tiles of both convolutions, and strips of an image."""

    recipe: Recipe
    width: int
    strips: int

    @property
    def key(self) -> str:
        return f"{self.recipe.key}-w{self.width}-s{self.strips}"

    @classmethod
    def parse(cls, key: str) -> Choice:
        recipe, width, strips = key.rsplit("-", 2)
        return cls(Recipe.parse(recipe), int(width[1:]), int(strips[1:]))


def read_parts(problem: Problem) -> tuple[Part, Part] | str:
    """The two convolutions of a problem, or why it is not one of this kind."""
    problem = read_pooled(problem).problem
    kinds = problem.kinds
    if kinds[0] != "Convolution" or "Convolution" not in kinds[1:]:
        return "computes a convolution and the depthwise one after it"
    start = kinds.index("Convolution", 1)
    between = problem.layers[start].inputs[0]
    if between in problem.outputs or any(between in layer.inputs[1:] for layer in problem.layers[start:]):
        return "what lies between the convolutions is wanted elsewhere"
    first = _read_part(msgspec.structs.replace(problem, layers=problem.layers[:start], outputs=(between,)))
    second = _read_part(msgspec.structs.replace(problem, layers=problem.layers[start:]))
    if isinstance(first, str) or isinstance(second, str):
        return first if isinstance(first, str) else str(second)
    if first.geometry.groups != 1 or not second.geometry.depthwise:
        return "the first convolution must have one group, the second one filter for each channel"
    if "full" in first.tail.operands.values():
        return "the first convolution's tail reads another tensor as large as its result"
    return first, second


def _read_part(problem: Problem) -> Part | str:
    geometry, tail = read_geometry(problem), read_tail(problem)
    if isinstance(geometry, str) or isinstance(tail, str):
        return geometry if isinstance(geometry, str) else str(tail)
    return tail_refusal(problem, tail) or Part(problem, geometry, tail)


class ExpandedConvolution(LlvmKernel):
    """float32, 1 or 2 spatial axes, any windows, strides, dilations, padding and batch; constant weights."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        for region in regions_with_tail(view, layer):
            reader = only_reader(view, region[-1].outputs[0])
            if reader is not None and _is_depthwise(reader):
                for rest in regions_with_tail(view, reader):
                    yield from regions_with_mean(view, (*region, *rest))

    def supports(self, problem: Problem) -> Support:
        parts = read_parts(problem)
        if isinstance(parts, str):
            return Support(False, parts)
        if not choices(parts[0].geometry, parts[1].geometry, host_target()):
            return Support(False, "no tile of whole blocks divides the channels between the convolutions")
        return Support(True, runtime_symbols=runtime_symbols(problem))

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        (first, second), pooled = _parts(problem), read_pooled(problem)
        workspace = pooled.workspace(second.geometry)
        found = []
        for choice in choices(first.geometry, second.geometry, host_target()):
            if choice.recipe.planes and reads_source(problem, second.tail):
                continue
            source = LINEAR if choice.recipe.planes else NCHW16C
            formats = operand_formats(problem, second.tail, source, NCHW16C)
            strided = strided_operands(problem, formats)
            found.append(
                Tactic(
                    choice.key, formats, (NCHW16C,) * len(problem.outputs), workspace=workspace, reads_strided=strided,
                    writes_strided=(pooled.result,),
                )
            )  # fmt: skip
        return found

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        """Cycles of both, with the rows that strips share, as if the clock were 3 GHz."""
        first, second = (part.geometry for part in _parts(problem))
        choice, axis = Choice.parse(tactic.key), second.y
        shared = max(0, _span(axis) - axis.stride) * (choice.strips - 1) / axis.size
        batch = second.batch if isinstance(second.batch, int) else 1
        vectors = second.output_blocks * host_target().registers_per_block * second.y.output * second.x.output
        second_cycles = batch * vectors * second.y.window * second.x.window
        return (cycles(first, choice.recipe, host_target()) * (1 + shared) + second_cycles) / 3e9 / problem.threads

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """What `DepthwiseConvolution` packs, then what `DirectConvolution` does."""
        (first, second), arrays = _parts(code.problem), named(code, weights)
        recipe, axes = Choice.parse(code.tactic.key).recipe, (second.geometry.y, second.geometry.x)
        return [
            pack_windows(arrays[second.problem.layer.inputs[1]].reshape(-1, *(axis.window for axis in axes))),
            *second.pack_epilogue(arrays),
            pack_weights(filters_of(first.problem).dense(arrays), first.geometry, recipe.tile.blocks, recipe.planes),
            *first.pack_epilogue(arrays),
        ]

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        first, second = _parts(problem)
        posed = msgspec.structs.replace(problem, layers=second.problem.layers)  # with the mean among the outputs
        routine = Routine(posed, tactic, target, packed=2 + first.rows + second.rows)
        pooled = replace(read_pooled(problem), problem=second.problem)
        writer = _Writer(routine, first, second, Choice.parse(tactic.key), pooled)
        return msgspec.structs.replace(writer.code(), problem=problem)


def choices(first: Geometry, second: Geometry, target: Target) -> list[Choice]:
    """Tiles whose blocks divide the channels between, with few or many units; best guess first."""
    blocks = first.output_blocks
    tiles = [r for r in recipes(first, target) if r.order == "p" and blocks % r.tile.blocks == 0][:MOST_TILES]
    found = []
    for recipe in tiles:
        groups = blocks // recipe.tile.blocks
        strips = dict.fromkeys(_strips(second.y.output, groups, units) for units in UNITS)
        found += [Choice(recipe, widths(second, target)[0], count) for count in strips]
    return found


def _strips(rows: int, groups: int, units: int) -> int:
    """So many that there are as many units, and an even number of them: threads are mostly even."""
    strips = min(rows, -(-units // groups))
    return strips + 1 if groups * strips % 2 and strips < rows else strips


def _parts(problem: Problem) -> tuple[Part, Part]:
    parts = read_parts(problem)
    assert not isinstance(parts, str), parts
    return parts


def _is_depthwise(layer: Layer) -> bool:
    """Whether a layer may be the second convolution; the kernel looks closer once it is posed."""
    if layer.kind != "Convolution":
        return False
    weights = layer.inputs[1]
    return weights is not None and weights.type.rank > 2 and weights.type.shape[1] == 1


def _span(axis: Axis) -> int:
    """Rows under a window at once."""
    return (axis.window - 1) * axis.dilation + 1


class _Rows(DirectWriter):
    """The first convolution, row by row into a ring: of each block of channels, ``span`` rows."""

    def __init__(self, routine: Routine, part: Part, recipe: Recipe, packed: int, span: int) -> None:
        problem, channels = part.problem, part.geometry.outputs
        epilogue = Epilogue(routine, bias_of(problem), channels, packed + 1, tail=part.tail)
        own = results_of([(epilogue, channels)])
        super().__init__(routine, part.geometry, recipe, problem.layer.inputs[0], own)
        self.weights = routine.packed[packed]
        self.span = min(span, part.geometry.y.output)
        self.line = part.geometry.x.output * BLOCK_BYTES
        if part.geometry.flat:  # whose tiles would otherwise run on from row to row
            self.runs = runs_of(part.geometry.x.output, recipe.tile.width)

    def scratch_bytes(self) -> int:
        return self.recipe.tile.blocks * self.ring

    @property
    def ring(self) -> int:
        """Bytes of one block's rows."""
        return self.span * self.line

    def kept(self, y: Value) -> Value:
        """Where row y of the first block is."""
        return self.fn.offset(self.routine.scratch, y % self.span * self.line)

    def store(self, work: Work, y: Index, x: Value, sums: Sequence[Value]) -> None:
        assert isinstance(y, Value)
        place = Place(work.image, work.group * self.recipe.tile.blocks, 0)
        whole, target = [self._whole(total) for total in sums], self.fn.offset(self.kept(y), x * BLOCK_BYTES)
        epilogue = self.results[0].epilogue
        steps = (BLOCK_BYTES, self.ring)
        epilogue.store(whole, self.recipe.tile.blocks, place, steps, elsewhere=target, biased=self.biased)


class _Writer:
    """Writes the code of one choice: strips of rows, in each of them both convolutions by turns."""

    def __init__(self, routine: Routine, first: Part, second: Part, choice: Choice, pooled: Pooled) -> None:
        self.routine, self.fn, self.choice, self.geometry = routine, routine.function, choice, second.geometry
        self.span = _span(self.geometry.y)
        self.rows = _Rows(routine, first, choice.recipe, 1 + second.rows, self.span)
        self.second = DepthwiseWriter(routine, self.geometry, choice.width, routine.target, pooled=pooled)

    def code(self) -> Code:
        groups, rows, strips = self.rows.groups, self.geometry.y.output, self.choice.strips

        def unit(number: Value) -> None:
            rest, strip = number // strips, number % strips
            part = strip * rows // strips, (strip + 1) * rows // strips
            self._strip(self.rows.work(rest // groups, rest % groups), part)

        self.routine.phase(self.geometry.batch * (groups * strips), unit)
        if self.second.means is not None:
            self.second.means.phase()
        return self.routine.code(self.rows.scratch_bytes())

    def _strip(self, work: Work, part: tuple[Value, Value]) -> None:
        """Rows [a, b) of the second convolution."""
        fn, axis = self.fn, self.geometry.y

        def made(number: Value, _: list[Value]) -> Sequence[Value]:
            self.rows.tiles(work, number)
            return ()

        def row(y: Value, carried: list[Value]) -> Sequence[Value]:
            begin = y * axis.stride + -axis.padding
            end = fn.as_value(fn.maximum(carried[0], fn.minimum(begin + self.span, axis.size)), I64)
            fn.loop(fn.maximum(carried[0], begin), end, made)
            self._read(work, y, begin)
            return [end]

        fn.loop(*part, row, [fn.constant(I64, 0)])

    def _read(self, work: Work, y: Value, begin: Value) -> None:
        """Row y of the second convolution, from the rows in the ring."""
        fn, dilation, blocks = self.fn, self.geometry.y.dilation, self.choice.recipe.tile.blocks

        def block(number: Value, _: list[Value]) -> Sequence[Value]:
            shift = number * self.rows.ring

            def line(window: Value) -> Value:
                return fn.offset(self.rows.kept(begin + window * dilation), shift)

            self.second.output_row(work.image, work.group * blocks + number, y, line)
            return ()

        fn.loop(0, blocks, block)
