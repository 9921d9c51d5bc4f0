"""Operators that become several layers compute what onnxruntime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape) * 7 + sum(shape)).standard_normal(shape).astype(np.float32)


def scalar(value: float, dtype: Any = np.float32) -> np.ndarray:
    return np.asarray(value, dtype)


X = normal(2, 4, 3, 5)

CASES: list[tuple[str, int, dict[str, Any], tuple[str, ...], dict[str, Any]]] = [
    *[(kind, opset, {"x": X}, (), attributes)
      for kind in ("Softmax", "LogSoftmax", "Hardmax") for opset in (7, 11, 13)
      for attributes in ({}, {"axis": 2}, {"axis": 3}, {"axis": 0}, *([{"axis": -2}] if opset > 7 else []))],
    ("Gemm", 7, {"a": normal(2, 3), "b": normal(3, 4), "c": normal(4)}, ("b", "c"), {}),
    ("Gemm", 11, {"a": normal(2, 3), "b": normal(4, 3), "c": normal(4)}, ("b", "c"), {"transB": 1}),
    ("Gemm", 11, {"a": normal(2, 3), "b": normal(3, 4)}, (), {}),
    ("Gemm", 13, {"a": normal(2, 3), "b": normal(3, 4), "c": normal(2, 1)}, (), {}),
    ("Gemm", 13, {"a": normal(2, 2), "b": normal(2, 2), "c": normal(2)}, ("b",), {"transB": 1, "beta": 0.5}),
    ("Gemm", 13, {"a": normal(3, 2), "b": normal(3, 4), "c": normal(4)}, (), {"transA": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", 13, {"a": normal(3, 2), "b": normal(4, 3)}, (), {"transA": 1, "transB": 1, "alpha": 3.0}),
    ("Gemm", 13, {"a": normal(2, 3), "b": normal(3, 4), "c": normal(4)}, (), {"beta": 0.0}),
    ("Sum", 8, {"a": X, "b": normal(3, 5), "c": normal(4, 1, 1)}, (), {}),
    ("Sum", 8, {"a": X}, (), {}),
    ("Max", 8, {"a": X, "b": normal(3, 5), "c": normal(4, 1, 1)}, (), {}),
    ("Min", 8, {"a": X, "b": normal(3, 5)}, (), {}),
    ("Mean", 8, {"a": X, "b": normal(3, 5), "c": normal(4, 1, 1)}, (), {}),
    ("Clip", 13, {"x": X, "lo": scalar(-0.5), "hi": scalar(0.5)}, (), {}),
    ("Clip", 13, {"x": X, "lo": scalar(-0.5)}, (), {}),
    ("Clip", 13, {"x": X, "lo": scalar(0.5), "hi": scalar(-0.5)}, (), {}),
    ("Clip", 13, {"x": X, "lo": None, "hi": scalar(0.25)}, ("hi",), {}),
    ("Clip", 13, {"x": np.arange(9), "lo": scalar(2, np.int64), "hi": scalar(2**62 + 1, np.int64)}, ("lo", "hi"), {}),
    ("GlobalLpPool", 7, {"x": X}, (), {"p": 3}),
    ("MeanVarianceNormalization", 13, {"x": X}, (), {}),
    ("MeanVarianceNormalization", 13, {"x": X}, (), {"axes": [1, 2]}),
    ("GroupNormalization", 18, {"x": X, "s": normal(2), "b": normal(2)}, (), {"num_groups": 2}),
    ("GroupNormalization", 21, {"x": X, "s": normal(4), "b": normal(4)}, (), {"num_groups": 2}),
    *[("Trilu", 14, {"x": X, **({"k": scalar(k, np.int64)} if k is not None else {})}, (), {"upper": upper})
      for k in (None, -1, 0, 2) for upper in (0, 1)],
    ("Compress", 11, {"x": X, "c": np.array([True, False, True])}, (), {"axis": 1}),
    ("Compress", 11, {"x": X, "c": np.array([False, True, True, False])}, (), {}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[f"{c[0]}-{c[1]}-{i}" for i, c in enumerate(CASES)])
def test_value(parse, one_node, case):
    kind, opset, inputs, constants, attributes = case
    model = one_node(kind, inputs, opset, constants=constants, **attributes)
    feeds = {name: value for name, value in inputs.items() if value is not None and name not in constants}
    found = parse(model, feeds=feeds).outputs["y0"].value
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, feeds)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert found.dtype == expected.dtype


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("constant", [True, False])
def test_plain_gemm_is_fully_connected(parse, one_node, transposed, constant):
    b = normal(4, 3) if transposed else normal(3, 4)
    model = one_node(
        "Gemm", {"a": normal(2, 3), "b": b, "c": normal(4)}, constants=("b",) * constant, transB=transposed
    )
    kinds = parse(model).kinds
    assert kinds == (["FullyConnected"] if transposed or constant else ["Transpose", "FullyConnected"])
