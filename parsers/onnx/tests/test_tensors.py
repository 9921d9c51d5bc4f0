"""Initializers in every form the format has, and every way they can be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper
from tenonrt.contracts import ParseError
from tenonrt_parser_onnx.external import ExternalFiles
from tenonrt_parser_onnx.parser import OnnxParser
from tenonrt_parser_onnx.tensors import read_tensor

NOWHERE = ExternalFiles(Path("nowhere/model.onnx"))

VALUES: dict[str, list[Any]] = {
    "FLOAT": [0.5, -1.5], "UINT8": [0, 255], "INT8": [-128, 127], "UINT16": [0, 65535], "INT16": [-32768, 32767],
    "INT32": [-(2**31), 2**31 - 1], "INT64": [-(2**63), 2**63 - 1], "BOOL": [True, False], "FLOAT16": [0.5, -1.5],
    "DOUBLE": [0.5, -1.5], "UINT32": [0, 2**32 - 1], "UINT64": [0, 2**64 - 1], "COMPLEX64": [1 + 2j, -3j],
    "COMPLEX128": [1 + 2j, -3j], "BFLOAT16": [0.5, -1.5], "FLOAT8E4M3FN": [0.5, -1.5], "FLOAT8E4M3FNUZ": [0.5, -1.5],
    "FLOAT8E5M2": [0.5, -1.5], "FLOAT8E5M2FNUZ": [0.5, -1.5], "UINT4": [15, 0], "INT4": [-8, 7],
    "FLOAT4E2M1": [0.5, -6.0], "UINT2": [3, 0], "INT2": [-2, 1], "STRING": ["ü", ""],
}  # fmt: skip


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_every_type(kind, raw, count):
    if kind == "STRING" and raw:
        pytest.skip("strings are never raw")
    code = TensorProto.DataType.Value(kind)
    dtype = helper.tensor_dtype_to_np_dtype(code)
    values = np.resize(np.array(VALUES[kind], dtype), count) if count else np.zeros(0, dtype)
    if raw:
        tensor = numpy_helper.from_array(values, "t")
        assert tensor.data_type == code
        assert tensor.HasField("raw_data")
    else:
        tensor = helper.make_tensor("t", code, [count], values.tolist())
    found = read_tensor(tensor, NOWHERE)
    assert found.dtype == values.dtype
    assert found.shape == (count,)
    np.testing.assert_array_equal(found.astype(dtype), values)


def test_scale_type():
    values = np.array([1, 2, 0.5], ml_dtypes.float8_e8m0fnu)
    np.testing.assert_array_equal(read_tensor(numpy_helper.from_array(values), NOWHERE), values)


@given(hnp.arrays(st.sampled_from(["f4", "i8", "u1", "f2", "?", "c8"]), hnp.array_shapes(min_dims=0, min_side=0)))
def test_any_shape(values):
    found = read_tensor(numpy_helper.from_array(values), NOWHERE)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


def broken(**fields: Any) -> TensorProto:
    tensor = numpy_helper.from_array(np.ones((2, 2), np.float32), "t")
    for name, value in fields.items():
        if isinstance(value, (list, tuple)):
            del getattr(tensor, name)[:]
            getattr(tensor, name).extend(value)
        elif value is None:
            tensor.ClearField(name)
        else:
            setattr(tensor, name, value)
    return tensor


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (broken(dims=[2, 3]), "16 bytes of raw_data; float32.2, 3. needs 24"),
        (broken(dims=[2**30, 2**20]), "needs 4503599627370496"),
        (broken(dims=[2**62, 2**62]), "more elements than can exist"),
        (broken(dims=[0, 2**62, 2**62], raw_data=b""), "more elements than can exist"),
        (broken(dims=[-1, 4]), "negative dim"),
        (broken(dims=[1] * 40), "40 dims"),
        (broken(raw_data=b"abc"), "3 bytes of raw_data"),
        (broken(raw_data=None), "no raw_data; float32.2, 2. needs 4"),
        (broken(raw_data=None, int32_data=[1] * 4), "found in int32_data"),
        (broken(float_data=[1.0]), "both raw_data and float_data"),
        (broken(data_type=0), "data type 0 is not one"),
        (broken(data_type=77), "data type 77 is not one"),
        (broken(data_type=27), "data type 27 is not one"),
        (broken(data_type=8), "must be in string_data"),
        (broken(data_type=8, raw_data=None, string_data=[b"a"]), "1 strings"),
        (broken(data_type=8, raw_data=None, dims=[1], string_data=[b"\xff"]), "not UTF-8: byte 0"),
        (broken(data_type=9, dims=[4, 4], raw_data=b"\x02" * 16), "neither 0 nor 1"),
    ],
)
def test_refusals(tensor, message):
    with pytest.raises(ParseError, match=message):
        read_tensor(tensor, NOWHERE)


def test_segment():
    tensor = broken()
    tensor.segment.begin = 1
    with pytest.raises(ParseError, match="segments"):
        read_tensor(tensor, NOWHERE)


# --- external data ---------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> onnx.ModelProto:
    weights = np.arange(12, dtype=np.float32).reshape(3, 4)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "weights.bin").write_bytes(b"\0" * 64 + weights.tobytes())
    (tmp_path / "secret.bin").write_bytes(bytes(200))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "node")],
        "graph",
        [helper.make_tensor_value_info("x", 1, [2, 3])],
        [helper.make_tensor_value_info("y", 1, [2, 4])],
        [TensorProto(name="w", data_type=1, dims=[3, 4], data_location=TensorProto.EXTERNAL)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def external(model: onnx.ModelProto, folder: Path, builder: Any, **entries: str) -> Any:
    for key, value in entries.items():
        model.graph.initializer[0].external_data.add(key=key, value=value)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    OnnxParser().parse(folder / "model.onnx", builder)
    return builder.only.inputs[1].constant


def test_external_data(model, tmp_path, new_builder):
    found = external(model, tmp_path / "m", new_builder(), location="weights.bin", offset="64", length="48")
    np.testing.assert_array_equal(found, np.arange(12, dtype=np.float32).reshape(3, 4))
    assert not found.flags.owndata
    assert not found.flags.writeable


def test_external_data_at_an_odd_offset_is_aligned(model, tmp_path, new_builder):
    assert external(model, tmp_path / "m", new_builder(), location="weights.bin", offset="61").flags.aligned


def test_a_cache_of_links_is_followed(model, tmp_path, new_builder):
    blobs, links = tmp_path / "blobs", tmp_path / "links"
    blobs.mkdir()
    links.mkdir()
    (tmp_path / "m" / "weights.bin").rename(blobs / "b2")
    model.graph.initializer[0].external_data.add(key="location", value="weights.bin")
    (blobs / "b1").write_bytes(model.SerializeToString())
    (links / "model.onnx").symlink_to(blobs / "b1")
    (links / "weights.bin").symlink_to(blobs / "b2")
    builder = new_builder()
    OnnxParser().parse(links / "model.onnx", builder)
    assert builder.only.inputs[1].constant.shape == (3, 4)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "not a path below"),
        ({"location": "../secret.bin"}, "not a path below"),
        ({"location": "sub/../../secret.bin"}, "not a path below"),
        ({"location": "..\\secret.bin"}, "not a path below"),
        ({"location": "/etc/passwd"}, "not a path below"),
        ({"location": "C:\\secret.bin"}, "not a path below"),
        ({"location": "a\0b"}, "not a path below"),
        ({"location": "x" * 5000}, "not usable|missing"),
        ({"location": "link.bin"}, "leads out of"),
        ({"location": "absent.bin"}, "missing"),
        ({"location": "."}, "missing .*or not a regular file"),
        ({"location": "fifo"}, "not a regular file"),
        ({"location": "empty.bin"}, "has 0 bytes"),
        ({"location": "weights.bin", "offset": "65"}, "has 112 bytes, 48 are expected at offset 65"),
        ({"location": "weights.bin", "offset": "9" * 18}, "has 112 bytes"),
        ({"location": "weights.bin", "offset": "-1"}, "offset '-1' is not a number"),
        ({"location": "weights.bin", "offset": "9" * 30}, "not a number"),
        ({"location": "weights.bin", "length": "47"}, "length 47.*need 48"),
    ],
)
def test_external_refusals(model, tmp_path, new_builder, entries, message):
    import os

    (tmp_path / "m" / "link.bin").symlink_to(tmp_path / "secret.bin")
    (tmp_path / "m" / "empty.bin").touch()
    os.mkfifo(tmp_path / "m" / "fifo")
    with pytest.raises(
        ParseError, match=r"model\.onnx: node 'node' \(MatMul, #0\): initializer 'w': .*" + f"({message})"
    ):
        external(model, tmp_path / "m", new_builder(), **entries)
