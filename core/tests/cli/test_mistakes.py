"""What goes wrong is said in one message, with the status that shells and scripts expect."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tenonrt import Engine

Tenonrt = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["build"],
        ["build", "m.onnx", "--opt-level", "9"],
        ["build", "m.onnx", "--precision", "float31"],
        ["build", "m.onnx", "--shape", "x=1x"],
        ["build", "m.onnx", "--workspace", "much"],
        ["build", "m.onnx", "-o", "no/such/folder/m.plan"],
        ["run", "m.plan", "--input", "x"],
        ["bench", "m.plan", "--batch", "0"],
        ["inspect", "a.plan", "b.plan"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2(tenonrt: Tenonrt, arguments: list[str]) -> None:
    result = tenonrt(*arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("verb", ["build", "run", "bench", "inspect"])
def test_missing_file(tenonrt: Tenonrt, tmp_path: Path, verb: str) -> None:
    result = tenonrt(verb, tmp_path / "gone.plan")
    assert result.returncode == 1
    assert "gone.plan" in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 500], ids=["empty", "short", "long"])
def test_not_a_plan(tenonrt: Tenonrt, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.plan"
    path.write_bytes(content)
    result = tenonrt("inspect", path)
    assert result.returncode == 1
    assert "is not a plan" in result.stderr


def test_a_plan_is_not_built_again(plan: Path, tenonrt: Tenonrt, tmp_path: Path) -> None:
    result = tenonrt("build", plan, "-o", tmp_path / "again.plan")
    assert result.returncode == 1
    assert "is a plan already" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["inspect", "run"])
def test_damaged_plan(plan: Path, tenonrt: Tenonrt, tmp_path: Path, verb: str) -> None:
    data = bytearray(plan.read_bytes())
    data[plan.stat().st_size // 2] ^= 0xFF
    path = tmp_path / "m.plan"
    path.write_bytes(data[:-64])
    result = tenonrt(verb, path)
    assert result.returncode == 1
    assert str(path) in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("position", ["before the verb", "after it"])
def test_traceback_on_request(tenonrt: Tenonrt, tmp_path: Path, position: str) -> None:
    words = ["inspect", str(tmp_path / "gone.plan")]
    words.insert(0 if position == "before the verb" else len(words), "--traceback")
    result = tenonrt(*words)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "PlanError" in result.stderr


@pytest.mark.parametrize("words", [["--batch", "9"], ["--shape", "z=1"], ["--shape", "x=1x1x4x5"]], ids=" ".join)
def test_inputs_that_the_engine_does_not_take(plan: Path, tenonrt: Tenonrt, words: list[str]) -> None:
    result = tenonrt("run", plan, *words)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")


def test_unknown_name_of_a_plugin(tenonrt: Tenonrt) -> None:
    result = tenonrt("plugins", "--why", "no-such-thing")
    assert result.returncode == 1
    assert "no-such-thing" in result.stderr
    for word in ("numpy_gem", "softmx"):  # a part of a name, and a misspelt one
        assert "did you mean " in tenonrt("plugins", "--why", word).stderr


# A shell without job control starts background jobs with the interrupt ignored, and their children inherit that.
BUILD = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from tenonrt.cli.app import main
main()
"""


def interrupted_build(model: Path, folder: Path) -> tuple[int, str]:
    """Status and errors of a build that is interrupted once its timing cache appears: tuning is then under way."""
    cache, plan = folder / "times.db", folder / "m.plan"
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, "build", model, "-o", plan, "--timing-cache", cache],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not cache.exists() and process.poll() is None:
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_an_interrupted_build_leaves_nothing(model: Path, tmp_path: Path) -> None:
    """A small build may be over before the signal comes, so there are a few tries; a finished plan must be whole."""
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        status, errors = interrupted_build(model, folder)
        left = [p.name for p in folder.iterdir() if not p.name.startswith("times.db")]
        if status == 130:
            assert errors == "error: interrupted; no file was left half written\n"
            assert left == []
            return
        assert (status, left) == (0, ["m.plan"]), errors
        Engine.load(folder / "m.plan", verify=True)
    pytest.fail("no build was interrupted in five tries")


