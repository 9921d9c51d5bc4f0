"""Element types by ONNX's numbers."""

from __future__ import annotations

from typing import Any

from tenonrt.contracts import dtype_name


def element_type(number: Any) -> str:
    """The name of ``TensorProto.DataType`` number; `ValueError` for one that is none."""
    from onnx import TensorProto
    from onnx.helper import tensor_dtype_to_np_dtype

    if number == TensorProto.STRING:
        return "string"
    try:
        return dtype_name(tensor_dtype_to_np_dtype(number))
    except KeyError as error:
        raise ValueError(f"{number!r} is no data type of ONNX") from error
