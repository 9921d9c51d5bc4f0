"""Which Winograd tactics a convolution is offered, by a rough count of cycles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tenonrt_kernel_llvm.contraction import direct
from tenonrt_kernel_llvm.contraction.geometry import Geometry
from tenonrt_kernel_llvm.contraction.tiles import Run, Tile, runs_of, tiles_for
from tenonrt_kernel_llvm.contraction.winograd_tiles import Grid, Panel
from tenonrt_kernel_llvm.target import BLOCK, Target

MOST = 6
WORTH = 1.3  # times the direct method's estimate: worse ones are not offered
PRIVATE_BYTES = 3 << 17  # of a second-level cache of 512 KB, what one thread's panels may take
SHARED_RATE, MEMORY_RATE = 16.0, 6.5  # bytes a cycle from the last-level cache and from memory, for one thread
BARRIER = 2000.0  # cycles for threads to meet after a phase
WORKSPACE_BYTES = 1 << 26  # largest for one image


@dataclass(frozen=True)
class Recipe:
    """What a tactic's key says. ``fused4-28-6x1``: F(4x4, 3x3), 28 tiles from input to output at a time, multiplied in
    register tiles of 6 by 1 block; ``phased2-6x1``: F(2x2, 3x3), all tiles of the batch transformed, then multiplied,
    then transformed back."""

    size: int
    tile: Tile
    tiles: int = 0  # of a fused unit; 0: phased

    @property
    def key(self) -> str:
        structure = f"fused{self.size}-{self.tiles}" if self.tiles else f"phased{self.size}"
        return f"{structure}-{self.tile.width}x{self.tile.blocks}"

    @classmethod
    def parse(cls, key: str) -> Recipe:
        structure, *middle, last = key.split("-")
        width, _, blocks = last.partition("x")
        return cls(int(structure[-1]), Tile(int(width), int(blocks)), int(middle[0]) if middle else 0)


@dataclass(frozen=True)
class Plan:
    """The sizes that follow from a recipe."""

    geometry: Geometry
    recipe: Recipe

    @property
    def grid(self) -> Grid:
        return Grid(self.geometry, self.recipe.size)

    @property
    def input_blocks(self) -> int:
        return -(-self.geometry.channels // BLOCK)

    @property
    def groups(self) -> int:
        """Groups of output blocks that share a register tile."""
        return -(-self.geometry.output_blocks // self.recipe.tile.blocks)

    @property
    def tiles(self) -> int:
        """Tiles that are multiplied at a time."""
        return self.recipe.tiles or self.grid.tiles

    @property
    def units(self) -> int:
        """Fused units of an image."""
        return -(-self.grid.tiles // self.tiles)

    @property
    def inputs(self) -> Panel:
        return Panel(self.grid.points, self.input_blocks, self.tiles)

    @property
    def outputs(self) -> Panel:
        """Of one group in a fused unit, of all in a phased program."""
        blocks = self.recipe.tile.blocks * (1 if self.recipe.tiles else self.groups)
        return Panel(self.grid.points, blocks, self.tiles)

    @property
    def runs(self) -> list[Run]:
        return runs_of(self.tiles, self.recipe.tile.width)

    @property
    def matrix_bytes(self) -> int:
        """Weights of one point for one group."""
        return self.geometry.channels * self.recipe.tile.blocks * BLOCK * 4

    @property
    def prefetched(self) -> int:
        """Lines of the next matrix of weights that each register tile asks for per block of input channels.

        Weights come from far away and are used for a few register tiles only, when tiles are few. Processors do not
        look ahead from one page of memory to the next by themselves.
        """
        tiles, lines = sum(run.count for run in self.runs), BLOCK * self.recipe.tile.blocks
        return -(-lines // tiles) if tiles <= lines else 0

    @property
    def weight_bytes(self) -> int:
        return self.grid.points * self.groups * self.matrix_bytes


def recipes(geometry: Geometry, target: Target, threads: int) -> list[Recipe]:
    """The best few, best first; none where the direct method should be much faster."""
    found = sorted(_candidates(geometry, target, threads), key=lambda r: cycles(geometry, r, target, threads))
    limit = WORTH * direct_cycles(geometry, target) / threads
    return [recipe for recipe in found if cycles(geometry, recipe, target, threads) <= limit][:MOST]


def direct_cycles(geometry: Geometry, target: Target) -> float:
    """What the best tactic of the direct method should take on one thread."""
    return min(direct.cycles(geometry, recipe, target) for recipe in direct.recipes(geometry, target))


def _candidates(geometry: Geometry, target: Target, threads: int) -> Iterator[Recipe]:
    for size in (4, 2):
        grid = Grid(geometry, size)
        for tile in tiles_for(target, min(geometry.output_blocks, 2)):
            counts = {-(-grid.tiles // units) for units in range(1, grid.tiles + 1)}
            fused = [Recipe(size, tile, count) for count in sorted(counts) if count >= min(tile.width, grid.tiles)]
            yield min(fused, key=lambda recipe: cycles(geometry, recipe, target, threads))
            phased = Recipe(size, tile)
            plan = Plan(geometry, phased)
            if plan.inputs.nbytes + plan.outputs.nbytes <= WORKSPACE_BYTES:
                yield phased


def cycles(geometry: Geometry, recipe: Recipe, target: Target, threads: int) -> float:
    """From beginning to end, all threads working."""
    plan = Plan(geometry, recipe)
    batch = geometry.batch if isinstance(geometry.batch, int) else 1
    into, back = transform_cycles(plan.grid.points, target)
    transforms = plan.input_blocks * into + geometry.output_blocks * back
    panels = plan.inputs.nbytes + plan.outputs.nbytes
    moved = 2 * panels / SHARED_RATE if panels > PRIVATE_BYTES else 0.0
    product = plan.groups * plan.grid.points * geometry.channels * _step_cycles(plan, target)
    weights = plan.weight_bytes
    if recipe.tiles:
        unit = product + transforms * plan.tiles + moved + weights / SHARED_RATE
        return -(-batch * plan.units // threads) * unit + weights / MEMORY_RATE / threads
    work = product + transforms * plan.tiles + moved
    return (batch * work + weights / MEMORY_RATE) / threads + 3 * BARRIER


def _step_cycles(plan: Plan, target: Target) -> float:
    """Of one input channel for one group of outputs: two multiply-adds or two loads a cycle, sums ready after four."""
    each, blocks, total = target.registers_per_block, plan.recipe.tile.blocks, 0.0
    for run in plan.runs:
        sums = run.width * blocks * each
        total += run.count * max(sums / 2, (blocks * each + run.width) / 2, 4.0)
    return total


def transform_cycles(points: int, target: Target) -> tuple[float, float]:
    """Cycles that one tile of 16 channels takes into its points and back, as measured with AVX2."""
    return 3.0 * points * target.registers_per_block, 2.8 * points * target.registers_per_block
