"""What a busy machine costs a build: engines built beside a CPU hog, against one that was built in quiet.

uv run --group bench python tests/benchmarks/hog.py MODEL.onnx ... --plans FOLDER [--threads 2] [--builds 3]
    [--hogs 1] [--steady] [--seconds 8] [--only quiet|hogged|race]

A hog is a process that computes all the time (--steady), or in bursts of 0.1 to 4 seconds with pauses as long, so that
what is timed at different moments finds a different machine. No build has a timing cache. Plans that are in the folder
are taken as they are, so the three parts can be run one by one; the quiet build and the race want a quiet machine.
The speed is the median of five rounds, in which all engines run in turns; 1 is the quiet build's.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tenonrt
from ablation import inputs

QUIET, _ROUNDS, _TURN_SECONDS = "quiet", 5, 0.1
_LEAST_BURST, _MOST_BURST = 0.1, 4.0


def compute(seed: int, *, steady: bool) -> None:
    """What a hog does until it is ended."""
    rng = random.Random(seed)
    while True:
        stop = time.monotonic() + rng.uniform(_LEAST_BURST, _MOST_BURST)
        while time.monotonic() < stop:
            sum(range(10_000))
        if not steady:
            time.sleep(rng.uniform(_LEAST_BURST, _MOST_BURST))


@contextmanager
def hogs(count: int, *, steady: bool) -> Iterator[None]:
    """So many processes beside the build, each with bursts of its own."""
    command = [sys.executable, __file__, "--hog"]
    processes = [
        subprocess.Popen([*command, str(seed), *(["--steady"] if steady else [])])
        for seed in range(int(time.time()), int(time.time()) + count)
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def build(path: Path, plan: Path, threads: int) -> None:
    if plan.exists():
        return
    start = time.perf_counter()
    engine = tenonrt.compile(path, threads=threads)
    engine.save(plan)
    phases = ", ".join(f"{phase} {spent:.1f}" for phase, spent in engine.report.timings.items())
    print(f"  built {plan.stem} in {time.perf_counter() - start:.0f} s ({phases})", flush=True)


def race(plans: Mapping[str, Path], seconds: float) -> dict[str, float]:
    """Speeds beside that of the quiet build: medians of the rounds' ratios, each of medians of runs in turns.

    Engines are loaded anew for each round: where its pages happen to lie can cost a network a twentieth.
    """
    ratios: dict[str, list[float]] = {name: [] for name in plans}
    for _ in range(_ROUNDS):
        engines = {name: tenonrt.Engine.load(plan) for name, plan in plans.items()}
        contexts = {name: engine.create_context() for name, engine in engines.items()}
        feed = inputs(engines[QUIET])
        times: dict[str, list[float]] = {name: [] for name in engines}
        stop = time.perf_counter() + seconds / _ROUNDS
        while time.perf_counter() < stop or len(times[QUIET]) < 5:
            for name, context in contexts.items():
                times[name] += _turn(context, feed)
        medians = {name: statistics.median(found) for name, found in times.items()}
        for name, found in medians.items():
            ratios[name].append(medians[QUIET] / found)
    return {name: statistics.median(found) for name, found in ratios.items()}


def _turn(context: Any, feed: Mapping[str, Any]) -> list[float]:
    context.execute(feed)
    times, turn = [], time.perf_counter()
    while (start := time.perf_counter()) < turn + _TURN_SECONDS:
        context.execute(feed)
        times.append(time.perf_counter() - start)
    return times


def measure(path: Path, options: argparse.Namespace) -> None:
    plans = {name: options.plans / f"{path.stem}-{name}.plan" for name in (QUIET, *_hogged(options))}
    if options.only in (None, QUIET):
        build(path, plans[QUIET], options.threads)
    if options.only in (None, "hogged"):
        for name in _hogged(options):
            with hogs(options.hogs, steady=options.steady):
                build(path, plans[name], options.threads)
    if options.only in (None, "race"):
        speeds = race({name: plan for name, plan in plans.items() if plan.exists()}, options.seconds)
        print(f"{path.stem}: " + ", ".join(f"{name} {speed:.3f}" for name, speed in speeds.items()), flush=True)


def _hogged(options: argparse.Namespace) -> list[str]:
    how = "steady" if options.steady else "bursts"
    return [f"{how}-{options.hogs}-{number}" for number in range(options.builds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--plans", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--builds", type=int, default=3, help="beside hogs, of each model")
    parser.add_argument("--hogs", type=int, default=1)
    parser.add_argument("--steady", action="store_true", help="hogs that never pause")
    parser.add_argument("--seconds", type=float, default=8.0, help="of racing, for each model")
    parser.add_argument("--only", choices=(QUIET, "hogged", "race"))
    parser.add_argument("--hog", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hog is not None:
        compute(options.hog, steady=options.steady)
    if options.plans is None:
        parser.error("--plans says where the engines are kept")
    options.plans.mkdir(parents=True, exist_ok=True)
    for path in options.models:
        measure(path, options)


if __name__ == "__main__":
    main()
