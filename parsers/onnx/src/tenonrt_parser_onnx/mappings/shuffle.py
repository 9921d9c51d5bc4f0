"""Operators that move, repeat or relabel elements."""

from __future__ import annotations

from typing import Any

import numpy as np
from tenonrt.contracts import Array, GraphBuilder, LayerMapping, ParseError, SourceNode, Tensor

from tenonrt_parser_onnx.mappings.arguments import (
    Inputs,
    axes_vector,
    constant_integers,
    constant_number,
    emit,
    flag,
    integer,
    integers,
    is_known,
    number,
    optional_integer,
    optional_integers,
    present,
    required,
    shape_constant,
    text,
)


def identity(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The input itself."""
    return list(emit(builder, node, "Identity", [required(inputs, 0, "input")]))


def dropout(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Nothing, when not training; the mask, where it is asked for, keeps everything."""
    training = present(inputs, 2)
    if training is not None and (training.constant is None or bool(training.constant.any())):
        raise ParseError("training_mode must be a constant false; export the model for inference")
    x = required(inputs, 0, "data")
    results = list(emit(builder, node, "Identity", [x]))
    if len(node.outputs) > 1 and node.outputs[1]:
        dtype = "bool" if node.version >= 10 else x.info.dtype
        (shape,) = emit(builder, node, "Shape", [x], part="shape")
        results.extend(emit(builder, node, "Fill", [shape], {"value": 1, "dtype": dtype}, part="mask"))
    return results


def transpose(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Axes in the order of perm, reversed without it."""
    attrs = {"permutation": integers(node, "perm", ())}
    return list(emit(builder, node, "Transpose", [required(inputs, 0, "data")], attrs))


def reshape(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """0 copies a dim unless allowzero (opset 14), -1 takes the rest."""
    shape = shape_constant(integers(node, "shape")) if node.version < 5 else required(inputs, 1, "shape")
    operands = [required(inputs, 0, "data"), shape]
    return list(emit(builder, node, "Reshape", operands, {"zero_copies": not flag(node, "allowzero")}))


def flatten(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """A matrix: the axes before ``axis``, and those from it on."""
    return list(emit(builder, node, "Flatten", [required(inputs, 0, "input")], {"axis": integer(node, "axis", 1)}))


def _axes(node: SourceNode, inputs: Inputs) -> tuple[int, ...] | None:
    """The axes: an attribute before opset 13, then an input that must be a constant."""
    if node.version < 13:
        return optional_integers(node, "axes")
    tensor = present(inputs, 1)
    return None if tensor is None else constant_integers(tensor, "axes")


def squeeze(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Remove axes of size 1."""
    return _change_axes(builder, node, inputs, "Squeeze")


def unsqueeze(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Insert axes of size 1, at places in the output."""
    if node.version < 13 and "axes" not in node.attrs:
        raise ParseError("axes are missing: an attribute before opset 13, input 1 since")
    if node.version >= 13:
        required(inputs, 1, "axes")
    return _change_axes(builder, node, inputs, "Unsqueeze")


def _change_axes(builder: GraphBuilder, node: SourceNode, inputs: Inputs, kind: str) -> list[Tensor]:
    x, axes = required(inputs, 0, "data"), present(inputs, 1) if node.version >= 13 else None
    if axes is not None and not is_known(axes):
        return list(emit(builder, node, f"{kind}Along", [x, axes_vector(builder, node, axes)]))
    return list(emit(builder, node, kind, [x], {"axes": _axes(node, inputs)}))


def expand(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Broadcast input and shape against each other."""
    return list(emit(builder, node, "Expand", [required(inputs, 0, "input"), required(inputs, 1, "shape")]))


def tile(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Repeat along each axis; before opset 6 along one, by numbers of any type."""
    if node.version < 6:
        x = required(inputs, 0, "input")
        tiles, axis = (constant_number(required(inputs, i, name)) for i, name in ((1, "tiles"), (2, "axis")))
        if tiles is None or axis is None or not (0 <= axis < x.info.rank and 0 <= tiles < 2**31):
            raise ParseError(f"tiles is {tiles} and axis {axis}; constants are needed, and an axis of the input")
        repeats = [int(tiles) if index == int(axis) else 1 for index in range(x.info.rank)]
        return list(emit(builder, node, "Tile", [x, np.array(repeats, np.int64)]))
    return list(emit(builder, node, "Tile", [required(inputs, 0, "input"), required(inputs, 1, "repeats")]))


def depth_to_space(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Blocks of channels become squares of pixels."""
    attrs = {"block_size": integer(node, "blocksize"), "mode": text(node, "mode", "DCR", ("DCR", "CRD"))}
    return list(emit(builder, node, "DepthToSpace", [required(inputs, 0, "input")], attrs))


def space_to_depth(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Squares of pixels become blocks of channels."""
    text(node, "mode", "DCR", ("DCR",))  # opset 28 has CRD too, which no layer expresses
    attrs = {"block_size": integer(node, "blocksize")}
    return list(emit(builder, node, "SpaceToDepth", [required(inputs, 0, "input")], attrs))


def concat(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Join along an axis."""
    operands = [required(inputs, index, "inputs") for index in range(len(inputs))]
    if not operands:
        raise ParseError("has no inputs")
    axis = integer(node, "axis", 1 if node.version < 4 else None)
    return list(emit(builder, node, "Concatenation", operands, {"axis": axis}))


def split(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Sizes are an attribute before opset 13, then an input; without them, equal parts."""
    x = required(inputs, 0, "input")
    attrs: dict[str, Any] = {"axis": integer(node, "axis", 0)}
    sizes: Tensor | Array | None = present(inputs, 1) if node.version >= 13 or node.version < 2 else None
    if node.version < 13 and "split" in node.attrs:
        sizes = shape_constant(integers(node, "split"))
    if sizes is None:
        attrs["parts"] = integer(node, "num_outputs", len(node.outputs))
    return list(emit(builder, node, "Split", [x, sizes], attrs))


def slice_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Bounds are attributes before opset 10, then inputs."""
    x = required(inputs, 0, "data")
    bounds: list[Tensor | Array | None]
    if node.version < 10:
        axes = optional_integers(node, "axes")
        bounds = [shape_constant(integers(node, "starts")), shape_constant(integers(node, "ends"))]
        bounds.append(None if axes is None else shape_constant(axes))
    else:
        bounds = [required(inputs, 1, "starts"), required(inputs, 2, "ends"), present(inputs, 3), present(inputs, 4)]
    return list(emit(builder, node, "Slice", [x, *bounds]))


def pad(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Pads and value are attributes before opset 11, then inputs; axes since 18."""
    x = required(inputs, 0, "data")
    attrs = {"mode": text(node, "mode", "constant", ("constant", "reflect", "edge", "wrap"))}
    if node.version >= 11:
        operands = [x, required(inputs, 1, "pads"), present(inputs, 2), present(inputs, 3)]
        return list(emit(builder, node, "Padding", operands, attrs))
    pads = shape_constant(integers(node, "paddings" if node.version < 2 else "pads"))
    value = number(node, "value", 0.0)
    fill = np.asarray(value, np.dtype(x.type.numpy)) if value else None
    return list(emit(builder, node, "Padding", [x, pads, fill], attrs))


def gather(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Slices of an axis by index."""
    return _indexed(builder, node, inputs, "Gather", {"axis": integer(node, "axis", 0)})


def gather_elements(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """One element for each index, along an axis."""
    return _indexed(builder, node, inputs, "GatherElements", {"axis": integer(node, "axis", 0)})


def gather_nd(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Elements or slices by index tuples."""
    return _indexed(builder, node, inputs, "GatherND", {"batch_dims": integer(node, "batch_dims", 0)})


def _indexed(builder: GraphBuilder, node: SourceNode, inputs: Inputs, kind: str, attrs: dict[str, Any]) -> list[Tensor]:
    return list(emit(builder, node, kind, [required(inputs, 0, "data"), required(inputs, 1, "indices")], attrs))


def scatter(kind: str) -> LayerMapping:
    """Scatter (until opset 10), ScatterElements and ScatterND."""

    def mapping(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
        operands = [required(inputs, index, name) for index, name in enumerate(("data", "indices", "updates"))]
        attrs: dict[str, Any] = {"reduction": text(node, "reduction", "none", ("none", "add", "mul", "max", "min"))}
        if kind == "ScatterElements":
            attrs["axis"] = integer(node, "axis", 0)
        return list(emit(builder, node, kind, operands, attrs))

    return mapping


def compress(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Gather at the places where the condition holds; without an axis, from the flattened input."""
    x, condition = required(inputs, 0, "input"), required(inputs, 1, "condition")
    axis = optional_integer(node, "axis")
    if axis is None:
        (x,) = emit(builder, node, "Reshape", [x, shape_constant([-1])], part="flat")
    (places,) = emit(builder, node, "NonZero", [condition], part="places")
    (indices,) = emit(builder, node, "Squeeze", [places], {"axes": (0,)}, part="indices")
    return list(emit(builder, node, "Gather", [x, indices], {"axis": axis or 0}))


scatter_elements = scatter("ScatterElements")
scatter_nd = scatter("ScatterND")
