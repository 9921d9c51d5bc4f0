"""The messages of a GraphDef: numbers, names and types of the fields that a frozen graph uses."""

from __future__ import annotations

from functools import cache
from typing import Any

SCHEMA = {
    "GraphDef": """
        1 node [NodeDef]
        3 version int32
        4 versions VersionDef""",
    "VersionDef": """
        1 producer int32
        2 min_consumer int32""",
    "NodeDef": """
        1 name string
        2 op string
        3 input [string]
        4 device string
        5 attr string:AttrValue""",
    "AttrValue": """
        1 list ListValue value
        2 s bytes value
        3 i int64 value
        4 f float value
        5 b bool value
        6 type enum value
        7 shape TensorShapeProto value
        8 tensor TensorProto value
        9 placeholder string value
        10 func NameAttrList value""",
    "ListValue": """
        2 s [bytes]
        3 i [int64]
        4 f [float]
        5 b [bool]
        6 type [enum]
        7 shape [TensorShapeProto]
        8 tensor [TensorProto]
        9 func [NameAttrList]""",
    "NameAttrList": "1 name string",
    "TensorShapeProto": """
        2 dim [Dim]
        3 unknown_rank bool""",
    "Dim": """
        1 size int64
        2 name string""",
    "TensorProto": """
        1 dtype enum
        2 tensor_shape TensorShapeProto
        3 version_number int32
        4 tensor_content bytes
        5 float_val [float]
        6 double_val [double]
        7 int_val [int32]
        8 string_val [bytes]
        9 scomplex_val [float]
        10 int64_val [int64]
        11 bool_val [bool]
        12 dcomplex_val [double]
        13 half_val [int32]
        16 uint32_val [uint32]
        17 uint64_val [uint64]""",
}

DTYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64", 9: "int64",
    10: "bool", 14: "bfloat16", 17: "uint16", 18: "complex128", 19: "float16", 22: "uint32", 23: "uint64",
}  # fmt: skip
REFERENCE = 100  # added to the number of a type by variables, whose readers see the plain one


@cache
def graph_def() -> Any:
    """The class of the whole file's message. protobuf is imported when a file is read, not before."""
    from tenonrt_parser_uff.wire import message_class

    return message_class("tensorflow", SCHEMA, "GraphDef")
