"""What builds cost: tactics compiled, problems timed and seconds by phase, without a timing cache and with one.

uv run --group bench python tests/benchmarks/builds.py MODEL.onnx ... [--threads 2] [--json F]

Each network is built twice with a timing cache of its own: the first build finds it empty, the second knows everything.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import tenonrt

# What the tuner counts, as its note in the report has it.
_COUNTED = ("tactics tried", "problems timed", "races run again", "finalists timed in place")


def build(path: Path, cache: Path, threads: int) -> tuple[tenonrt.Engine, dict[str, Any]]:
    start = time.perf_counter()
    engine = tenonrt.compile(path, threads=threads, timing_cache=cache)
    seconds = time.perf_counter() - start
    note = next(note for note in reversed(engine.report.notes) if note.startswith("tuning:"))
    counts = {what: int(found[1]) if (found := re.search(rf"(\d+) {what}", note)) else 0 for what in _COUNTED}
    return engine, {"seconds": seconds, "phases": dict(engine.report.timings), **counts}


def measure(path: Path, threads: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        first, cold = build(path, Path(folder) / "times", threads)
        second, warm = build(path, Path(folder) / "times", threads)
    return {"model": path.stem, "cold": cold, "warm": warm, "same": first.choice == second.choice}


def row(found: dict[str, Any]) -> str:
    cold, warm = found["cold"], found["warm"]
    phases = cold["phases"]
    cells = (
        found["model"], *(cold[what] for what in _COUNTED[:3]), f"{cold['seconds']:.1f}",
        *(f"{phases.get(phase, 0.0):.1f}" for phase in ("check", "tune", "finals")), f"{warm['seconds']:.2f}",
        "yes" if found["same"] else "NO",
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    heads = (
        "network",
        "first runs",
        "problems timed",
        "again",
        "cold, s",
        "trying",
        "racing",
        "finals",
        "warm, s",
        "same",
    )
    print(f"| {' | '.join(heads)} |\n|---|{'---:|' * (len(heads) - 2)}---|")
    results = []
    for path in options.models:
        results.append(measure(path, options.threads))
        print(row(results[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
