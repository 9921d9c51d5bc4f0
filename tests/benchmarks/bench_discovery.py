"""Milliseconds to find the entry points of 300 more distributions: the median of 20 processes. The aim is below 100.

python tests/benchmarks/bench_discovery.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPT = """
import time, importlib_metadata
from tenonrt.plugins.discovery import scan
start = time.perf_counter()
found = scan()
print((time.perf_counter() - start) * 1000, sum(map(len, found.values())))
"""


def plant(folder: Path, count: int) -> None:
    for i in range(count):
        info = folder / f"fake_{i}-1.0.dist-info"
        info.mkdir()
        info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: fake-{i}\nVersion: 1.0\n")
        info.joinpath("entry_points.txt").write_text(f"[tenonrt.kernels]\ncpu/fake{i}.quick = fake_{i}:Quick\n")


def main(runs: int = 20, count: int = 300) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plant(Path(folder), count)
        environment = {**os.environ, "PYTHONPATH": folder}
        times = []
        for _ in range(runs):
            command = [sys.executable, "-c", SCRIPT]
            found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            spent, entries = found.stdout.split()
            times.append(float(spent))
    print(f"{entries} entry points: median {statistics.median(times):.1f} ms, least {min(times):.1f} ms")


if __name__ == "__main__":
    main()
