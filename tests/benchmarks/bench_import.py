"""Milliseconds that `import tenonrt` takes beyond `import numpy`: medians of 20 processes.

python tests/benchmarks/bench_import.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

STATEMENTS = ("pass", "import numpy", "import tenonrt", "import numpy, tenonrt", "import tenonrt.contracts")


def milliseconds(statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return (time.perf_counter() - start) * 1000


def main(runs: int = 20) -> None:
    times: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    for _ in range(runs):  # in turn, so that a drifting machine disturbs all alike
        for statement in STATEMENTS:
            times[statement].append(milliseconds(statement))
    medians = {statement: statistics.median(found) for statement, found in times.items()}
    for statement, median in medians.items():
        print(f"{statement:32}{median:8.1f} ms{median - medians['import numpy']:+9.1f} ms beyond numpy")


if __name__ == "__main__":
    main()
