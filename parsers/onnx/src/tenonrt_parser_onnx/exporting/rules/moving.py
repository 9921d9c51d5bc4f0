"""Layers that move elements, or make tensors out of shapes."""

from __future__ import annotations

from collections.abc import Callable

from onnx import helper
from tenonrt.contracts import is_float

from tenonrt_parser_onnx.exporting.node import LOWEST_VERSION, Writer, code, flag

_FILLABLE = frozenset("float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool".split())


def _transpose(w: Writer) -> None:
    w.node("Transpose", w.inputs, perm=[axis % w.output.rank for axis in w.attrs.permutation] or None)


def _squeeze(w: Writer) -> None:
    """No axes at all would mean all of length one."""
    axes = w.attrs.axes
    if axes == ():
        w.node("Identity", w.inputs)
    else:
        w.node("Squeeze", [w.input(0)] if axes is None else [w.input(0), w.constant(axes)])


def _split(w: Writer) -> None:
    if w.input(1):
        w.node("Split", w.inputs, axis=w.attrs.axis)
    else:
        w.node("Split", [w.input(0)], axis=w.attrs.axis, num_outputs=len(w.outputs))


def _padding(w: Writer) -> None:
    since = 19 if w.attrs.mode == "wrap" else 18
    w.node("Pad", w.inputs, since=since, mode=w.attrs.mode)


def _fill(w: Writer) -> None:
    dtype, value = w.attrs.dtype, w.attrs.value
    number = float(value) if is_float(dtype) else int(value)
    since = LOWEST_VERSION if dtype in _FILLABLE else 20
    w.node("ConstantOfShape", w.inputs, since=since, value=helper.make_tensor("value", code(dtype), [1], [number]))


def _shape(w: Writer) -> None:
    w.node("Shape", w.inputs, start=w.attrs.start or None, end=w.attrs.end)


def _one_hot(w: Writer) -> None:
    w.node("OneHot", w.inputs, axis=w.attrs.axis)


def _scatter_elements(w: Writer) -> None:
    w.node("ScatterElements", w.inputs, axis=w.attrs.axis, reduction=w.attrs.reduction)


def along(operator: str) -> Callable[[Writer], None]:
    """Axes in a second input."""

    def rule(w: Writer) -> None:
        if w.tensor(1).type.size == 0:
            w.node("Identity", [w.input(0)])
        else:
            w.node(operator, w.inputs)

    return rule


RULES: dict[str, Callable[[Writer], None]] = {
    "Concatenation": lambda w: w.node("Concat", [name for name in w.inputs if name], axis=w.attrs.axis),
    "DepthToSpace": lambda w: w.node("DepthToSpace", w.inputs, blocksize=w.attrs.block_size, mode=w.attrs.mode),
    "Expand": lambda w: w.node("Expand", w.inputs),
    "Fill": _fill,
    "Flatten": lambda w: w.node("Flatten", w.inputs, axis=w.attrs.axis),
    "Gather": lambda w: w.node("Gather", w.inputs, axis=w.attrs.axis),
    "GatherElements": lambda w: w.node("GatherElements", w.inputs, axis=w.attrs.axis),
    "GatherND": lambda w: w.node("GatherND", [w.input(0), w.integers(1)], batch_dims=w.attrs.batch_dims),
    "Identity": lambda w: w.node("Identity", w.inputs),
    "NonZero": lambda w: w.node("NonZero", w.inputs),
    "OneHot": _one_hot,
    "Padding": _padding,
    "Range": lambda w: w.node("Range", w.inputs),
    "Reformat": lambda w: w.node("Identity", w.inputs),
    "Reshape": lambda w: w.node("Reshape", w.inputs, allowzero=flag(not w.attrs.zero_copies)),
    "ReverseSequence": lambda w: w.node(
        "ReverseSequence", [w.input(0), w.integers(1)], batch_axis=w.attrs.batch_axis, time_axis=w.attrs.time_axis
    ),
    "ScatterElements": _scatter_elements,
    "ScatterND": lambda w: w.node("ScatterND", [w.input(0), w.integers(1), w.input(2)], reduction=w.attrs.reduction),
    "Shape": _shape,
    "Size": lambda w: w.node("Size", w.inputs),
    "Slice": lambda w: w.node("Slice", w.inputs),
    "SpaceToDepth": lambda w: w.node("SpaceToDepth", w.inputs, blocksize=w.attrs.block_size),
    "Split": _split,
    "Squeeze": _squeeze,
    "SqueezeAlong": along("Squeeze"),
    "Tile": lambda w: w.node("Tile", w.inputs),
    "Transpose": _transpose,
    "Unsqueeze": lambda w: w.node("Unsqueeze", [w.input(0), w.constant(w.attrs.axes)]),
    "UnsqueezeAlong": along("Unsqueeze"),
}
