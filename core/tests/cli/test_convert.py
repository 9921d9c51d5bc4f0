"""`tenonrt convert`: what it writes, and what it leaves when it cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Tenonrt = Callable[..., CompletedProcess[str]]


def test_a_model_is_written_again(model: Path, tenonrt: Tenonrt, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    result = tenonrt("convert", model, "-o", tmp_path / "again.onnx")
    assert result.returncode == 0, result.stderr
    assert f"{model.name} → {tmp_path / 'again.onnx'}" in result.stdout
    written = onnx.load(tmp_path / "again.onnx")
    onnx.checker.check_model(written, full_check=True)
    assert [output.name for output in written.graph.output] == ["y/out", "doubled"]
    assert [file.name for file in tmp_path.iterdir()] == ["again.onnx"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["-o", "net.uff"], 1, "no installed exporter writes .uff from"),
        (["-o", "no/such/folder/net.onnx"], 2, "there is no folder"),
        (["-o", "net.onnx", "--outputs", "y"], 1, "the onnx parser has no option outputs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_written(
    model: Path, tenonrt: Tenonrt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int,
    message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    result = tenonrt("convert", model, *arguments)
    assert result.returncode == status
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []
