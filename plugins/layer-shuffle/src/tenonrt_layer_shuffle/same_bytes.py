"""What the layers share that keep every element where it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenonrt.contracts import Dimension, LayerType, TensorInfo, View


class SameBytes(LayerType):
    """A layer whose output holds the input's bytes in the same order."""

    pattern = "movement"
    shape_arithmetic = True

    def view(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> View | None:
        return View()

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        return 0
