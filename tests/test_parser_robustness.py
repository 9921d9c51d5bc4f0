"""Hostile model files, through parsing and building: refused or built, in little time and memory.

The work is done by robustness/worker.py in a process of its own, which forks. Outcomes that are allowed: ``built``;
``refused`` and ``unsupported``, a `ParseError` or `UnsupportedError` of parse() whose message begins with the file;
`BuildError` and `GraphError` of the build. Everything else fails: another exception, a pass or kernel that was
quarantined, a signal, a hang.

``TENONRT_FUZZ_SEED`` and ``TENONRT_FUZZ_CASES`` choose other cases and more of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")

WORKER = Path(__file__).parent / "robustness" / "worker.py"
SEED = int(os.environ.get("TENONRT_FUZZ_SEED", "0"))
CASES = {
    "bytes": int(os.environ.get("TENONRT_FUZZ_CASES", "1500")),
    "meaning": int(os.environ.get("TENONRT_FUZZ_CASES", "3000")),
}
ALLOWED = {"built", "refused", "unsupported", "BuildError", "GraphError"}
MEBIBYTES = 300


def run(*arguments: str) -> list[dict[str, Any]]:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(WORKER), *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    for report in reports:
        if report.get("outcome") == "died":
            report["traceback"] = done.stderr[-3000:]  # of a hang, when it was the last one
    return reports


def tell(report: dict[str, Any]) -> str:
    """One report as a person wants to read it."""
    known = {key: value for key, value in report.items() if key != "traceback"}
    return f"{known}\n{report.get('traceback', '')}"


@pytest.fixture(scope="module")
def bombs() -> dict[str, dict[str, Any]]:
    return {report["name"]: report for report in run("bombs")}


def names() -> list[str]:
    """The bombs by name, without importing onnx at collection."""
    source = (WORKER.parent / "bombs.py").read_text().splitlines()
    return [line.removeprefix("def ").partition("(")[0] for i, line in enumerate(source) if source[i - 1] == "@bomb"]


@pytest.mark.xdist_group("bombs")
@pytest.mark.parametrize("name", [*names(), "vectors"])
def test_models_that_ask_for_too_much(bombs: dict[str, dict[str, Any]], name: str) -> None:
    chosen = [r for n, r in bombs.items() if n == name or (name == "vectors" and n.startswith("vector_of"))]
    assert chosen
    for report in chosen:
        assert report["outcome"] in ALLOWED, tell(report)
        assert report["end"] == 0, tell(report)
        assert report["mebibytes"] < MEBIBYTES, tell(report)


@pytest.fixture(scope="module")
def damaged() -> list[dict[str, Any]]:
    """The reports on all cases, each with its kind."""
    return run("cases", str(SEED), *(f"{kind}={count}" for kind, count in CASES.items()))


@pytest.mark.xdist_group("damaged models")
@pytest.mark.parametrize("kind", CASES)
def test_damaged_models(damaged: list[dict[str, Any]], kind: str) -> None:
    reports = [report for report in damaged if report["kind"] == kind]
    batches = [report for report in reports if report["outcome"] == "batch"]
    outcomes = Counter(report["outcome"] for report in reports)
    assert sum(outcomes.values()) - len(batches) == CASES[kind]
    wrong = [report for report in reports if report["outcome"] not in {*ALLOWED, "batch"}]
    assert not wrong, f"{len(wrong)} of {CASES[kind]}:\n" + "\n".join(map(tell, wrong[:5]))
    assert all(batch["mebibytes"] < MEBIBYTES for batch in batches), batches
    # Damage that always refuses, or never, tests nothing.
    assert outcomes["built"] > {"bytes": 0.01, "meaning": 0.15}[kind] * CASES[kind]
    assert outcomes["refused"] > 0.3 * CASES[kind]


def test_what_a_layer_refuses_names_the_file_the_node_and_the_layer(tmp_path: Path) -> None:
    """A `GraphError` of the core becomes a `ParseError`, also inside of a branch."""
    import onnx
    import tenonrt
    from onnx import helper

    conv = helper.make_node("Conv", ["x", "x"], ["z"], "conv", group=3)
    branch = helper.make_graph([conv], "branch", [], [onnx.ValueInfoProto(name="z")])
    chosen = helper.make_node("If", ["c"], ["y"], "choice", then_branch=branch, else_branch=branch)
    inputs = [helper.make_tensor_value_info("x", 1, [1, 2, 8, 8]), helper.make_tensor_value_info("c", 9, [])]
    graph = helper.make_graph([chosen], "graph", inputs, [onnx.ValueInfoProto(name="y")])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    with pytest.raises(tenonrt.ParseError) as caught:
        tenonrt.parse(path)
    assert type(caught.value) is tenonrt.ParseError
    for part in (str(path), "'choice' (If, #0)", "graph 'branch'", "'conv' (Conv, #0)", "layer 'conv' (Convolution)"):
        assert part in str(caught.value)
