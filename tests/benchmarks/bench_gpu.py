"""Networks on a GPU in half precision: python tests/benchmarks/bench_gpu.py MODEL.onnx [CACHE.sqlite]

Prints the median and the least time of a run by CUDA events, on four lanes and on one, the sum of the steps' own times
(each with an event around it, 2 to 3 µs), joules for each run by the GPU's counter, and the slowest steps.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from typing import Any

import cupy
import numpy as np
import tenonrt
from tenonrt_device_cuda.line import LANES
from tenonrt_device_cuda.management import energy_joules

RUNS, STEP_RUNS, SLOWEST = 100, 20, 12


def run_seconds(context: Any) -> list[float]:
    """Sorted seconds of runs whose inputs are in the context's own arrays."""
    stream = cupy.cuda.Stream(non_blocking=True)
    for _ in range(10):
        context.enqueue(stream=stream)
    events = [(cupy.cuda.Event(), cupy.cuda.Event()) for _ in range(RUNS)]
    for before, after in events:
        before.record(stream)
        context.enqueue(stream=stream)
        after.record(stream)
    stream.synchronize()
    return sorted(cupy.cuda.get_elapsed_time(before, after) * 1e-3 for before, after in events)


def step_seconds(engine: Any, context: Any) -> dict[str, float]:
    """Median seconds of each step, one after the other."""
    spent: dict[str, list[float]] = {}
    context.profiler = lambda name, seconds: spent.setdefault(name, []).append(seconds)
    inputs = {b.name: np.zeros(b.type.concrete({}), b.type.numpy) for b in engine.bindings if b.is_input}
    for _ in range(STEP_RUNS):
        context.execute(inputs)
    context.profiler = None
    return {name: statistics.median(seconds) for name, seconds in spent.items()}


def joules(context: Any, seconds: float = 2.0) -> float:
    """Energy of one run, while runs follow each other."""
    first, start, runs = energy_joules(), time.monotonic(), 0
    while time.monotonic() - start < seconds:
        for _ in range(50):
            context.enqueue()
        context.synchronize()
        runs += 50
    last = energy_joules()
    return float("nan") if first is None or last is None else (last - first) / runs


def main(path: str, cache: str | None = None) -> None:
    start = time.monotonic()
    engine = tenonrt.compile(path, device="cuda", precision="float16", timing_cache=cache)
    print(f"{path}: built in {time.monotonic() - start:.1f} s {engine.report.timings}")
    for lanes in ("4", "1"):
        os.environ[LANES] = lanes
        context = engine.create_context()
        found = run_seconds(context)
        print(f"{lanes} lanes: median {found[len(found) // 2] * 1e3:.4f} ms, least {found[0] * 1e3:.4f} ms")
    steps = step_seconds(engine, context)
    print(f"sum of {len(steps)} steps {sum(steps.values()) * 1e3:.4f} ms; {joules(context):.4f} J a run")
    for name, seconds in sorted(steps.items(), key=lambda pair: -pair[1])[:SLOWEST]:
        print(f"{seconds * 1e6:9.2f} µs  {name}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
