"""`compare` and `sensitivity` as people use them: what they say, and that it leads on."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenonrt
import tenonrt_digits
from tenonrt.accuracy import comparison
from tenonrt.accuracy.comparison import Request, compare
from tenonrt.accuracy.sensitivity import Study, sensitivity
from tenonrt.cli.app import main
from tenonrt.errors import BuildError

IMAGES, LABELS = tenonrt_digits.heldout()
MODEL = tenonrt_digits.model_path()
BATCHES = [{"image": IMAGES[:64]}]
CALIBRATION = tenonrt.Calibration(BATCHES, "min-max")
CONFIG = tenonrt.BuilderConfig(optimization_level=0, max_batch=64, precision="int8")


def run(*arguments: str | Path) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    np.savez(tmp_path / "two words.npz", image=IMAGES[:64])
    return tmp_path / "two words.npz"


def test_layers_are_those_of_the_engine_whose_outputs_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[tenonrt.Engine] = []

    def compiled(*given: Any, **config: Any) -> tenonrt.Engine:
        engine = tenonrt.compile(*given, **config)
        if config.get("precision") == "int8":
            built.append(engine)
        return engine

    observed: list[tenonrt.Engine] = []
    observe = comparison.observe
    monkeypatch.setattr(comparison, "compile", compiled)
    monkeypatch.setattr(comparison, "observe", lambda engine, *rest: observed.append(engine) or observe(engine, *rest))
    found = compare(Request(MODEL, BATCHES, ("tenonrt", "reference"), CONFIG, CALIBRATION, layerwise=True))
    assert len(built) == 1
    assert observed == built
    softmax = next(row for row in found.tensors if row.tensor in {"probabilities", "softmax"})
    assert softmax.summary == found.outputs[0].summary


def test_int8_of_a_model_that_is_not_quantized_takes_samples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BuildError, match="is not quantized, so that nothing would be computed in int8: give samples"):
        compare(Request(MODEL, BATCHES, ("tenonrt", "reference"), CONFIG))
    assert run("compare", MODEL, "--runners", "tenonrt,reference", "--precision", "int8", "--opt-level", "0") == 1
    assert "give samples to calibrate" in capsys.readouterr().err


def test_a_failure_says_by_how_much(samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", MODEL, "--runners", "tenonrt,reference", "--data", samples, "--opt-level", "0"]
    int8 = ["--precision", "int8", "--calibrator", "min-max"]
    assert run(*arguments, *int8) == 1
    shown = capsys.readouterr().out
    assert "FAILED  probabilities of tenonrt is off by 0.0" in shown
    assert "--rtol admits 0.001, --atol 1e-05" in shown
    assert run(*arguments, *int8, "--rtol", "0.2") == 0
    assert "PASSED" in capsys.readouterr().out


def test_the_command_that_sensitivity_prints_builds(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    options = ["--calibrator", "min-max", "--calibration-cache", cache, "--max-batch", "64"]
    assert run("sensitivity", MODEL, "--data", samples, "--target", "0.004", *options) == 0
    shown = capsys.readouterr().out
    assert "target                 0.004 reached" in shown
    command = shlex.split(next(line for line in shown.splitlines() if line.startswith("tenonrt build")))
    assert 0 < command.count("--keep") < 7
    monkeypatch.chdir(tmp_path)
    assert run(*command[1:], "--opt-level", "0", "-o", "kept.plan") == 0
    context = tenonrt.Engine.load(tmp_path / "kept.plan").create_context()
    real = tenonrt.compile(MODEL, optimization_level=0).create_context().execute(BATCHES[0])["probabilities"]
    assert np.abs(context.execute(BATCHES[0])["probabilities"] - real).max() <= 0.004


def test_a_target_that_float32_misses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx = pytest.importorskip("onnx")
    weights = onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32), "weights")
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 4]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Gemm", ["x", "weights"], ["y"])], "one", [x], [y], [weights])
    opsets = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "one.onnx")
    np.save(tmp_path / "x.npy", np.eye(4, dtype=np.float32))
    np.save(tmp_path / "labels.npy", [0, 1, 2, 2])
    options = ["--data", tmp_path / "x.npy", "--labels", tmp_path / "labels.npy", "--target", "0.9"]
    assert run("sensitivity", tmp_path / "one.onnx", *options) == 1
    shown = capsys.readouterr().out
    assert "0.7500, float32 0.7500" in shown
    assert "0.9 more than float32 has" in shown
    assert "tenonrt build" not in shown


def test_labels_that_do_not_fit_are_refused_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenonrt.accuracy.sensitivity.parse", lambda path: pytest.fail("the model was read"))
    with pytest.raises(BuildError, match="there are 360 labels for 64 samples"):
        sensitivity(Study(MODEL, BATCHES, CALIBRATION, LABELS.tolist()))
