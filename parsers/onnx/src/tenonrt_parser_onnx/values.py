"""``ValueInfoProto`` to `TensorType`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenonrt.contracts import Dimension, ParseError, TensorType, symbol

from tenonrt_parser_onnx.dtypes import dtype_named
from tenonrt_parser_onnx.text import text

if TYPE_CHECKING:
    from onnx import TensorShapeProto, TypeProto, ValueInfoProto

MAX_NESTING = 8


def read_type(value: ValueInfoProto, fallback: TensorType | None) -> TensorType:
    """The type of a graph's input; ``fallback`` supplies what the model leaves out.

    A named dimension becomes a symbol of that name, an unnamed one a symbol ``<input>_<axis>``; both are at least 1,
    but for an axis that is empty in ``fallback``: the state of a loop that begins with nothing.
    """
    if value.type.WhichOneof("value") not in (None, "tensor_type"):
        return TensorType((), container(value.type))
    tensor = value.type.tensor_type
    if not tensor.elem_type and fallback is None:
        raise ParseError("has no element type")
    dtype = dtype_named(tensor.elem_type) if tensor.elem_type or fallback is None else fallback.dtype
    if tensor.HasField("shape"):
        return TensorType(_shape(tensor.shape, value.name, fallback), dtype)
    if fallback is None:
        raise ParseError("has no shape; declare its rank (axes may be symbolic: give them a dim_param)")
    return TensorType(fallback.shape, dtype)


def container(type: TypeProto, depth: int = 0) -> str:
    """The element type of a scalar that holds a sequence, an optional or a map; sparse tensors are refused."""
    kind = type.WhichOneof("value")
    if depth > MAX_NESTING:
        raise ParseError(f"is a container in more than {MAX_NESTING} others")
    if kind == "tensor_type":
        tensor = type.tensor_type
        rank = f":{len(tensor.shape.dim)}" if tensor.HasField("shape") and len(tensor.shape.dim) else ""
        return f"{dtype_named(tensor.elem_type)}{rank}"
    if kind == "map_type":
        return f"map({dtype_named(type.map_type.key_type)},{container(type.map_type.value_type, depth + 1)})"
    if kind in ("sequence_type", "optional_type"):
        return f"{kind.removesuffix('_type')}({container(getattr(type, kind).elem_type, depth + 1)})"
    raise ParseError(f"is {'of no type' if kind is None else 'a ' + kind.removesuffix('_type')}, which no layer takes")


def declared_type(value: ValueInfoProto | None) -> TensorType | None:
    """What a model says of a tensor between its layers, None where that is nothing or nonsense."""
    if value is None or not value.type.WhichOneof("value"):
        return None
    try:
        return read_type(value, None)
    except ParseError:
        return None


def _shape(shape: TensorShapeProto, name: str, given: TensorType | None) -> tuple[Dimension, ...]:
    dims: list[Dimension] = []
    known = given.shape if given is not None and given.rank == len(shape.dim) else (None,) * len(shape.dim)
    for axis, dim in enumerate(shape.dim):
        if dim.HasField("dim_value"):
            if dim.dim_value < 0:
                raise ParseError(f"has dim {dim.dim_value} at axis {axis}; use a dim_param for an axis of any size")
            dims.append(dim.dim_value)
        else:
            parameter = text(dim.dim_param, f"dim_param of axis {axis}")
            least = 0 if known[axis] == 0 else 1
            dims.append(symbol(parameter if parameter not in ("", "?") else f"{name}_{axis}", least, None))
    return tuple(dims)
