"""Operators as older opsets had them: beside onnxruntime where it still has a kernel, else beside NumPy.

A case is an operator, the opsets that had it so, inputs, attributes, and how many outputs it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt import PluginSet, Registry

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import helper  # noqa: E402 - needs onnx

Array = np.ndarray[Any, Any]
# References alone: what the operators mean is asked here, and no kernel is compiled.
REGISTRY = Registry(
    PluginSet(deny=("tenonrt-kernel-llvm", "tenonrt-kernel-numpy:cpu/[CF]*", "tenonrt-layer-onnx-reference"))
)
RNG = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


X, M, POSITIVE = normal(2, 3, 4, 5), normal(3, 4), np.abs(normal(2, 3, 4, 5)) + 0.1
CHANNELS = [normal(3), normal(3), normal(3), np.abs(normal(3))]
Case = tuple[str, list[int], list[Any], dict[str, Any], int]


def activations() -> Iterator[Case]:
    for kind in ("Relu", "Sigmoid", "Tanh", "Abs", "Neg", "Exp", "Floor", "Ceil", "Sqrt", "Reciprocal", "Log"):
        yield kind, [6], [POSITIVE], {}, 1
    yield "Clip", [6], [X], {"min": -0.5, "max": 0.5}, 1
    yield "Clip", [11, 12], [X, floats(-0.5)[0], floats(0.5)[0]], {}, 1
    yield "Clip", [11], [X, None, floats(0.5)[0]], {}, 1
    yield "LeakyRelu", [6], [X], {"alpha": 0.1}, 1
    yield "PRelu", [7, 9], [X, normal(3, 1, 1)], {}, 1
    yield "Dropout", [7, 10], [X], {"ratio": 0.4}, 1
    yield "Dropout", [12, 13], [X, floats(0.5)[0]], {}, 1
    for kind in ("Softmax", "LogSoftmax", "Hardmax"):
        for attrs in ({}, {"axis": 2}, {"axis": -2}):
            yield kind, [11], [X], attrs, 1  # the axes from there on are one
        yield kind, [13], [X], {}, 1


def arithmetic() -> Iterator[Case]:
    for kind in ("Add", "Sub", "Mul", "Div"):
        yield kind, [7, 13, 14], [X, normal(4, 1)], {}, 1
    yield "Pow", [7, 12], [POSITIVE, normal(4, 1)], {}, 1
    yield "Pow", [12], [POSITIVE, ints(2)], {}, 1
    whole = RNG.integers(0, 3, (2, 3, 4))
    for kind in ("Less", "Greater"):
        yield kind, [7, 9], [whole.astype(np.float32), RNG.integers(0, 3, 4).astype(np.float32)], {}, 1
    yield "Equal", [7, 11], [whole, RNG.integers(0, 3, 4)], {}, 1
    for kind in ("Sum", "Mean", "Max", "Min"):
        yield kind, [6], [M, normal(3, 4)], {}, 1
        yield kind, [8], [M, normal(4)], {}, 1
    yield "Gemm", [7, 9, 11], [M, normal(2, 4), normal(2)], {"transB": 1, "beta": 0.5}, 1
    yield "Gemm", [11], [M, normal(4, 2)], {}, 1
    yield "Mod", [10], [M, normal(4)], {"fmod": 1}, 1


def reductions() -> Iterator[Case]:
    for kind in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
                 "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"):  # fmt: skip
        newer = [13] if kind == "ReduceSum" else [18]
        yield kind, [1, 11], [POSITIVE], {"axes": [1, 3], "keepdims": 0}, 1
        yield kind, [1], [POSITIVE], {}, 1
        yield kind, newer, [POSITIVE, ints(1)], {"keepdims": 1}, 1
        yield kind, newer, [POSITIVE, ints()], {"noop_with_empty_axes": 1}, 1
    yield "ArgMax", [1, 11], [X], {"axis": 1, "keepdims": 0}, 1
    yield "ArgMin", [12, 13], [np.round(X)], {"axis": -1, "select_last_index": 1}, 1
    yield "TopK", [1], [X], {"k": 2, "axis": 1}, 2
    yield "TopK", [10], [X, ints(2)], {}, 2
    yield "TopK", [11], [X, ints(2)], {"largest": 0}, 2


def movements() -> Iterator[Case]:
    pads = [0, 0, 1, 1, 0, 0, 2, 0]
    yield "Pad", [2], [X], {"pads": pads, "mode": "reflect"}, 1
    yield "Pad", [2], [X], {"pads": [0, 0, 1, -1, 0, 0, 2, 0], "value": 2.0}, 1
    yield "Pad", [11, 13, 18], [X, ints(*pads), floats(3)[0]], {}, 1
    yield "Slice", [1], [X], {"axes": [1, 3], "starts": [0, -3], "ends": [2, 100]}, 1
    yield "Slice", [10, 11, 13], [X, ints(0, -3), ints(2, 100), ints(1, 3)], {}, 1
    yield "Squeeze", [1, 11], [normal(1, 3, 1, 2)], {"axes": [0, 2]}, 1
    yield "Squeeze", [13], [normal(1, 3, 1, 2), ints(0, 2)], {}, 1
    yield "Unsqueeze", [1, 11], [M], {"axes": [0, 3]}, 1
    yield "Unsqueeze", [13], [M, ints(0, 3)], {}, 1
    yield "Split", [2, 11], [normal(6, 4)], {"split": [2, 4]}, 2
    yield "Split", [2, 11], [normal(6, 4)], {}, 3
    yield "Split", [13], [normal(6, 4), ints(2, 4)], {}, 2
    yield "Reshape", [5, 13], [X, ints(0, -1)], {}, 1
    yield "Flatten", [9, 11], [X], {"axis": 2}, 1
    yield "Concat", [4, 11], [M, normal(3, 1)], {"axis": 1}, 1
    yield "Scatter", [9], [M, np.array([[0, 1, 2, 0]]), normal(1, 4)], {"axis": 0}, 1
    yield "OneHot", [9, 11], [ints(0, 2, 5), ints(4), floats(0, 1)], {}, 1
    yield "Tile", [6], [M, ints(2, 1)], {}, 1
    yield "DepthToSpace", [1, 11], [normal(1, 8, 2, 2)], {"blocksize": 2}, 1


def images() -> Iterator[Case]:
    yield "BatchNormalization", [7, 9, 14], [X, *CHANNELS], {"epsilon": 1e-2}, 1
    elements = [normal(3, 4, 5), normal(3, 4, 5), normal(3, 4, 5), np.abs(normal(3, 4, 5))]
    yield "BatchNormalization", [7], [X, *elements], {"spatial": 0, "epsilon": 1e-2}, 1
    yield "MaxPool", [1], [X], {"kernel_shape": [3, 3], "auto_pad": "SAME_LOWER"}, 1
    yield "MaxPool", [10, 12], [X], {"kernel_shape": [2, 2], "ceil_mode": 1, "strides": [3, 3]}, 1
    yield "AveragePool", [7], [X], {"kernel_shape": [2, 2], "pads": [1] * 4, "count_include_pad": 1}, 1
    yield "AveragePool", [10, 19], [X], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, 1
    for mode in ("nearest", "linear"):
        yield "Upsample", [7], [X], {"mode": mode, "scales": [1.0, 1.0, 2.0, 3.0]}, 1
        yield "Upsample", [9], [X, floats(1, 1, 2, 2)], {"mode": mode}, 1
        yield "Resize", [10], [X, floats(1, 1, 0.5, 1.5)], {"mode": mode}, 1
    yield "Resize", [11], [X, floats(), floats(1, 1, 2, 1.5)], {"mode": "cubic"}, 1
    yield "ConvTranspose", [1, 11], [X, normal(3, 4, 2, 2)], {"strides": [2, 2], "output_shape": [8, 9]}, 1
    words, hidden = normal(5, 2, 4), {"hidden_size": 3}
    yield "LSTM", [7, 14], [words, normal(1, 12, 4), normal(1, 12, 3), normal(1, 24)], hidden, 3
    gru = [words, normal(1, 9, 4), normal(1, 9, 3), normal(1, 18)]
    yield "GRU", [7, 14], gru, {**hidden, "linear_before_reset": 1}, 2


GROUPS = (activations, arithmetic, reductions, movements, images)
# Inputs of these that the layers take as attributes.
CONSTANT = {"OneHot", "Resize", "Upsample", "Dropout", "Tile", "TopK", "Pad", "Slice", "Split", "Squeeze", "Unsqueeze"}


def model(
    kind: str, version: int, inputs: list[Any], attrs: dict[str, Any], outputs: int
) -> tuple[Any, dict[str, Array]]:
    """A model of one node and its feed; constants are initializers, which were inputs too before IR version 4."""
    given = {f"x{i}": np.asarray(value) for i, value in enumerate(inputs) if value is not None}
    fixed = {name for name in given if name != "x0" and (kind in CONSTANT or given[name].size == 0)}
    names = [f"x{i}" if value is not None else "" for i, value in enumerate(inputs)]
    results = [f"y{i}" for i in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(kind, names, results, "node", **attrs)],
        "graph",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in given.items()
            if name not in fixed or version <= 8
        ],
        [onnx.ValueInfoProto(name=name) for name in results],
        [onnx.numpy_helper.from_array(given[name], name) for name in sorted(fixed)],
    )
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", version)], ir_version=3 if version <= 8 else 8
    )
    return made, {name: value for name, value in given.items() if name not in fixed}


def run(made: Any, feed: dict[str, Array], tmp_path: Path) -> list[Array]:
    path = tmp_path / "model.onnx"
    path.write_bytes(made.SerializeToString())
    engine = tenonrt.compile(tenonrt.parse(path, registry=REGISTRY), optimization_level=0)
    return list(engine.create_context().execute(feed).values())


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_as_onnxruntime_has_them(group: Any, tmp_path: Path) -> None:
    wrong = []
    for kind, versions, *rest in group():
        for version in versions:
            made, feed = model(kind, version, *rest)
            session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
            expected, found = session.run(None, feed), run(made, feed, tmp_path)
            same = len(found) == len(expected) and all(
                a.shape == b.shape and a.dtype == b.dtype and np.allclose(a, b, rtol=1e-4, atol=1e-5)
                for a, b in zip(found, expected, strict=True)
            )
            if not same:
                wrong.append((kind, version, rest[1]))
    assert not wrong


# Before opset 7 onnxruntime has few kernels.
ANCIENT = [
    ("Add", 1, [X, normal(3)], {"broadcast": 1, "axis": 1}, lambda x, b: x + b[:, None, None]),
    ("Mul", 6, [X, normal(3, 4)], {"broadcast": 1, "axis": 1}, lambda x, b: x * b[..., None]),
    ("Sub", 6, [X, normal(4, 5)], {"broadcast": 1}, lambda x, b: x - b),
    ("Pow", 1, [POSITIVE, normal(5)], {"broadcast": 1}, lambda x, b: x**b),
    ("Equal", 1, [np.round(X).astype(np.int64), ints(0, 1, 0)], {"broadcast": 1, "axis": 1},
     lambda x, b: x == b[:, None, None]),
    ("Relu", 1, [X], {"consumed_inputs": [0]}, lambda x: np.maximum(x, 0)),
    ("PRelu", 6, [X, normal(3)], {}, lambda x, s: np.where(x < 0, x * s[:, None, None], x)),
    ("Cast", 1, [X * 9], {"to": "INT32"}, lambda x: x.astype(np.int32)),
    ("Concat", 1, [X, normal(2, 1, 4, 5)], {}, lambda a, b: np.concatenate([a, b], 1)),
    ("Reshape", 1, [X], {"shape": [0, -1]}, lambda x: x.reshape(2, -1)),
    ("Gemm", 1, [M, normal(4, 2), normal(2)], {"broadcast": 1, "alpha": 0.5}, lambda a, b, c: 0.5 * (a @ b) + c),
    ("Dropout", 1, [X], {"is_test": 1, "ratio": 0.3}, lambda x: x),
    ("Pad", 1, [M], {"paddings": [1, 0, 0, 2], "value": 1.5},
     lambda x: np.pad(x, ((1, 0), (0, 2)), constant_values=1.5)),
    ("Upsample", 1, [X], {"height_scale": 2.0, "width_scale": 3.0}, lambda x: x.repeat(2, 2).repeat(3, 3)),
    ("BatchNormalization", 6, [X, *CHANNELS], {"is_test": 1}, lambda x, s, b, m, v: (
        (x - m[:, None, None]) / np.sqrt(v[:, None, None] + 1e-5) * s[:, None, None] + b[:, None, None])),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "version", "inputs", "attrs", "wanted"), ANCIENT, ids=lambda v: str(v)[:12])
def test_as_numpy_has_them(
    kind: str, version: int, inputs: list[Any], attrs: dict[str, Any], wanted: Any, tmp_path: Path
) -> None:
    made, feed = model(kind, version, inputs, attrs, 1)
    (found,) = run(made, feed, tmp_path)
    np.testing.assert_allclose(found, wanted(*inputs), rtol=1e-5, atol=1e-5)


def test_tiles_along_one_axis(tmp_path: Path) -> None:
    """Tile of opset 1: how many, of the input's type, and the axis."""
    made, feed = model("Tile", 1, [M, floats(2), floats(1)], {}, 1)
    np.testing.assert_array_equal(run(made, feed, tmp_path)[0], np.tile(M, (1, 2)))
