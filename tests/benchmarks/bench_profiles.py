"""An engine with profiles beside onnxruntime at random shapes, and beside engines for one shape at the tuned ones.

python tests/benchmarks/bench_profiles.py MODEL.onnx "input=1x3x224x224:1x3x224x224:4x3x224x224:6x3x224x224" ...
    [--cache FILE] [--level 3] [--seed 0] [--random 20] [--rounds 15]

All inputs of one model share their shapes' symbols here, as those of a language model do. The error is that of
bench_networks.py. Engines take turns; each has a median of single runs, the first three not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tenonrt
from bench_networks import Array, disagreement, feed, reference

Shape = tuple[int, ...]


class Shaped:
    """A session whose open dimensions are given, as `bench_networks.feed` wants it."""

    def __init__(self, session: Any, shapes: dict[str, Shape]) -> None:
        self._inputs = [_Input(i.name, shapes[i.name], i.type) for i in session.get_inputs()]

    def get_inputs(self) -> list[Any]:
        return self._inputs


class _Input:
    def __init__(self, name: str, shape: Shape, type: str) -> None:
        self.name, self.shape, self.type = name, list(shape), type


def random_shapes(ranges: dict[str, list[Shape]], rng: np.random.Generator) -> dict[str, Shape]:
    """The same place between the least and the greatest shape on each axis, for every input."""
    rank = max(len(shapes[0]) for shapes in ranges.values())
    draws = rng.random(rank)

    def between(shapes: list[Shape]) -> Shape:
        limits = zip(shapes[0], shapes[-1], draws, strict=False)
        return tuple(int(low + draw * (high - low + 1)) for low, high, draw in limits)

    return {name: between(shapes) for name, shapes in ranges.items()}


def agreement(engine: tenonrt.Engine, session: Any, shapes: dict[str, Shape], seed: int) -> float:
    shaped = Shaped(session, shapes)
    smooth, noise = feed(shaped, seed, smooth=True), feed(shaped, seed + 1, smooth=False)
    found = engine.create_context().execute(smooth)
    return disagreement(found, reference(session, smooth), reference(session, noise))


def race(contexts: list[Any], given: dict[str, Array], rounds: int) -> list[float]:
    """Median milliseconds of each, in turns; who goes first changes."""
    times: list[list[float]] = [[] for _ in contexts]
    for number in range(rounds + 3):
        order = range(len(contexts)) if number % 2 else reversed(range(len(contexts)))
        for index in order:
            start = time.perf_counter()
            contexts[index].execute(given)
            times[index].append((time.perf_counter() - start) * 1000)
    return [statistics.median(found[3:]) for found in times]


def parse_ranges(texts: list[str]) -> dict[str, list[Shape]]:
    pairs = (text.rpartition("=") for text in texts)
    return {name: [tuple(map(int, s.split("x"))) for s in shapes.split(":")] for name, _, shapes in pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("ranges", nargs="+")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--level", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--random", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    ranges, rng = parse_ranges(arguments.ranges), np.random.default_rng(arguments.seed)
    warnings.simplefilter("ignore")
    session = onnxruntime.InferenceSession(arguments.model, providers=["CPUExecutionProvider"])
    settings = {"optimization_level": arguments.level, "timing_cache": arguments.cache}
    engine = tenonrt.compile(arguments.model, profiles=[ranges], **settings)
    weights = sum(w.nbytes for w in engine.plan.weights) / 2**20
    print(f"{len(engine.plan.tuned)} tuned programs, {len(engine.plan.program.steps)} steps for the other shapes, "
          f"{weights:.0f} MiB of weights", flush=True)  # fmt: skip
    worst = 0.0
    for number in range(arguments.random):
        shapes = random_shapes(ranges, rng)
        error = agreement(engine, session, shapes, number)
        worst = max(worst, error)
        print(f"{next(iter(shapes.values()))}  error {error:.1e}", flush=True)
    if arguments.random:
        print(f"worst of {arguments.random} random shapes: {worst:.1e}")
    for position in range(1, len(next(iter(ranges.values()))) - 1):
        shapes = {name: given[position] for name, given in ranges.items()}
        alone = tenonrt.compile(arguments.model, shapes=shapes, **settings)
        given = feed(Shaped(session, shapes), 0, smooth=True)
        if not arguments.rounds:
            continue
        ours, theirs = race([engine.create_context(), alone.create_context()], given, arguments.rounds)
        weights = sum(w.nbytes for w in alone.plan.weights) / 2**20
        print(f"{next(iter(shapes.values()))}  {ours:.2f} ms, alone {theirs:.2f} ms ({weights:.0f} MiB): "
              f"{ours / theirs:.3f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
