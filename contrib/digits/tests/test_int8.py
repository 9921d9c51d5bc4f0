"""The digits in int8: accuracy by calibrator, layer by layer, and which layers matter. Engines are not timed."""

import json
from pathlib import Path

import numpy as np
import pytest
import tenonrt
import tenonrt_digits
from numpy.typing import NDArray
from tenonrt.accuracy.comparison import Request, Tolerances, compare
from tenonrt.accuracy.sensitivity import Study, sensitivity
from tenonrt.cli.app import main

IMAGES, LABELS = tenonrt_digits.heldout()
MODEL = tenonrt_digits.model_path()
CONFIG = {"optimization_level": 0, "max_batch": 120}
BATCHES = [{"image": IMAGES[start : start + 120]} for start in range(0, 360, 120)]


def accuracy(engine: tenonrt.Engine) -> float:
    context = engine.create_context()
    found: NDArray[np.float32] = np.concatenate([context.execute(batch)["probabilities"] for batch in BATCHES])
    return float((found.argmax(axis=1) == LABELS).mean())


@pytest.fixture(scope="module")
def real() -> float:
    return accuracy(tenonrt.compile(MODEL, **CONFIG))


@pytest.mark.parametrize("calibrator", ["entropy", "min-max", "percentile"])
def test_top_1_stays_within_half_a_point(calibrator: str, real: float) -> None:
    engine = tenonrt.compile(
        MODEL, precision="int8", calibration=tenonrt.Calibration(BATCHES[:1], calibrator), **CONFIG
    )
    assert accuracy(engine) >= real - 0.005


def test_every_tensor_is_compared() -> None:
    config = tenonrt.BuilderConfig(optimization_level=0, max_batch=120, precision="int8")
    request = Request(
        MODEL, BATCHES[:1], ("tenonrt", "reference"), config, tenonrt.Calibration(BATCHES[:1], "min-max"), True,
        Tolerances(0.0, 0.2),
    )  # fmt: skip
    found = compare(request)
    assert found.passed
    assert 0 < found.outputs[0].summary.largest < 0.2
    names = [row.tensor for row in found.tensors]
    assert {"relu1", "relu4", "concat5", "fc"} <= set(names)
    assert names.index("relu1") < names.index("fc")


def test_layers_are_ranked_and_the_fewest_kept() -> None:
    calibration = tenonrt.Calibration(BATCHES[:1], "min-max")
    config = tenonrt.BuilderConfig(max_batch=120)
    found = sensitivity(Study(MODEL, BATCHES[:1], calibration, target=1e-9, config=config))
    assert len(found.costs) == 7
    errors = [cost.error for cost in found.costs]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0
    assert set(found.keep) == {cost.layer for cost in found.costs}  # nothing less reaches that
    assert found.error == 0.0


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "samples.npz", image=IMAGES[:24])
    cache, plan, samples = (str(tmp_path / name) for name in ("cache", "digits.plan", "samples.npz"))
    common = ["--max-batch", "8", "--opt-level", "0"]
    with pytest.raises(SystemExit) as ended:
        main(["build", str(MODEL), "-o", plan, "--int8", "--calibrate", samples, "--calibrator", "min-max",
              "--calibration-cache", cache, *common])  # fmt: skip
    assert ended.value.code == 0
    assert "image: 3c010204" in Path(cache).read_text()  # the largest pixel is 1, its scale 1/127
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(MODEL), "--runners", "tenonrt,reference", "--data", samples, "--precision", "int8",
              "--calibration-cache", cache, "--calibrator", "min-max", "--rtol", "1e-6", "--json",
              *common])  # fmt: skip
    assert ended.value.code == 1  # int8 is not that near
    assert json.loads(capsys.readouterr().out)["passed"] is False
