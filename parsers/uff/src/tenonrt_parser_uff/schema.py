"""The messages of UFF, metagraph version 1."""

from __future__ import annotations

from functools import cache
from typing import Any

SCHEMA = {
    "MetaGraph": """
        1 version int64
        2 descriptor_core_version int64
        3 descriptors [Descriptor]
        4 graphs [Graph]
        5 referenced_data string:Data
        100 extra_fields string:Data""",
    "Descriptor": """
        1 id string
        2 version int64
        3 optional bool""",
    "Graph": """
        1 id string
        2 nodes [Node]
        100 extra_fields string:Data""",
    "Node": """
        1 id string
        2 inputs [string]
        3 operation string
        4 fields string:Data
        100 extra_fields string:Data""",
    "Data": """
        1 s string data_oneof
        2 s_list ListString data_oneof
        3 d double data_oneof
        4 d_list ListDouble data_oneof
        5 b bool data_oneof
        6 b_list ListBool data_oneof
        7 i int64 data_oneof
        8 i_list ListINT64 data_oneof
        9 blob bytes data_oneof
        100 ref string data_oneof
        101 dtype enum data_oneof
        102 dtype_list ListDataType data_oneof
        103 dim_orders DimensionOrders data_oneof
        104 dim_orders_list ListDimensionOrders data_oneof""",
    "ListString": "1 val [string]",
    "ListDouble": "1 val [double]",
    "ListBool": "1 val [bool]",
    "ListINT64": "1 val [int64]",
    "ListDataType": "1 val [enum]",
    "ListDimensionOrders": "1 val [DimensionOrders]",
    "DimensionOrders": "1 orders int32:ListINT64",
}

# The low bits are the width. 7 is what converters write for a type they do not know.
DTYPES = {
    0x10008: "int8", 0x10010: "int16", 0x10020: "int32", 0x10040: "int64", 0x20010: "float16", 0x20020: "float32",
}  # fmt: skip
UNKNOWN_DTYPE = 7

MAIN_ORDER = -1  # the only key of a DimensionOrders, OE_SPECIAL
INCREMENT, DECREMENT = 0x7FFFFFFF, -0x80000000


@cache
def meta_graph() -> Any:
    """The class of the whole file's message. protobuf is imported when a file is read, not before."""
    from tenonrt_parser_uff.wire import message_class

    return message_class("uff", SCHEMA, "MetaGraph")
