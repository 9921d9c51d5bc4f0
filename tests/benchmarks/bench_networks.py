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

Array = np.ndarray[Any, Any]
DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(bool)": "bool"}
RUN_PLAN = """
import sys, numpy, tenonrt
folder = sys.argv[1]
feed = dict(numpy.load(folder + "/feed.npz"))
numpy.savez(folder + "/found.npz", **tenonrt.Engine.load(folder + "/net.plan").create_context().execute(feed))
"""


def feed(session: Any, seed: int, *, smooth: bool) -> dict[str, Array]:
    """Noise, or for images patches with a little noise; ids below 1000, a mask that hides a third, zero types."""
    rng, made = np.random.default_rng(seed), {}
    for given in session.get_inputs():
        shape, dtype = [d if isinstance(d, int) else 1 for d in given.shape], DTYPES[given.type]
        x = rng.standard_normal(shape)
        if smooth and len(shape) == 4:
            patches = 2 * rng.standard_normal((*shape[:2], 4, 4)) + rng.standard_normal((*shape[:2], 1, 1))
            rows, columns = -(-shape[2] // 4), -(-shape[3] // 4)
            x = patches.repeat(rows, 2).repeat(columns, 3)[:, :, : shape[2], : shape[3]] + 0.1 * x
        if dtype != "float32":
            x = np.zeros(shape) if "type" in given.name else rng.integers(0, 1000, shape)
            if "mask" in given.name:
                x = np.ones(shape)
                x[..., shape[-1] - shape[-1] // 3 :] = 0
        made[given.name] = x.astype(dtype)
    return made


def reference(session: Any, given: dict[str, Array]) -> dict[str, Array]:
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, given), strict=True))


def disagreement(found: dict[str, Array], expected: dict[str, Array], other: dict[str, Array]) -> float:
    worst = 0.0
    for name, right in expected.items():
        moved = np.abs(right.astype(np.float64) - other[name]).max()
        worst = max(worst, float(np.abs(found[name].astype(np.float64) - right).max() / max(moved, 1e-30)))
    return worst


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
