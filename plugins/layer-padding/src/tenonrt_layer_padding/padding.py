"""The Padding layer: elements added around a tensor, or taken away from its borders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, cast

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
    known_values,
    maximum,
    normalize_axes,
    optional,
    required,
    unknown,
)

Pads = list[tuple[Dimension, Dimension]]


class PaddingAttributes(Attributes, frozen=True):
    """mode: what new elements are: the value, the mirror image, the border, or the opposite side."""

    mode: Literal["constant", "reflect", "edge", "wrap"] = "constant"


class PaddingLayer(LayerType):
    """y is x with pads[i] elements before and pads[i + n] after axis axes[i]; negative pads crop, before others add.

    pads: int64 [2 n], all beginnings, then all ends. axes: int64 [n], all axes when absent.
    value: a scalar of x's type, zero (or an empty string) when absent.
    """

    Attrs = PaddingAttributes
    inputs = ("input", "pads", "value?", "axes?")
    shape_inputs = (1, 3)
    pattern = "movement"

    def infer(self, attrs: PaddingAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        x, pads = required(inputs, 2)
        value, axes = optional(inputs, 2), optional(inputs, 3)
        if attrs.mode not in {"constant", "reflect", "edge", "wrap"}:
            raise ValueError(f"unknown padding mode {attrs.mode!r}; known are constant, reflect, edge and wrap")
        if value is not None and (value.dtype != x.dtype or value.shape not in {(), (1,)}):
            raise ValueError(f"the value must be a scalar of the input's type {x.dtype}, found {value.type}")
        amounts = known_values(pads)
        if amounts is None or (axes is not None and axes.value is None):
            return [x.like([unknown() for _ in x.shape])]
        sides = _sides(amounts, None if axes is None else axes.integers(), x.rank)
        return [x.like([_padded(d, *side, attrs.mode) for d, side in zip(x.shape, sides, strict=True)])]

    def reference(self, attrs: PaddingAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        x, pads = required(arrays, 2)
        value, axes = optional(arrays, 2), optional(arrays, 3)
        chosen = None if axes is None else [int(a) for a in axes.reshape(-1)]
        amounts = [int(p) for p in pads.reshape(-1)]
        sides = cast("list[tuple[int, int]]", _sides(amounts, chosen, x.ndim))
        for size, side in zip(x.shape, sides, strict=True):
            _padded(size, *side, attrs.mode)
        kept = tuple(slice(max(-b, 0), n - max(-e, 0)) for n, (b, e) in zip(x.shape, sides, strict=True))
        x = np.asarray(x[kept], dtype=x.dtype)
        added = [(max(b, 0), max(e, 0)) for b, e in sides]
        if attrs.mode != "constant":
            return [np.pad(x, added, attrs.mode) if added else x]
        result = np.full([n + b + e for n, (b, e) in zip(x.shape, added, strict=True)], _fill(x, value), x.dtype)
        result[tuple(slice(b, b + n) for n, (b, _) in zip(x.shape, added, strict=True))] = x
        return [result]

    def flops(
        self, attrs: PaddingAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> Dimension:
        return 0

    def sample(
        self, attrs: PaddingAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        x, pads = required(types, 2)
        value, axes = optional(types, 2), optional(types, 3)
        arrays: list[Array | None] = [draw(x, rng), np.zeros(pads.concrete({}), pads.numpy)]
        arrays.append(None if value is None else draw(value, rng))
        arrays.append(None if axes is None else np.arange(axes.concrete({})[0]).astype(axes.numpy))
        return arrays[: len(types)]

    def cases(self) -> Iterable[Case]:
        modes: tuple[Literal["constant", "reflect", "edge", "wrap"], ...] = ("constant", "reflect", "edge", "wrap")
        for mode in modes:
            attrs = PaddingAttributes(mode)
            for shape, pads in (((3, 5), [1, 2, 0, 3]), ((2, 3, 4, 6), [0, 0, 1, 2, 0, 0, 3, 1]), ((7,), [-2, 4])):
                yield Case(attrs, (TensorType(shape), np.array(pads, np.int64)), f"{mode} {shape} by {pads}")
        zero = PaddingAttributes()
        yield Case(zero, (TensorType((2, 3)), np.array([0, 1, 0, 1]), np.array(1.5, np.float32)), "with a value")
        inputs = (TensorType((2, 3, 4)), np.array([1, 2]), None, np.array([-2]))
        yield Case(zero, inputs, "one axis")
        yield Case(zero, (TensorType((4, 5)), np.array([-1, -1, -1, -2])), "crop")
        yield Case(zero, (TensorType((0, 2)), np.array([1, 0, 2, 0])), "empty")
        yield Case(zero, (TensorType((2, 2), "int64"), np.array([1, 0, 0, 1]), np.array(-3)), "integers")
        yield Case(zero, (TensorType(()), np.zeros(0, np.int64)), "scalar")


def _sides(pads: Sequence[Dimension], axes: Sequence[int] | None, rank: int) -> Pads:
    """(before, after) for every axis."""
    axes = range(rank) if axes is None else normalize_axes(axes, rank)
    if len(pads) != 2 * len(axes):
        raise ValueError(f"{len(axes)} axes need {2 * len(axes)} pads (beginnings, then ends), found {len(pads)}")
    sides: Pads = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        sides[axis] = (pads[i], pads[i + len(axes)])
    return sides


def _padded(size: Dimension, before: Dimension, after: Dimension, mode: str) -> Dimension:
    result = size + before + after
    cropped = size + _crop(before) + _crop(after)
    if isinstance(cropped, int) and cropped < 0:
        raise ValueError(f"an axis of length {size} cannot be cropped by {before} and {after}")
    if mode != "constant" and isinstance(cropped, int) and cropped <= 0 and cropped != result:
        raise ValueError(f"mode {mode} has nothing to repeat on an axis of length {size} with pads {before}, {after}")
    return result if isinstance(result, int) else maximum(result, 0)


def _crop(pad: Dimension) -> Dimension:
    return min(pad, 0) if isinstance(pad, int) else 0


def _fill(x: Array, value: Array | None) -> Any:
    if value is None:
        return "" if x.dtype == object else np.zeros((), x.dtype)
    return value.reshape(())[()]