@pytest.mark.parametrize("verb", ["parse", "compare", "rank --layer conv", "convert -o m.onnx"])
def test_a_plan_is_no_model(plan: Path, tenonrt: Tenonrt, verb: str) -> None:
    name, *options = verb.split()
    result = tenonrt(name, plan, *options)
    assert result.returncode == 1
    assert result.stderr == f"error: {plan} is a plan already; run, bench and inspect take it as it is\n"


@pytest.mark.parametrize("verb", ["run", "bench --runs 1 --threads 2"])
def test_what_is_said_for_builds_has_no_effect_on_a_plan(plan: Path, tenonrt: Tenonrt, verb: str) -> None:
    name, *options = verb.split()
    result = tenonrt(name, plan, "--opt-level", 1, *options)
    assert result.returncode == 0
    assert "built already" in result.stderr
    assert "--opt-level" in result.stderr
    assert ("TENONRT_NUM_THREADS" in result.stderr) == ("--threads" in verb)
    assert tenonrt(name, plan).stderr == ""


def test_a_batch_that_cannot_vary_is_no_range(model: Path, tenonrt: Tenonrt, tmp_path: Path) -> None:
    fixed = tmp_path / "fixed.onnx"
    onnx = pytest.importorskip("onnx")
    proto = onnx.load(model)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(proto, fixed)
    result = tenonrt("build", fixed, "-o", tmp_path / "m.plan", "--max-batch", 8)
    assert result.returncode == 1
    assert "max_batch is 8, but no input has a batch that varies (inputs: x float32[1x1x4x4]" in result.stderr
    assert tenonrt("build", fixed, "-o", tmp_path / "m.plan", "--max-batch", 1, "--opt-level", 0).returncode == 0


def test_int8_of_a_model_without_integers_is_told(model: Path, tenonrt: Tenonrt, tmp_path: Path) -> None:
    result = tenonrt("build", model, "-o", tmp_path / "m.plan", "--int8", "--opt-level", 0)
    assert result.returncode == 0
    assert "nothing in small is quantized" in result.stderr
    for words in (["--keep", "conv"], ["--calibrator-option", "percentile=99"]):
        assert tenonrt("build", model, "-o", tmp_path / "m.plan", "--int8", *words).returncode == 2


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (np.zeros((4, 1, 4, 4)), "s.npz: the samples for input 'x' are float64"),
        (np.zeros((4, 1, 4, 5), np.float32), "s.npz: the samples for input 'x' have the shape (4, 1, 4, 5)"),
        (np.zeros((4, 16), np.float32), "s.npz: the samples for input 'x' have the shape (4, 16)"),
    ],
    ids=["type", "size", "rank"],
)
def test_samples_that_do_not_fit(model: Path, tenonrt: Tenonrt, tmp_path: Path, samples: Any, said: str) -> None:
    """Said before another runtime gets them, whose own words for it were a traceback."""
    path = tmp_path / "s.npz"
    np.savez(path, x=samples, mask=np.zeros((4,), np.int64))
    result = tenonrt("compare", model, "--data", path, "--opt-level", 0)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_runner_that_raises_is_named(model: Path, tenonrt: Tenonrt, tmp_path: Path) -> None:
    (tmp_path / "odd_runner.py").write_text("def odd(path):\n    raise KeyError(f'no licence for {path.name}')\n")
    info = tmp_path / "odd-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tenonrt.runners]\nodd = odd_runner:odd\n")
    result = tenonrt("compare", model, "--runners", "tenonrt,odd", "--opt-level", 0, path=tmp_path)
    assert result.returncode == 1
    assert "the runner odd cannot run" in result.stderr
    assert "no licence" in result.stderr
    assert "Traceback" not in result.stderr


def test_outputs_go_into_a_folder(plan: Path, model: Path, tenonrt: Tenonrt) -> None:
    result = tenonrt("run", plan, "-o", model)
    assert result.returncode == 2
    assert "is no folder" in result.stderr


def test_help_of_caches_offers_no_completion(tenonrt: Tenonrt) -> None:
    assert "completion" not in tenonrt("cache", "--help").stdout
