"""``ValueInfoProto`` to `TensorType`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenonrt.contracts import Dimension, ParseError, TensorType, symbol

from tenonrt_parser_onnx.dtypes import dtype_named
from tenonrt_parser_onnx.text import text

if TYPE_CHECKING:
    from onnx import TensorShapeProto, ValueInfoProto


def read_type(value: ValueInfoProto, fallback: TensorType | None) -> TensorType:
    """The type of a graph's input; ``fallback`` supplies what the model leaves out.

    A named dimension becomes a symbol of that name, an unnamed one a symbol ``<input>_<axis>``; both are at least 1.
    """
    kind = value.type.WhichOneof("value")
    if kind not in (None, "tensor_type"):
        raise ParseError(f"is a {kind.removesuffix('_type')}; only tensors can be inputs")
    tensor = value.type.tensor_type
    if not tensor.elem_type and fallback is None:
        raise ParseError("has no element type")
    dtype = dtype_named(tensor.elem_type) if tensor.elem_type or fallback is None else fallback.dtype
    if tensor.HasField("shape"):
        return TensorType(_shape(tensor.shape, value.name), dtype)
    if fallback is None:
        raise ParseError("has no shape; declare its rank (axes may be symbolic: give them a dim_param)")
    return TensorType(fallback.shape, dtype)


def _shape(shape: TensorShapeProto, name: str) -> tuple[Dimension, ...]:
    dims: list[Dimension] = []
    for axis, dim in enumerate(shape.dim):
        if dim.HasField("dim_value"):
            if dim.dim_value < 0:
                raise ParseError(f"has dim {dim.dim_value} at axis {axis}; use a dim_param for an axis of any size")
            dims.append(dim.dim_value)
        else:
            parameter = text(dim.dim_param, f"dim_param of axis {axis}")
            dims.append(symbol(parameter if parameter not in ("", "?") else f"{name}_{axis}", 1, None))
    return tuple(dims)
