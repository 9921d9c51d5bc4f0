"""The tools that compare take the options of the parser: a Caffe network has its weights in another file."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from tenonrt.cli.app import main

NETWORK = """
input: "data" input_shape { dim: 1 dim: 3 dim: 6 dim: 6 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "conv" top: "prob" }
"""


def tenonrt(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        main([word.replace("@", f"{folder}/") for word in shlex.split(command)])
    return int(stop.value.code or 0), capsys.readouterr().out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.prototxt").write_text(NETWORK)
    np.save(tmp_path / "data.npy", np.random.default_rng(0).random((4, 3, 6, 6), np.float32))
    return tmp_path


def test_compare_reads_the_weights_that_it_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "compare @net.prototxt --random-weights 1 --runners tenonrt,reference --data @data.npy --opt-level 0"
    status, shown = tenonrt(command, folder, capsys)
    assert status == 0, shown
    assert "PASSED" in shown


def test_sensitivity_repeats_what_it_was_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = (
        "sensitivity @net.prototxt --random-weights 1 --free-batch --shape data=2x3x6x6 --data @data.npy --target 1"
    )
    status, shown = tenonrt(command, folder, capsys)
    assert status == 0, shown
    assert shown.rstrip().endswith("--random-weights 1 --free-batch --shape data=2x3x6x6")
