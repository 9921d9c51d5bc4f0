"""Layers each of which breaks one rule of the conformance kit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import Array, Attributes, Case, LayerType, Pattern, Run, TensorInfo, TensorType, View


class Plain(LayerType):
    """y = x + 1 on float32 and float64: what the broken layers start from."""

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        [x] = inputs
        assert x is not None
        if x.dtype not in ("float32", "float64"):
            raise ValueError(f"found {x.type}, expected float32 or float64")
        return [x.like()]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        [x] = arrays
        assert x is not None
        return [np.asarray(x + x.dtype.type(1))]

    def cases(self) -> Iterable[Case]:
        yield Case(Attributes(), (TensorType((3, 5)),), "matrix")


class NotPointwise(Plain):
    """Sums along the last axis, and claims to be pointwise."""

    pattern: ClassVar[Pattern] = "pointwise"

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        [x] = arrays
        assert x is not None
        return [np.cumsum(x, -1) if x.ndim else x.copy()]


class FalseView(Plain):
    """Claims to pass its input on."""

    def view(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> View | None:
        return View()


class Stateful(Plain):
    """Adds how often it was called."""

    calls = 0

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        self.calls += 1
        [x] = arrays
        assert x is not None
        return [np.asarray(x + x.dtype.type(self.calls))]


class NoCases(Plain):
    """Gives no examples."""

    def cases(self) -> Iterable[Case]:
        return ()


class SymbolBlind(Plain):
    """Takes every symbolic size for 1."""

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        [y] = super().infer(attrs, inputs)
        return [y.like([d if isinstance(d, int) else 1 for d in y.shape])]


class Narrow(Plain):
    """Computes in float32 whatever it is given."""

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        [x] = arrays
        assert x is not None
        return [np.asarray(x + 1, np.float32)]


class Lax(Plain):
    """Accepts element types that it cannot compute."""

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        [x] = inputs
        assert x is not None
        return [x.like()]
