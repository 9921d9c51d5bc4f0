"""Which Winograd tactics a convolution is offered, by a rough count of cycles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tenonrt_kernel_llvm.contraction import direct_recipes as direct
from tenonrt_kernel_llvm.contraction.geometry import Geometry
from tenonrt_kernel_llvm.contraction.tiles import Run, Tile, runs_of, tiles_for
from tenonrt_kernel_llvm.contraction.winograd_tiles import Grid, Panel
from tenonrt_kernel_llvm.target import BLOCK, Target

MOST = 6
WORTH = 1.3  # times the direct method's estimate: worse ones are not offered
PRIVATE_BYTES = 3 << 17  # of a second-level cache of 512 KB, what one thread's panels may take
SHARED_RATE, MEMORY_RATE = 32.0, 6.5  # bytes a cycle from the last-level cache and from memory, for one thread
BARRIER = 2000.0  # cycles for threads to meet after a phase
LAST_BYTES = 1 << 24  # of a last-level cache, what all panels of a phased program may take
MOST_REGISTER_TILES = 40  # in a fused unit
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
        return self.grid.matrices * self.groups * self.matrix_bytes


def recipes(geometry: Geometry, target: Target, threads: int) -> list[Recipe]:
    """The best few, best first; none where the direct method should be much faster."""
    found = sorted(_candidates(geometry, target, threads), key=lambda r: cycles(geometry, r, target, threads))
    limit = WORTH * direct_cycles(geometry, target) / threads
    return [recipe for recipe in found if cycles(geometry, recipe, target, threads) <= limit][:MOST]


def direct_cycles(geometry: Geometry, target: Target) -> float:
    """The direct method's, on one thread, its weights read from memory too."""
    work = min(direct.cycles(geometry, recipe, target) for recipe in direct.recipes(geometry, target))
    window = geometry.y.window * geometry.x.window
    return _beside(work, geometry.output_blocks * BLOCK * geometry.channels * window * 4 / MEMORY_RATE)


def _candidates(geometry: Geometry, target: Target, threads: int) -> Iterator[Recipe]:
    for size in (4, 2):
        grid = Grid(geometry, size)
        for tile in tiles_for(target, min(geometry.output_blocks, 2)):
            fused = [Recipe(size, tile, count) for count in _unit_sizes(grid.tiles, tile.width)]
            yield min(fused, key=lambda recipe: cycles(geometry, recipe, target, threads))
            phased = Recipe(size, tile)
            plan = Plan(geometry, phased)
            if plan.inputs.nbytes + plan.outputs.nbytes <= WORKSPACE_BYTES:
                yield phased


def _unit_sizes(tiles: int, width: int) -> list[int]:
    """Tiles of a fused unit: about a multiple of the register tile's width, all units alike."""
    units = {-(-tiles // (width * times)) for times in range(1, MOST_REGISTER_TILES + 1)}
    return [-(-tiles // count) for count in sorted(units)]


def cycles(geometry: Geometry, recipe: Recipe, target: Target, threads: int) -> float:
    """From beginning to end, all threads working."""
    plan = Plan(geometry, recipe)
    batch = geometry.batch if isinstance(geometry.batch, int) else 1
    into, back = transform_cycles(plan.grid.points, target)
    transforms = plan.input_blocks * into + geometry.output_blocks * back
    panels = plan.inputs.nbytes + plan.outputs.nbytes
    rate = SHARED_RATE if recipe.tiles or batch * panels <= LAST_BYTES else MEMORY_RATE
    moved = 2 * panels / rate if panels > PRIVATE_BYTES else 0.0
    unit = _product_cycles(plan, target) + transforms * plan.tiles + moved
    fetched = plan.weight_bytes / MEMORY_RATE / threads
    if recipe.tiles:
        unit = _beside(unit, plan.weight_bytes / SHARED_RATE)
        return _beside(-(-batch * plan.units // threads) * unit, fetched)
    return _beside(batch * unit / threads, fetched) + 3 * BARRIER


def _beside(work: float, fetched: float) -> float:
    """Cycles of work while data come from far away: the longer of both, and a part of the shorter."""
    return max(work, fetched) + min(work, fetched) / 4


def _product_cycles(plan: Plan, target: Target) -> float:
    """All groups, points and tiles: two multiply-adds or two loads a cycle, sums ready after four; a store each."""
    each, blocks, total = target.registers_per_block, plan.recipe.tile.blocks, 0.0
    for run in plan.runs:
        sums = run.width * blocks * each
        step = max(sums / 2, (blocks * each + run.width) / 2, 4.0)
        total += run.count * (plan.geometry.channels * step + sums + 10)
    return plan.groups * plan.grid.points * total


def transform_cycles(points: int, target: Target) -> tuple[float, float]:
    """Cycles that one tile of 16 channels takes into its points and back, as measured with AVX2."""
    return 3.0 * points * target.registers_per_block, 2.8 * points * target.registers_per_block
