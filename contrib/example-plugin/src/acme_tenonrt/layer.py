"""The meaning of acme.Swish6. Every kernel is judged against `Swish6Layer.reference`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import Array, Attributes, Case, LayerType, Pattern, Run, TensorInfo, TensorType, is_float


class Swish6Attributes(Attributes, frozen=True):
    """``beta``: where the gate is fully open, above 0."""

    beta: float = 6.0


class Swish6Layer(LayerType):
    """y = x * min(max(x + 3, 0), beta) / beta, element by element; with beta = 6 it is the hard swish."""

    Attrs: ClassVar[type[Attributes]] = Swish6Attributes
    pattern: ClassVar[Pattern] = "pointwise"

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        [source] = inputs
        assert source is not None
        if not is_float(source.dtype):
            raise ValueError(f"input is {source.type}, expected a floating-point type")
        if attrs.beta <= 0:
            raise ValueError(f"beta is {attrs.beta}, expected a number above 0")
        return [source.like()]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        [x] = arrays
        assert x is not None
        return [np.asarray(x * np.minimum(np.maximum(x + 3, 0), attrs.beta) / attrs.beta)]

    def cases(self) -> Iterable[Case]:
        yield Case(Swish6Attributes(), (TensorType((2, 3, 5)),), "default")
        yield Case(Swish6Attributes(beta=1.5), (TensorType((7,)),), "narrow gate")
        yield Case(Swish6Attributes(), (TensorType((40_000,)),), "more than one block")
        yield Case(Swish6Attributes(), (TensorType(()),), "scalar")
        yield Case(Swish6Attributes(), (TensorType((0, 4)),), "empty")
