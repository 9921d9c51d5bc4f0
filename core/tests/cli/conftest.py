"""A small model, its plan, and a way to call the command line as a user does: in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Tenonrt = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def tenonrt() -> Tenonrt:
    def call(*arguments: object, path: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        # Importable folders of this process, the tested one among them, are those of the other.
        folders = [str(path)] * (path is not None) + [folder for folder in sys.path if folder]
        return subprocess.run(
            [sys.executable, "-c", "from tenonrt.cli.app import main; main()", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(folders), "COLUMNS": "140", **environment},
        )

    return call


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y/out [N, 3] = softmax(relu(conv(x [N, 1, 4, 4])) @ w), float32; doubled [2] = mask + mask, int64."""
    onnx = pytest.importorskip("onnx")
    helper, types = onnx.helper, onnx.TensorProto
    rng = np.random.default_rng(1)

    def weight(name: str, *shape: int) -> Any:
        return onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Flatten", ["r"], ["f"], name="flatten"),
        helper.make_node("MatMul", ["f", "w"], ["m"], name="matmul"),
        helper.make_node("Softmax", ["m"], ["y/out"], name="softmax"),
        helper.make_node("Add", ["mask", "mask"], ["doubled"], name="double"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [
            helper.make_tensor_value_info("x", types.FLOAT, ["N", 1, 4, 4]),
            helper.make_tensor_value_info("mask", types.INT64, [2]),
        ],
        [
            helper.make_tensor_value_info("y/out", types.FLOAT, ["N", 3]),
            helper.make_tensor_value_info("doubled", types.INT64, [2]),
        ],
        [weight("k", 2, 1, 3, 3), weight("w", 32, 3)],
    )
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="session")
def plan(model: Path, tenonrt: Tenonrt) -> Path:
    """The model built for batches of 1 to 8."""
    path = model.with_name("small.plan")
    result = tenonrt("build", model, "-o", path, "--max-batch", 8)
    assert result.returncode == 0, result.stderr
    return path
