"""From sums of products to what is stored: one multiply-add for each channel, bounds, rounding to even.

All scales are folded when weights are packed: a stage works in steps of its own result, where a ReLU is a bound.
"""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import Array, Problem

from tenonrt_kernel_llvm.emitter import FLOAT, I8, I32, Function, Index, Value, lanes_of, vector
from tenonrt_kernel_llvm.mathematics import maximum, minimum
from tenonrt_kernel_llvm.quantized.problem import LIMITS, Operand, Quantized, Saturation, Stage
from tenonrt_kernel_llvm.target import BLOCK

# Added to a number of at most 22 bits, 1.5 * 2**23 leaves its nearest integer in the low bits of the sum.
MAGIC = 12582912.0
PAIR = 2 * BLOCK  # channels that are computed together
_PER_STAGE = 5  # lower and upper bound, factors of the stage before and of what is added, offset


def pack_stages(region: Quantized, arrays: dict[int, Array], scale: Array, channels: int) -> list[Array]:
    """Factors and offsets of the channels (padded with zeros to pairs of blocks), then numbers of the stages.

    scale: real per unit of a sum, for each channel.
    """
    grids = [_grid(stage, region.result, arrays) for stage in region.stages]
    unit, zero = grids[0]
    bias = arrays[region.bias].reshape(-1).astype(np.float64) if region.bias >= 0 else np.zeros(channels)
    rows = np.zeros((2, -(-channels // PAIR) * PAIR), np.float32)
    rows[0, :channels] = np.broadcast_to(scale / unit, (channels,))
    rows[1, :channels] = bias / unit + zero
    numbers = [
        [*_bounds(stage, grid, arrays), *_factors(stage, grid, unit, arrays)]
        for stage, grid in zip(region.stages, grids, strict=True)
    ]
    return [rows, np.array(numbers, np.float32).reshape(-1)]


Grid = tuple[float, float]  # real per step, and the step that is zero


def _grid(stage: Stage, result: Stage, arrays: dict[int, Array]) -> Grid:
    """What a stage counts in: its own steps, else those of the result, so that nothing is left to scale."""
    if stage.quantized:
        return _parameters(Operand(-1, stage.scale, stage.zero), arrays)
    return (_parameters(Operand(-1, result.scale), arrays)[0] if result.quantized else 1.0), 0.0


def _bounds(stage: Stage, grid: Grid, arrays: dict[int, Array]) -> list[float]:
    """What the clips leave of all numbers, one after the other, then the type."""
    found = [-np.inf, np.inf]
    for clip in stage.clips:
        lower, upper = _saturated(clip, arrays) if isinstance(clip, Saturation) else clip
        limits = [-np.inf if lower is None else lower, np.inf if upper is None else upper]
        found = [min(max(bound, limits[0]), limits[1]) for bound in found]
    steps = [_step(bound, grid, stage.quantized) for bound in found]
    return [float(step) for step in np.clip(steps, *LIMITS[stage.dtype])] if stage.quantized else steps


def _saturated(clip: Saturation, arrays: dict[int, Array]) -> tuple[float, float]:
    scale, zero = _parameters(Operand(-1, clip.scale, clip.zero), arrays)
    low, high = LIMITS[clip.dtype]
    return (low - zero) * scale, (high - zero) * scale


def _step(bound: float, grid: Grid, whole: bool) -> float:
    if np.isinf(bound):
        return bound
    steps = float(np.clip(bound / grid[0], -1e30, 1e30))
    return (float(np.round(steps)) if whole else steps) + grid[1]


def _factors(stage: Stage, grid: Grid, unit: float, arrays: dict[int, Array]) -> list[float]:
    """Of the stage before, of what is added, and what is left."""
    if stage.other is None:
        return [1.0, 0.0, 0.0]
    again, again_zero = (unit, 0.0) if stage.again is None else _parameters(stage.again, arrays)
    other, other_zero = _parameters(stage.other, arrays)
    return [again / grid[0], other / grid[0], grid[1] - (again_zero * again + other_zero * other) / grid[0]]


def _parameters(operand: Operand, arrays: dict[int, Array]) -> Grid:
    zero = float(arrays[operand.zero].reshape(())) if operand.zero >= 0 else 0.0
    return float(arrays[operand.scale].reshape(())), zero


class Requantization:
    """Writes the stages of one region on vectors of sums. numbers: what `pack_stages` packed for them."""

    def __init__(self, fn: Function, problem: Problem, region: Quantized, numbers: Value, lanes: int = BLOCK) -> None:
        self.fn, self.region, self.lanes = fn, region, lanes
        self.vector = vector(lanes)
        self.dtypes = {s.other.stored: problem.types[s.other.stored].dtype for s in region.stages if s.other}
        self._numbers = [self._spread(numbers, index) for index in range(_PER_STAGE * len(region.stages))]

    def _spread(self, numbers: Value, index: int) -> Value:
        return self.fn.splat(self.fn.load(FLOAT, numbers, 4 * index), self.lanes)

    def finish(self, real: Value, other: Value | None) -> Value:
        """Of a vector in the steps of the first stage; other: the vector that is added, as stored."""
        for index, stage in enumerate(self.region.stages):
            low, high, again, factor, offset = self._numbers[_PER_STAGE * index : _PER_STAGE * (index + 1)]
            if stage.other is not None:
                assert other is not None
                added = self.fn.fma(self._wide(other, self.dtypes[stage.other.stored]), factor, offset)
                real = self.fn.fma(real, again, added)
            last = index == len(self.region.stages) - 1
            real = self._bounded(real, stage, low, high)
            if stage.quantized and not last:
                magic = self.fn.constant(real.type, MAGIC)
                real = (real + magic) - magic
        return self._stored(real)

    def _bounded(self, real: Value, stage: Stage, low: Value, high: Value) -> Value:
        if stage.quantized or stage.clips:
            return minimum(self.fn, maximum(self.fn, real, low), high)
        return real

    def _wide(self, stored: Value, dtype: str) -> Value:
        """Bytes as real numbers."""
        wide = self.fn.convert("zext" if dtype == "uint8" else "sext", stored, I32)
        return self.fn.convert("sitofp", wide, FLOAT)

    def _stored(self, real: Value) -> Value:
        if not self.region.result.quantized:
            return real
        bits = self.fn.convert("bitcast", real + self.fn.constant(real.type, MAGIC), I32)
        return self.fn.convert("trunc", bits, I8)


def store_result(fn: Function, value: Value, pointer: Value, count: int, nbytes: Index = 0) -> None:
    """Store a vector of which ``count`` lanes exist, bytes or real numbers."""
    align = 1 if value.type == vector(lanes_of(value.type), I8) else 4
    fn.store_lanes(value, pointer, count, nbytes, align)
