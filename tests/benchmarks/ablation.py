"""What each optimization buys: every network with all of them, and with each one off alone, timed side by side.

uv run --group bench python tests/benchmarks/ablation.py MODEL.onnx ... [--threads 2] [--timing-cache F] [--json F]
    [--disable aggregation --disable concat_removal ...] [--plans FOLDER] [--seconds 8] [--precision best]

All variants of a network are built first (--plans keeps them, and takes those that are there), then run in turns; a
time is a median. "cost" is what the cover promised. "arena" is compared with the largest sum of tensors that live
together. Without exact_cover the selection is greedy: the longest region first, then its fastest tactic.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tenonrt
from tenonrt.builder.optimizations import OPTIMIZATIONS

ALL = "everything"
_TURN_SECONDS, _ROUNDS = 0.03, 5


def build(path: Path, plan: Path, disable: frozenset[str], options: argparse.Namespace) -> None:
    if plan.exists():
        return
    start = time.perf_counter()
    engine = tenonrt.compile(
        path, threads=options.threads, timing_cache=options.timing_cache, disable=disable, precision=options.precision
    )
    engine.save(plan)
    print(f"  built {plan.stem} in {time.perf_counter() - start:.0f} s", flush=True)


def inputs(engine: tenonrt.Engine) -> dict[str, np.ndarray[Any, Any]]:
    """Noise; zeros for integers, which are indices."""
    rng, made = np.random.default_rng(0), {}
    for binding in engine.bindings:
        if binding.is_input:
            shape = tuple(d if isinstance(d, int) else 1 for d in binding.type.shape)
            noise = rng.standard_normal(shape)
            values = noise if binding.type.dtype.startswith("float") else 0 * noise
            made[binding.name] = values.astype(binding.type.numpy)
    return made


def race(plans: Mapping[str, Path], feed: Mapping[str, Any], seconds: float) -> dict[str, float]:
    """Milliseconds of each, in turns: the median of the rounds' medians.

    Engines are loaded anew for each round: where its pages happen to lie can cost a network a twentieth.
    """
    medians: dict[str, list[float]] = {name: [] for name in plans}
    shuffled = random.Random(0)
    for _ in range(_ROUNDS):
        contexts = {name: tenonrt.Engine.load(plan).create_context() for name, plan in plans.items()}
        times: dict[str, list[float]] = {name: [] for name in plans}
        stop, order = time.perf_counter() + seconds / _ROUNDS, list(contexts.items())
        while time.perf_counter() < stop or len(times[ALL]) < 2:
            shuffled.shuffle(order)  # none always follows the same one
            for name, context in order:
                context.execute(feed)
                turn = start = time.perf_counter()
                while start - turn < _TURN_SECONDS:
                    context.execute(feed)
                    end = time.perf_counter()
                    times[name].append((end - start) * 1e3)
                    start = end
        for name, found in times.items():
            medians[name].append(statistics.median(found))
    return {name: statistics.median(found) for name, found in medians.items()}


def measure(path: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    variants = {ALL: frozenset[str](), **{name: frozenset({name}) for name in options.disable or OPTIMIZATIONS}}
    engines, plans = {}, {}
    for name, disable in variants.items():
        plans[name] = plan = folder / f"{path.stem}-{options.precision}-{name}.plan"
        build(path, plan, disable, options)
        engines[name] = tenonrt.Engine.load(plan)
    if options.build_only:
        return {"model": path.stem, "variants": {}}
    times = race(plans, inputs(engines[ALL]), options.seconds)
    rows = {}
    for name, engine in engines.items():
        program, report = engine.plan.program, engine.report
        rows[name] = {
            "ms": times[name], "steps": len(program.steps), "arena": program.arena, "lower_bound": program.lower_bound,
            "cost_ms": report.cost * 1e3,
        }  # fmt: skip
    return {"model": path.stem, "variants": rows}


def show(found: dict[str, Any]) -> None:
    rows = found["variants"]
    if not rows:
        return
    base = rows[ALL]
    print(f"{found['model']}: {base['ms']:.2f} ms, {base['steps']} steps")
    for name, row in rows.items():
        slower, arena = (row["ms"] / base["ms"] - 1) * 100, "depends on shapes"
        if row["arena"] is not None:
            arena = f"{row['arena'] / 2**20:.2f} MiB, {row['arena'] / row['lower_bound']:.3f} of the bound"
        print(
            f"  {name:16} {row['ms']:9.2f} ms {slower:+7.1f} %  {row['steps']:4} steps  "
            f"cost {row['cost_ms']:8.2f} ms  arena {arena}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8.0, help="of racing, for each model")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--disable", action="append", help="only these, one at a time")
    parser.add_argument("--timing-cache", type=Path)
    parser.add_argument("--plans", type=Path)
    parser.add_argument("--build-only", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.plans or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for path in options.models:
            results.append(measure(path, folder, options))
            show(results[-1])
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
