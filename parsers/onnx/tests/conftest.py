from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from tenonrt_parser_onnx.parser import OnnxParser

NAME = "onnx_recording_builder"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location(NAME, Path(__file__).with_name("recording_builder.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    return module


recording = load()
Parse = Callable[..., Any]


@pytest.fixture
def new_builder() -> Callable[..., Any]:
    return recording.RecordingBuilder


@pytest.fixture
def parse(tmp_path: Path) -> Parse:
    """Write a model (or bytes) to a file, parse it, and return the builder that was filled."""

    def parse(model: onnx.ModelProto | bytes, **builder: Any) -> Any:
        path = tmp_path / "model.onnx"
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        filled = recording.RecordingBuilder(**builder)
        OnnxParser().parse(path, filled)
        return filled

    return parse


@pytest.fixture
def one_node() -> Callable[..., onnx.ModelProto]:
    """A model of one node. Arrays are inputs, those named in ``constants`` initializers; None leaves an input out."""

    def build(
        kind: str,
        inputs: dict[str, np.ndarray | None],
        opset: int = 20,
        outputs: int | list[str] = 1,
        constants: tuple[str, ...] = (),
        **attributes: Any,
    ) -> onnx.ModelProto:
        names = outputs if isinstance(outputs, list) else [f"y{i}" for i in range(outputs)]
        given = {name: value for name, value in inputs.items() if value is not None}
        node = helper.make_node(
            kind, [name if value is not None else "" for name, value in inputs.items()], names, "node", **attributes
        )
        graph = helper.make_graph(
            [node],
            "graph",
            [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
                for name, value in given.items()
                if name not in constants
            ],
            [onnx.ValueInfoProto(name=name) for name in names if name],
            [onnx.numpy_helper.from_array(value, name) for name, value in given.items() if name in constants],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)

    return build
