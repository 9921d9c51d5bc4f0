"""What a busy machine costs a build: engines built beside CPU hogs, against several that were built in quiet.

uv run --group bench python tests/benchmarks/hog.py MODEL.onnx ... --plans FOLDER [--threads 2] [--quiet 3]
    [--steady 2] [--bursts 2] [--hogs 1] [--seconds 30] [--only quiet|hogged|race]

A hog is a process that computes all the time (steady), or in bursts of 0.1 to 4 seconds with pauses as long, so that
what is timed at different moments finds a different machine. No build has a timing cache that knows anything; a second
one has what the first has learnt, and its choices should be the same. Builds share compiled code, which says nothing of
times. Plans that are in the folder are taken as they are, so the parts can be run one by one; quiet builds and the race
want a quiet machine.

All engines run in turns. A speed is the median of five rounds, in units of the median quiet build of the round; how far
quiet builds are apart says what of the others' distance is chance.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import tenonrt
from ablation import inputs

QUIET, KINDS = "quiet", ("steady", "bursts")
_ROUNDS, _TURN_SECONDS = 5, 0.1
_LEAST_BURST, _MOST_BURST = 0.1, 4.0


def compute(seed: int, *, steady: bool) -> None:
    """What a hog does for as long as the process lives that started it."""
    rng, parent = random.Random(seed), os.getppid()
    while os.getppid() == parent:
        stop = time.monotonic() + rng.uniform(_LEAST_BURST, _MOST_BURST)
        while time.monotonic() < stop:
            sum(range(10_000))
        if not steady:
            time.sleep(rng.uniform(_LEAST_BURST, _MOST_BURST))


@contextmanager
def hogs(count: int, *, steady: bool) -> Iterator[None]:
    """So many processes beside the build, each with bursts of its own."""
    command, first = [sys.executable, __file__, "--hog", "steady" if steady else "bursts"], int(time.time())
    processes = [subprocess.Popen([*command, str(seed)]) for seed in range(first, first + count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def build(path: Path, plan: Path, threads: int) -> None:
    """Without a timing cache that knows anything, then again with what that build has learnt."""
    if plan.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        engine = tenonrt.compile(path, threads=threads, timing_cache=Path(folder) / "times")
        seconds = time.perf_counter() - start
        again = tenonrt.compile(path, threads=threads, timing_cache=Path(folder) / "times")
    engine.save(plan)
    phases = ", ".join(f"{phase} {spent:.1f}" for phase, spent in engine.report.timings.items())
    same = "the same choices" if again.choice == engine.choice else "OTHER CHOICES"
    print(f"  built {plan.stem} in {seconds:.0f} s ({phases}); {same} with its timing cache", flush=True)


def race(plans: Mapping[str, Path], seconds: float) -> dict[str, float]:
    """Speeds beside those of the quiet builds: medians of the rounds' ratios, each of medians of runs in turns.

    Engines are loaded anew for each round: where its pages happen to lie can cost a network a twentieth.
    """
    ratios: dict[str, list[float]] = {name: [] for name in plans}
    for _ in range(_ROUNDS):
        engines = {name: tenonrt.Engine.load(plan) for name, plan in plans.items()}
        contexts = {name: engine.create_context() for name, engine in engines.items()}
        feed = inputs(next(iter(engines.values())))
        times: dict[str, list[float]] = {name: [] for name in engines}
        stop = time.perf_counter() + seconds / _ROUNDS
        while time.perf_counter() < stop or min(map(len, times.values())) < 5:
            for name, context in contexts.items():
                times[name] += _turn(context, feed)
        medians = {name: statistics.median(found) for name, found in times.items()}
        quiet = statistics.median(found for name, found in medians.items() if name.startswith(QUIET))
        for name, found in medians.items():
            ratios[name].append(quiet / found)
    return {name: statistics.median(found) for name, found in ratios.items()}


def _turn(context: Any, feed: Mapping[str, Any]) -> list[float]:
    context.execute(feed)
    times, turn = [], time.perf_counter()
    while (start := time.perf_counter()) < turn + _TURN_SECONDS:
        context.execute(feed)
        times.append(time.perf_counter() - start)
    return times


def show(model: str, speeds: Mapping[str, float]) -> None:
    """Every speed, then for each kind of build the median and how far they are apart."""
    print(f"{model}: " + ", ".join(f"{name} {speed:.3f}" for name, speed in speeds.items()))
    for kind in (QUIET, *KINDS):
        found = [speed for name, speed in speeds.items() if name.startswith(kind)]
        if found:
            print(f"  {kind}: {statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f})", flush=True)


def measure(path: Path, options: argparse.Namespace) -> None:
    counts = {QUIET: options.quiet, "steady": options.steady, "bursts": options.bursts}
    plans = {
        f"{kind}-{number}": options.plans / f"{path.stem}-{kind}-{number}.plan"
        for kind, count in counts.items()
        for number in range(count)
    }
    for name, plan in plans.items():
        kind = name.partition("-")[0]
        if options.only in (None, QUIET if kind == QUIET else "hogged"):
            with nullcontext() if kind == QUIET else hogs(options.hogs, steady=kind == "steady"):
                build(path, plan, options.threads)
    if options.only in (None, "race"):
        show(path.stem, race({name: plan for name, plan in plans.items() if plan.exists()}, options.seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--plans", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quiet", type=int, default=3, help="builds in quiet, of each model")
    parser.add_argument("--steady", type=int, default=2, help="builds beside hogs that never pause")
    parser.add_argument("--bursts", type=int, default=2, help="builds beside hogs that pause")
    parser.add_argument("--hogs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30.0, help="of racing, for each model")
    parser.add_argument("--only", choices=(QUIET, "hogged", "race"))
    parser.add_argument("--hog", nargs=2, metavar=("KIND", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hog is not None:
        compute(int(options.hog[1]), steady=options.hog[0] == "steady")
        return
    if options.plans is None:
        parser.error("--plans says where the engines are kept")
    if options.quiet < 1:
        parser.error("--quiet must be at least 1: speeds are in units of such builds")
    options.plans.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TENONRT_LLVM_OBJECTS", str(options.plans / "objects"))
    for path in options.models:
        measure(path, options)


if __name__ == "__main__":
    main()
