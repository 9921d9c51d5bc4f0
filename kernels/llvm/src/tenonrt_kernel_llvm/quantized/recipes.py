"""Tactics of quantized contractions: the engine, where the inputs of each window are gathered, and what a unit is."""

from __future__ import annotations

from dataclasses import dataclass

from tenonrt_kernel_llvm.quantized.engines import AMX, ENGINES, Engine, depth_of
from tenonrt_kernel_llvm.quantized.geometry import Shape
from tenonrt_kernel_llvm.quantized.requantization import PAIR

_WORKERS = 16  # units that are enough for the threads of most machines
_PANEL_BYTES = 1 << 19  # of gathered inputs that a thread keeps
_LEAST = 16  # pixels of a unit, where an image has as many


@dataclass(frozen=True)
class Recipe:
    """What a tactic's key says.

    gather: "direct", where pixels lie as they are wanted; "panel", each unit gathers its own; "shared", all are
    gathered before any sum. rows, columns: parts into which pixels and pairs of output blocks are cut; a unit is one of
    each. Sets of outputs that read channels of their own are columns, each with panels of its own.
    """

    engine: Engine
    gather: str
    rows: int
    columns: int

    @property
    def key(self) -> str:
        return f"{self.engine.name}-{self.gather}-{self.rows}x{self.columns}"

    @classmethod
    def parse(cls, key: str) -> Recipe:
        engine, gather, cut = key.split("-")
        rows, _, columns = cut.partition("x")
        return cls(ENGINES[engine], gather, int(rows), int(columns))


def recipes(shape: Shape, engines: list[Engine]) -> list[Recipe]:
    """The best guess first."""
    engine = engines[0]
    most_rows, pairs = max(1, shape.pixels // _LEAST), -(-shape.outputs // PAIR)
    if shape.flat and depth_of(engine, shape.inputs).padded == shape.inputs:
        return [Recipe(engine, "direct", *cut) for cut in _cuts(most_rows, pairs)]
    padded = depth_of(engine, shape.inputs).padded
    least = min(most_rows, -(-shape.pixels * padded // _PANEL_BYTES))
    wanted_rows = (_WORKERS, 2 * _WORKERS, 2) if shape.sets == 1 else (-(-_WORKERS // shape.sets), 4, _WORKERS)
    rows = [min(most_rows, max(least, wanted)) for wanted in wanted_rows]
    found = [Recipe(engine, "panel", count, shape.sets) for count in dict.fromkeys(rows)]
    known = isinstance(shape.images, int)  # images that share take phases of their own
    if known and shape.sets == 1 and pairs > 1 and most_rows < 2 * _WORKERS:
        found += [Recipe(engine, "shared", *cut) for cut in _cuts(most_rows, pairs)]
    return found


def _cuts(most_rows: int, pairs: int) -> list[tuple[int, int]]:
    """Many pixels by all outputs, few by few, and all pixels by few outputs."""
    wanted = [(min(most_rows, _WORKERS), 1), (min(most_rows, 4), min(pairs, 4)), (1, min(pairs, _WORKERS))]
    return list(dict.fromkeys((rows, columns) for rows, columns in wanted))


def estimate(shape: Shape, recipe: Recipe, threads: int) -> float:
    """Seconds at the engine's rate, as if the clock were 2.5 GHz."""
    rate = {"amx": 600.0, "vnni": 100.0, "wide": 20.0}[recipe.engine.name]
    images = shape.images if isinstance(shape.images, int) else 1
    work = images * shape.pixels * shape.inputs * -(-shape.outputs // PAIR) * PAIR
    parts = recipe.rows * recipe.columns * images
    busy = min(threads, parts) / (-(-parts // threads) * threads / parts)
    return work / rate / 2.5e9 / max(busy, 1.0) + (1e-6 if recipe.engine is AMX else 0.0)
