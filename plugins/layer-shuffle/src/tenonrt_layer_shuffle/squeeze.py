"""The Squeeze layer: axes of length one removed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    Dim,
    Run,
    Shape,
    TensorInfo,
    TensorType,
    normalize_axes,
    required,
    surely_less,
)

from tenonrt_layer_shuffle.same_bytes import SameBytes


class SqueezeAttributes(Attributes, frozen=True):
    """axes: those to remove; None: all of length one."""

    axes: tuple[int, ...] | None = None


class SqueezeLayer(SameBytes):
    """y is x without some axes of length one."""

    Attrs = SqueezeAttributes

    def infer(self, attrs: SqueezeAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (x,) = required(inputs, 1)
        removed = _removed(attrs, x.shape)
        return [x.like([d for axis, d in enumerate(x.shape) if axis not in removed])]

    def reference(self, attrs: SqueezeAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (x,) = required(arrays, 1)
        removed = _removed(attrs, x.shape)
        return [x.reshape([d for axis, d in enumerate(x.shape) if axis not in removed])]

    def cases(self) -> Iterable[Case]:
        examples: list[tuple[tuple[int, ...], tuple[int, ...] | None]] = [
            ((1, 3, 1, 5), None),
            ((1, 3, 1, 5), (0,)),
            ((1, 3, 1, 5), (-2, 0)),
            ((1, 3), ()),
            ((1,), None),
            ((1, 0), (0,)),
        ]
        for shape, axes in examples:
            yield Case(SqueezeAttributes(axes), (TensorType(shape),), f"{shape} without {axes}")


def _removed(attrs: SqueezeAttributes, shape: Shape) -> set[int]:
    if attrs.axes is None:
        for axis, d in enumerate(shape):
            # The rank must not depend on the symbols: a symbol that is surely not one stays.
            if isinstance(d, Dim) and not surely_less(1, d):
                raise ValueError(f"axis {axis} has the symbolic length {d}, which may be one: name the axes to squeeze")
        return {axis for axis, d in enumerate(shape) if d == 1}
    axes = normalize_axes(attrs.axes, len(shape))
    for axis in axes:
        if isinstance(shape[axis], int) and shape[axis] != 1:
            raise ValueError(f"axis {axis} has length {shape[axis]}; only axes of length one can be squeezed")
    return set(axes)
