"""Functions whose bodies onnx's native code makes: in another process, whose end is a `ParseError`."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import tenonrt
from onnx import TensorProto, helper
from tenonrt.contracts import ParseError
from tenonrt_parser_onnx import native, native_worker
from tenonrt_parser_onnx.native import BodyReply, NativeOnnx


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A loss that no native layer computes, and whose body depends on the reduction."""
    node = helper.make_node("NegativeLogLikelihoodLoss", ["x", "t"], ["y"], "loss", reduction="mean")
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 5]),
        helper.make_tensor_value_info("t", TensorProto.INT64, [3]),
    ]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])])
    path = tmp_path / "loss.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def test_a_body_is_made_elsewhere_and_computes(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_worker, "answer", lambda message: pytest.fail("asked in this process"))
    x, t = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32), np.array([1, 4, 0])
    engine = tenonrt.compile(model, optimization_level=0)
    found = engine.create_context().execute({"x": x, "t": t})["y"]
    np.testing.assert_allclose(found, -x[np.arange(3), t].mean(), rtol=1e-6)


def test_the_worker_answers_with_a_reason() -> None:
    request = native.BodyRequest("NoSuchOperator", 20, "", 20, b"", ())
    reply = msgspec.msgpack.decode(native_worker.answer(msgspec.msgpack.encode(request)), type=BodyReply)
    assert "NoSuchOperator" in reply.why


@pytest.mark.parametrize(("crash", "why"), [("os.abort()", "SIGABRT"), ("time.sleep(99)", "did not finish within")])
def test_its_end_is_a_parse_error_that_names_the_node(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: str, why: str
) -> None:
    (tmp_path / "crashing.py").write_text(
        f"import os, time\nfrom tenonrt import serve\ndef answer(message):\n    {crash}\nserve(answer)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    broken = NativeOnnx(seconds=5.0 if "abort" in crash else 1.0)
    broken._worker._module = "crashing"
    monkeypatch.setattr("tenonrt_parser_onnx.standard.native_onnx", lambda: broken)
    with pytest.raises(ParseError, match=rf"{model}: node 'loss' .*cannot be expanded by onnx: .*{why}"):
        tenonrt.parse(model)
    broken.stop()
