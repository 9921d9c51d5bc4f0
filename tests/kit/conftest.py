"""Running the conformance kit in a process of its own, with distributions added to the path."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

BROKEN = Path(__file__).parents[1] / "broken-plugins"


@dataclass
class KitRun:
    """What a run of the kit said."""

    status: int
    output: str
    outcomes: dict[str, str]  # name of a test -> passed, failed, error, skipped

    def failed(self, subject: str) -> set[str]:
        """The rules that a distribution or entry point broke."""
        return {
            name.partition("[")[0]
            for name, outcome in self.outcomes.items()
            if f"[{subject}" in name and outcome in ("failed", "error")
        }


@dataclass
class Kit:
    folder: Path

    def run(self, distributions: Sequence[str], *options: str, paths: Sequence[Path] = ()) -> KitRun:
        """Hold distributions to their contracts."""
        results = self.folder / "results.xml"
        command = [sys.executable, "-m", "pytest", "--pyargs", "tenonrt_testing.suites", "-q", "-p", "no:cacheprovider"]
        command += [f"--tenonrt-dist={name}" for name in distributions]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
        done = subprocess.run(
            [*command, f"--junitxml={results}", "--rootdir", str(self.folder), *options],
            cwd=self.folder, env=environment, capture_output=True, text=True, timeout=1800, check=False,
        )  # fmt: skip
        return KitRun(done.returncode, done.stdout + done.stderr, _outcomes(results))


def _outcomes(results: Path) -> dict[str, str]:
    if not results.exists():
        return {}
    words = {"failure": "failed", "error": "error", "skipped": "skipped"}
    cases = ET.parse(results).iter("testcase")
    return {
        case.get("name", ""): next((words[child.tag] for child in case if child.tag in words), "passed")
        for case in cases
    }


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return Kit(tmp_path_factory.mktemp("kit"))


@pytest.fixture(scope="module")
def broken() -> list[Path]:
    return sorted(path for path in BROKEN.iterdir() if path.is_dir())
