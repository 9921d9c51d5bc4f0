"""The GridSample layer: an image read at the positions that a grid names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product as combinations
from typing import Literal

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    Dimension,
    LayerType,
    Run,
    TensorInfo,
    TensorType,
    draw,
    is_float,
    required,
    same,
    working_dtype,
)

_CUBIC = -0.75  # the coefficient of ONNX and of PyTorch


class GridSampleAttributes(Attributes, frozen=True):
    """mode: how neighbours are weighted. padding: what lies outside. align_corners: -1 and 1 are centres of corners.

    Otherwise they are the corner pixels' outer edges.
    """

    mode: Literal["linear", "nearest", "cubic"] = "linear"
    padding: Literal["zeros", "border", "reflection"] = "zeros"
    align_corners: bool = False


class GridSampleLayer(LayerType):
    """y[n, c, p] = x[n, c] at grid[n, p], in units of -1 to 1, the last axis first (ONNX GridSample).

    Images [N, C, D1 ... Dk], grid [N, P1 ... Pk, k], result [N, C, P1 ... Pk].
    """

    Attrs = GridSampleAttributes
    inputs = ("input", "grid")

    def infer(self, attrs: GridSampleAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        x, grid = required(inputs, 2)
        if not is_float(x.dtype) or not is_float(grid.dtype):
            raise ValueError(f"images and grid must be floats, found {x.type} and {grid.type}")
        if x.rank < 3 or grid.rank != x.rank:
            raise ValueError(f"a grid for {x.type} must have rank {x.rank} (at least 3), found {grid.type}")
        same(x.rank - 2, grid.shape[-1], "the last axis of the grid")
        return [x.like((same(x.shape[0], grid.shape[0], "the grid's batch"), x.shape[1], *grid.shape[1:-1]))]

    def reference(self, attrs: GridSampleAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        x, grid = required(arrays, 2)
        work = working_dtype(x.dtype)
        images, batch = x.astype(work, copy=False), len(x)
        places = grid.astype(work, copy=False).reshape(batch, -1, grid.shape[-1])
        lengths = x.shape[2:]
        taps = [
            _taps(attrs, places[:, :, len(lengths) - 1 - axis], length)  # grids name the last axis first
            for axis, length in enumerate(lengths)
        ]
        result = np.zeros((batch, places.shape[1], x.shape[1]), work)
        rows = np.arange(batch)[:, None]
        last = np.moveaxis(images, 1, -1)
        for chosen in combinations(*taps):
            weight = np.ones((batch, places.shape[1]), work)
            for _, factor in chosen:
                weight = weight * factor
            values = last[(rows, *(index for index, _ in chosen))]
            result += np.where(weight[..., None] != 0, values, 0) * weight[..., None]
        shaped = np.moveaxis(result, -1, 1).reshape(batch, x.shape[1], *grid.shape[1:-1])
        return [shaped.astype(x.dtype)]

    def sample(
        self, attrs: GridSampleAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        x, grid = required(types, 2)
        return [draw(x, rng), rng.uniform(-1.4, 1.4, grid.concrete({})).astype(grid.numpy)]

    def reduction(self, attrs: GridSampleAttributes, inputs: Sequence[TensorInfo | None]) -> Dimension:
        taps: int = {"nearest": 1, "linear": 2, "cubic": 4}[attrs.mode] ** (required(inputs, 1)[0].rank - 2)
        return taps

    def cases(self) -> Iterable[Case]:
        for mode in ("linear", "nearest", "cubic"):
            for padding in ("zeros", "border", "reflection"):
                attrs = GridSampleAttributes(mode, padding, padding == "border")
                yield Case(attrs, (TensorType((2, 3, 4, 5)), TensorType((2, 3, 2, 2))), f"{mode} {padding}")
        yield Case(GridSampleAttributes(), (TensorType((1, 2, 3, 4, 5)), TensorType((1, 2, 3, 4, 3))), "volumes")


def _taps(attrs: GridSampleAttributes, place: Array, length: int) -> list[tuple[Array, Array]]:
    """The neighbours along one axis: their indices, and their weights, which are zero outside of zeros."""
    low, high = (0.0, length - 1.0) if attrs.align_corners else (-0.5, length - 0.5)
    position = (place + 1) / 2 * (high - low) + low
    position = np.where(np.isfinite(position), position, low - 1)
    if attrs.mode == "nearest":
        position = np.rint(position)
    outside = (position < low) | (position > high)
    if attrs.padding == "border":
        position = np.where(outside, np.clip(position, 0, length - 1), position)
    elif attrs.padding == "reflection":
        position = np.where(outside, _reflected(position, low, high), position)
    first = np.floor(position)
    weights = _WEIGHTS[attrs.mode](position - first)
    start = first - (1 if attrs.mode == "cubic" else 0)
    return [_neighbour(attrs.padding, start + i, weight, low, high, length) for i, weight in enumerate(weights)]


def _neighbour(padding: str, index: Array, weight: Array, low: float, high: float, length: int) -> tuple[Array, Array]:
    inside = (index >= 0) & (index <= length - 1)
    if padding == "zeros":
        weight = np.where(inside, weight, 0)
    elif padding == "reflection":
        index = np.where(inside, index, np.trunc(_reflected(index, low, high)))
    return np.clip(index, 0, length - 1).astype(np.int64), weight


def _reflected(x: Array, low: float, high: float) -> Array:
    """Folded back and forth between two ends."""
    span = high - low
    if span <= 0:
        return np.full_like(x, low)
    folded = np.mod(x - low, 2 * span)
    return low + np.minimum(folded, 2 * span - folded)


def _cubic_weights(t: Array) -> list[Array]:
    def near(d: Array) -> Array:
        return ((_CUBIC + 2) * d - (_CUBIC + 3)) * d * d + 1

    def far(d: Array) -> Array:
        return ((_CUBIC * d - 5 * _CUBIC) * d + 8 * _CUBIC) * d - 4 * _CUBIC

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


_WEIGHTS: dict[str, Callable[[Array], list[Array]]] = {
    "nearest": lambda t: [np.ones_like(t)],
    "linear": lambda t: [1 - t, t],
    "cubic": _cubic_weights,
}
