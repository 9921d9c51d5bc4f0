"""Whole networks beside onnxruntime: agreement, the cover, plans in new processes, and times in one interleaved run.

python tests/benchmarks/bench_networks.py MODEL.onnx ... [--levels 0 3] [--seed 0]

The error is max |y - ref| over max |ref(smooth) - ref(noise)|: networks with random weights answer alike to inputs that
are alike, so a deviation counts in units of how far the reference moves between two inputs of different structure.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tenonrt
from network_inputs import disagreement, feed

Array = np.ndarray[Any, Any]
RUN_PLAN = """
import sys, numpy, tenonrt
folder = sys.argv[1]
feed = dict(numpy.load(folder + "/feed.npz"))
numpy.savez(folder + "/found.npz", **tenonrt.Engine.load(folder + "/net.plan").create_context().execute(feed))
"""


def reference(session: Any, given: dict[str, Array]) -> dict[str, Array]:
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, given), strict=True))


def same_in_new_process(engine: tenonrt.Engine, given: dict[str, Array], found: dict[str, Array]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "feed.npz"), **given)  # type: ignore[arg-type]
        engine.save(Path(folder, "net.plan"))
        subprocess.run([sys.executable, "-c", RUN_PLAN, folder], check=True)
        again = np.load(Path(folder, "found.npz"))
        return all(again[name].tobytes() == array.tobytes() for name, array in found.items())


def race(*runs: Any) -> list[float]:
    """Median milliseconds of each, in turn."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(7):
        for index, run in enumerate(runs):
            start = time.perf_counter()
            run()
            times[index].append((time.perf_counter() - start) * 1000)
    return [statistics.median(found[1:]) for found in times]


def measure(path: Path, levels: list[int], seed: int) -> None:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    smooth, noise = feed(session, seed, smooth=True), feed(session, seed + 1, smooth=False)
    expected, other = reference(session, smooth), reference(session, noise)
    for level in levels:
        start = time.perf_counter()
        engine = tenonrt.compile(path, optimization_level=level)
        build = time.perf_counter() - start
        context = engine.create_context()
        found = context.execute(smooth)
        same = "same bits" if same_in_new_process(engine, smooth, found) else "OTHER BITS"
        ours, theirs = race(lambda c=context: c.execute(smooth), lambda: session.run(None, smooth))
        print(
            f"{path.stem:22} level {level}  error {disagreement(found, expected, other):8.1e}  {same}  "
            f"build {build:5.1f} s  cover {engine.report.timings.get('select', 0.0):5.2f} s  "
            f"run {ours:7.1f} ms, onnxruntime {theirs:6.1f} ms",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--levels", nargs="+", type=int, default=[0, 3])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for path in arguments.models:
        measure(path, arguments.levels, arguments.seed)


if __name__ == "__main__":
    main()
