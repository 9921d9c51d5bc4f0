"""LRN: local response normalization across channels (ONNX LRN, TensorRT ILRNLayer; Krizhevsky et al. 2012, 3.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import (
    FLOATS,
    Array,
    Attributes,
    Case,
    Dimension,
    LayerType,
    Pattern,
    Run,
    TensorInfo,
    TensorType,
    required,
    working_dtype,
)


class LRNAttributes(Attributes, frozen=True):
    """window: how many channels are summed, the one normalized in the middle (of an even window, one later counts)."""

    window: int
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0


class LRNLayer(LayerType):
    """input [N, C, ...] to x / (k + alpha / window * sum of x^2 over the window of channels) ** beta."""

    Attrs: ClassVar[type[Attributes]] = LRNAttributes
    pattern: ClassVar[Pattern] = "reduction"

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (source,) = required(inputs, 1)
        if source.dtype not in FLOATS:
            raise ValueError(f"input is {source.type}, expected one of {', '.join(FLOATS)}")
        if source.rank < 2:
            raise ValueError(f"input is {source.type}, expected at least [N, C]")
        if attrs.window < 1:
            raise ValueError(f"window is {attrs.window}, expected at least 1 channel")
        return [source.like()]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (source,) = required(arrays, 1)
        x = source.astype(working_dtype(source.dtype), copy=False)
        with np.errstate(all="ignore"):  # overflow, and 0 / 0 where k is 0, have the results of the standard
            total = _window_sums(x * x, attrs.window)
            result = x / (attrs.k + attrs.alpha / attrs.window * total) ** attrs.beta
        return [result.astype(source.dtype, copy=False)]

    def reduction(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> Dimension:
        return int(attrs.window)

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        """A multiply-add for each channel of the window, then a scale, a power (counted as one) and a division."""
        return outputs[0].type.size * (2 * int(attrs.window) + 4)

    def cases(self) -> Iterable[Case]:
        def case(name: str, shape: tuple[int, ...], window: int, **attrs: Any) -> Case:
            return Case(LRNAttributes(window, **attrs), (TensorType(shape),), name)

        yield case("defaults", (2, 16, 5, 7), 5)
        yield case("strong", (1, 9, 4, 3), 3, alpha=0.5, beta=0.6, k=2.0)
        yield case("even window", (1, 8, 3, 3), 4, alpha=0.3)
        yield case("window of one", (1, 4, 3, 5), 1, alpha=0.7)
        yield case("wider than the channels", (1, 3, 4, 4), 9, alpha=0.9)
        yield case("no spatial axis", (3, 12), 5, alpha=0.2)
        yield case("three axes", (1, 6, 2, 3, 4), 3, alpha=0.2)
        yield case("size one", (1, 1, 1, 1), 5)
        yield case("empty batch", (0, 4, 3, 3), 5)


def _window_sums(squares: Array, window: int) -> Array:
    """Sums over axis 1 from (window - 1) // 2 channels before to window // 2 after; absent channels count nothing."""
    channels = squares.shape[1]
    total = np.zeros_like(squares)
    for offset in range(-min((window - 1) // 2, channels), min(window // 2, channels) + 1):
        target = slice(max(0, -offset), max(0, channels - max(0, offset)))
        origin = slice(max(0, offset), max(0, channels + min(0, offset)))
        total[:, target] += squares[:, origin]
    return total
