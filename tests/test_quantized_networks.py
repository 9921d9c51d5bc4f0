"""Networks that onnxruntime's quantizer makes, in both of its forms: one network after the passes, as good as there."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt.graph.passes import run_passes

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
quantization = pytest.importorskip("onnxruntime.quantization")
shape_inference = pytest.importorskip("onnxruntime.quantization.shape_inference")

HERE = Path(__file__).parent
FORMS = ("QDQ", "QOperator")
INPUTS = 8
Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def writer() -> Iterator[Any]:
    """The module that the network files import by name."""
    sys.path.insert(0, str(HERE))
    yield import_module("networks.writer")
    sys.path.remove(str(HERE))


def images(shape: tuple[int, ...], seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {"input": (rng.standard_normal(shape) + 2 * rng.standard_normal((*shape[:2], 1, 1))).astype(np.float32)}


class Samples(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.left = iter([images(shape, seed) for seed in range(2)])

    def get_next(self) -> dict[str, Array] | None:
        return next(self.left, None)


def quantized(network: str, dtype: str, writer: Any, folder: Path) -> tuple[Path, list[Path], tuple[int, ...]]:
    """The model in fp32, in both forms, and the shape of its input."""
    module = import_module(f"networks.{network}")
    made = writer.Writer(network, "traced", 1)
    module.build(made)
    path, shape = folder / f"{network}.onnx", (1, *module.INPUT)
    onnx.save(made.model(), folder / "unfolded.onnx")  # normalizations go into weights before anything is quantized
    shape_inference.quant_pre_process(folder / "unfolded.onnx", path, skip_symbolic_shape=True)
    kinds = {"u8": quantization.QuantType.QUInt8, "s8": quantization.QuantType.QInt8}
    targets = []
    for form in FORMS:
        targets.append(folder / f"{network}.{form}.onnx")
        quantization.quantize_static(
            path, targets[-1], Samples(shape), quant_format=getattr(quantization.QuantFormat, form), per_channel=True,
            activation_type=kinds[dtype], weight_type=quantization.QuantType.QInt8,
        )  # fmt: skip
    return path, targets, shape


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("dtype", ["u8", "s8"])
@pytest.mark.parametrize("network", ["residual", "inverted", "inception"])
def test_both_forms(network: str, dtype: str, writer: Any, tmp_path: Path) -> None:
    path, targets, shape = quantized(network, dtype, writer, tmp_path)
    kinds = []
    for target in targets:
        parsed = tenonrt.parse(target)
        assert not run_passes(parsed.graph, parsed.registry).quarantined
        kinds.append(Counter(f"{layer.kind} {layer.outputs[0].type.dtype}" for layer in parsed.layers))
    assert kinds[0]["Convolution float32"] == kinds[1]["Convolution float32"] > 0
    assert min(found["Saturate float32"] for found in kinds) > 0 or network == "inception"
    real = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for target in targets:
        session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
        context = tenonrt.compile(target, optimization_level=0).create_context()
        errors = np.zeros((INPUTS, 2))
        for seed in range(INPUTS):
            given = images(shape, 100 + seed)
            (expected,), (theirs,) = real.run(None, given), session.run(None, given)
            (ours,) = context.execute(given).values()
            errors[seed] = [np.sqrt(np.mean((found - expected) ** 2)) for found in (ours, theirs)]
        ours_mean, theirs_mean = errors.mean(axis=0)
        assert ours_mean <= 1.1 * theirs_mean, (target.name, ours_mean, theirs_mean)
