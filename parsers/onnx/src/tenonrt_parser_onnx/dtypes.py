"""Element types: the codes of ``TensorProto.DataType`` and the names TenonRT gives them."""

from __future__ import annotations

from tenonrt.contracts import ParseError

# onnx.proto, TensorProto.DataType. The six-bit floats (27, 28) have no NumPy type yet.
NAMES: dict[int, str] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
    17: "float8_e4m3fn", 18: "float8_e4m3fnuz", 19: "float8_e5m2", 20: "float8_e5m2fnuz", 21: "uint4", 22: "int4",
    23: "float4_e2m1fn", 24: "float8_e8m0fnu", 25: "uint2", 26: "int2",
}  # fmt: skip
CODES = {name: number for number, name in NAMES.items()}

BITS = {"uint4": 4, "int4": 4, "float4_e2m1fn": 4, "uint2": 2, "int2": 2}  # those that are packed in files


def dtype_named(code: int) -> str:
    """The element type of a data type code; `ParseError` for codes that are not one."""
    if code not in NAMES:
        known = ", ".join(f"{number} {name}" for number, name in NAMES.items())
        raise ParseError(f"data type {code} is not one of those known: {known}")
    return NAMES[code]


def dtype_called(name: str) -> str:
    """The element type that ``TensorProto.DataType`` calls so: FLOAT, DOUBLE, INT64."""
    wanted = {"FLOAT": "float32", "DOUBLE": "float64"}.get(name, name.lower())
    if wanted not in NAMES.values():
        raise ParseError(f"{name[:40]!r} is not the name of a data type")
    return wanted
