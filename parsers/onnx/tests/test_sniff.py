from __future__ import annotations

import json
import subprocess
import sys
import zlib

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from tenonrt_parser_onnx.parser import OnnxParser


def model(nodes: int = 3, **fields: object) -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"], f"node{i}") for i in range(nodes)],
        "graph",
        [helper.make_tensor_value_info("t0", 1, [1])],
        [helper.make_tensor_value_info(f"t{nodes}", 1, [1])],
    )
    return helper.make_model(graph, **fields).SerializeToString()


def sniff(data: bytes) -> bool:
    return OnnxParser().sniff(data[:4096])


@pytest.mark.parametrize("data", [
    model(),
    model(500),
    model(0),
    model(producer_name="tool", producer_version="1", doc_string="ü" * 5000),
    model()[:40],
], ids=["small", "large", "empty graph", "long text", "cut"])  # fmt: skip
def test_models(data):
    assert sniff(data)


def test_model_without_ir_version():
    proto = onnx.ModelProto.FromString(model())
    proto.ClearField("ir_version")
    assert sniff(proto.SerializeToString())


@pytest.mark.parametrize("data", [
    b"",
    b"\x08",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(40),
    b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(100),
    json.dumps({"graph": [1, 2, 3]}).encode() * 20,
    b"TENONRT1" + bytes(range(200)),
    b": graph {\n node {\n op_type: 'Relu' } }" * 9,
    zlib.compress(bytes(range(256)) * 20),
    bytes(4096),
    b"\x08\x01\x10\x01\x1a\x09\x0a\x04main\x12\x01x" * 5,  # UFF: field 2 is a number
    b"\n\x05LeNet\x12\x04data\x1a\x01d" + b"\xa2\x06\x02\x0a\x00" * 20,  # a Caffe net: begins with its name
], ids=str)  # fmt: skip
def test_other_files(data):
    assert not sniff(data)


@given(st.binary(max_size=300))
def test_random_bytes(data):
    assert not sniff(data)


@given(st.integers(0, 255), st.integers(0))
def test_damage_never_raises(byte, position):
    data = bytearray(model())
    data[position % len(data)] = byte
    assert sniff(bytes(data)) in (True, False)


def test_neither_sniffing_nor_mapping_imports_onnx():
    from onnx_recording_builder import MAPPINGS

    modules = sorted({value.split(":")[0] for value in MAPPINGS.values()})
    code = (
        f"import sys, importlib, tenonrt_parser_onnx.parser as p; p.OnnxParser().sniff(b'abc')\n"
        f"for name in {modules}: importlib.import_module(name)\n"
        "assert not {'onnx', 'google.protobuf', 'ml_dtypes'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
