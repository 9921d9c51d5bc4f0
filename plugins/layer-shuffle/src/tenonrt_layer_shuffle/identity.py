"""The Identity layer: its input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tenonrt.contracts import Array, Attributes, Case, Run, TensorInfo, TensorType, required

from tenonrt_layer_shuffle.same_bytes import SameBytes


class IdentityLayer(SameBytes):
    """y = x."""

    Attrs = Attributes

    def infer(self, attrs: Attributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (x,) = required(inputs, 1)
        return [x.like()]

    def reference(self, attrs: Attributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        return required(arrays, 1)

    def cases(self) -> Iterable[Case]:
        for shape, dtype in (((2, 3), "float32"), ((), "int64"), ((0,), "bool")):
            yield Case(Attributes(), (TensorType(shape, dtype),), f"{dtype} {shape}")
