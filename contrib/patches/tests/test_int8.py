"""The patches in int8, by the kernels that are used: accuracy by calibrator, and what the accuracy tools say of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
import tenonrt_patches
from numpy.typing import NDArray

MODEL = tenonrt_patches.model_path()
PATCHES, LABELS = tenonrt_patches.heldout()
SAMPLES = [{"image": part} for part in np.array_split(tenonrt_patches.calibration()[0], 16)]


def run(engine: tenonrt.Engine, patches: NDArray[np.float32] = PATCHES) -> NDArray[np.float32]:
    context = engine.create_context()
    parts = np.array_split(patches, -(-len(patches) // 64))
    return np.concatenate([context.execute({"image": part})["probabilities"] for part in parts])


def top_1(probabilities: NDArray[np.float32]) -> float:
    return float((probabilities.argmax(axis=1) == LABELS).mean())


@pytest.fixture(scope="module")
def real() -> NDArray[np.float32]:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": PATCHES})[0])


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Kernels are tried and chosen by estimate, which takes int8 ones as timing does; tried once for all engines."""
    cache = tmp_path_factory.mktemp("patches") / "timing.cache"
    return {"optimization_level": 1, "tuning_seconds": 0.0, "max_batch": 64, "timing_cache": cache}


@pytest.mark.xdist_group("patches")
def test_top_1_is_well_above_chance_and_below_one(real: NDArray[np.float32]) -> None:
    assert 0.7 < top_1(real) < 0.95


@pytest.mark.xdist_group("patches")
@pytest.mark.parametrize("calibrator", ["entropy", "min-max", "percentile"])
def test_top_1_stays_within_half_a_point(calibrator: str, real: NDArray[np.float32], config: dict[str, Any]) -> None:
    calibration = tenonrt.Calibration(SAMPLES, calibrator)
    engine = tenonrt.compile(MODEL, precision="int8", calibration=calibration, **config)
    kernels = [step.kernel.rpartition(".")[2] for step in engine.report.steps]
    assert kernels.count("llvm_quantized_depthwise") == 6
    assert kernels.count("llvm_quantized") >= 13
    found = run(engine)
    assert top_1(found) >= top_1(real) - 0.005
    assert (found.argmax(axis=1) == real.argmax(axis=1)).mean() > 0.9
    assert not np.array_equal(found, real)
