"""A Caffe network beside the same one from ONNX: uv run --group bench python tests/benchmarks/bench_caffe.py NET

The network gets made-up weights, is written as ONNX, and both are built with one timing cache, so that equal problems
have equal times. What is told: how many of the regions that are chosen are the same problem with the same tactic, and
median milliseconds of runs in turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tenonrt

sys.path.insert(0, str(Path(__file__).parents[1]))
from networks.rewriting import as_onnx


def chosen(engine: Any) -> Counter[tuple[str, str, str]]:
    """Problem, kernel and tactic of every region that the engine runs."""
    won = [(region, region.candidates[region.winner]) for region in engine.report.regions if region.winner is not None]
    return Counter((region.problem, candidate.kernel, candidate.tactic) for region, candidate in won)


def build(path: Path, level: int, threads: int, cache: Path, **options: Any) -> Any:
    """An engine of a file."""
    network = tenonrt.parse(path, options=options)
    return tenonrt.compile(network, optimization_level=level, threads=threads, timing_cache=cache)


def race(contexts: dict[str, Any], feeds: dict[str, Any], seconds: float) -> dict[str, float]:
    """Medians in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in contexts}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, context in contexts.items():
            start = time.perf_counter()
            context.execute(feeds)
            times[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(found[1:]) for name, found in times.items()}


def main() -> None:
    """Build both and compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("deploy", type=Path)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--level", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--cache", type=Path, help="keep the timing cache here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        deploy, cache = Path(folder) / "net.prototxt", given.cache or Path(folder) / "timings"
        deploy.write_text(given.deploy.read_text().replace("dim: 10 ", f"dim: {given.batch} "))
        network = tenonrt.parse(deploy, options={"random_weights": 1})
        onnx.save(as_onnx(network), Path(folder) / "net.onnx")
        shared = (given.level, given.threads, cache)
        engines = {"caffe": build(deploy, *shared, random_weights=1), "onnx": build(Path(folder) / "net.onnx", *shared)}
    first, second = (chosen(engine) for engine in engines.values())
    print(
        f"regions chosen: {first.total()} from Caffe, {second.total()} from ONNX, {(first & second).total()} the same"
    )
    feeds = {
        binding.name: np.random.default_rng(0).standard_normal(binding.type.concrete({}), np.float32)
        for binding in engines["caffe"].bindings if binding.is_input
    }  # fmt: skip
    contexts = {name: engine.create_context() for name, engine in engines.items()}
    for name, milliseconds in race(contexts, feeds, given.seconds).items():
        print(f"{name}: {milliseconds:.2f} ms")


if __name__ == "__main__":
    main()
