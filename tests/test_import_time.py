"""Importing TenonRT imports nothing heavy. What it costs in milliseconds is measured in benchmarks/bench_import.py."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ["cupy", "onnx", "google.protobuf", "llvmlite", "highspy", "scipy", "torch", "onnxruntime", "rich", "typer"]


def loaded(statement: str) -> set[str]:
    script = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    return set(json.loads(found.stdout))


@pytest.mark.parametrize(
    "statement",
    [
        "import tenonrt",
        "import tenonrt.contracts",
        "import tenonrt; tenonrt.Network()",
        "import tenonrt; tenonrt.current_registry().records()",
        "import tenonrt; tenonrt.Engine",
    ],
)
def test_nothing_heavy_is_imported(statement: str) -> None:
    assert loaded(statement).isdisjoint(HEAVY)


def test_the_top_module_imports_no_other_and_not_even_numpy() -> None:
    modules = loaded("import tenonrt")
    assert "numpy" not in modules
    assert {m for m in modules if m.startswith("tenonrt")} == {"tenonrt"}


def test_the_deny_list_can_fail() -> None:
    assert "numpy" in loaded("import numpy")
