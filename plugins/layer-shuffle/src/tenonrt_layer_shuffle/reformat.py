"""The Reformat layer: the same values stored in another format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tenonrt.contracts import (
    LINEAR,
    NCHW16C,
    NHWC,
    Array,
    Attributes,
    Case,
    Dimension,
    Format,
    LayerType,
    Run,
    TensorInfo,
    TensorType,
    required,
)


class ReformatAttributes(Attributes, frozen=True):
    """source and target: the storage formats of input and output."""

    source: Format = LINEAR
    target: Format = LINEAR


class ReformatLayer(LayerType):
    """y = x: only the storage changes. The core puts it between steps whose formats differ."""

    Attrs = ReformatAttributes
    pattern = "movement"

    def infer(self, attrs: ReformatAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (x,) = required(inputs, 1)
        for name, storage in (("source", attrs.source), ("target", attrs.target)):
            if storage.order and sorted(storage.order) != list(range(x.rank)):
                raise ValueError(f"the {name} format {storage} orders the axes {storage.order}, the input is {x.type}")
            outside = [axis for axis, _ in storage.blocks if not 0 <= axis < x.rank]
            if outside:
                raise ValueError(f"the {name} format {storage} blocks the axes {outside}, the input is {x.type}")
        return [x.like()]

    def reference(self, attrs: ReformatAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        return required(arrays, 1)

    def flops(
        self, attrs: ReformatAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> Dimension:
        return 0

    def cases(self) -> Iterable[Case]:
        formats = (LINEAR, NHWC, NCHW16C)
        for source in formats:
            for target in formats:
                for shape in ((2, 16, 5, 7), (1, 3, 4, 1)):
                    attrs = ReformatAttributes(source, target)
                    yield Case(attrs, (TensorType(shape),), f"{shape} from {source} to {target}")
