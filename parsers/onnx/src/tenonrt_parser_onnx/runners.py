"""Other runtimes that read ONNX models, for `tenonrt compare`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tenonrt.contracts import Array, UnsupportedError

Run = Callable[[Mapping[str, Array]], dict[str, Array]]


def onnxruntime(path: Path) -> Run:
    """ONNX Runtime on the CPU; `UnsupportedError` where it is not installed."""
    module = _installed("onnxruntime")
    session = module.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda batch: dict(zip(names, session.run(names, dict(batch)), strict=True))


def openvino(path: Path) -> Run:
    """OpenVINO on the CPU, float32 where the model is; `UnsupportedError` where it is not installed."""
    core = _installed("openvino").Core()
    compiled = core.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda batch: {key.get_any_name(): value for key, value in compiled(dict(batch)).items()}


def _installed(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise UnsupportedError(f"comparing with {name} needs the package {name}, which is not installed") from error
