"""Measuring an engine: warm runs only, each call timed by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenonrt.runtime.context import ExecutionContext

_WARM_UP_RUNS = 3
_WARM_UP_SECONDS = 0.3


@dataclass(frozen=True)
class Latency:
    """Seconds of single calls of ``execute``: what they were, and how many ran before without being counted."""

    samples: list[float]
    warm_up: int
    first: float  # the very first call, which also lays out buffers and binds kernels

    def quantile(self, fraction: float) -> float:
        """By linear interpolation between the ordered samples."""
        import numpy as np

        return float(np.quantile(self.samples, fraction))

    @property
    def mean(self) -> float:
        return sum(self.samples) / len(self.samples)


def measure(context: ExecutionContext, inputs: Mapping[str, Any], runs: int | None, seconds: float) -> Latency:
    """Time ``runs`` calls, or as many as fit in ``seconds`` (at least 3), after a warm-up of up to 0.3 s."""

    def call() -> float:
        start = time.perf_counter()
        context.execute(inputs)
        return time.perf_counter() - start

    first = call()
    warm_up = 1 + len(_repeat(call, None, min(_WARM_UP_SECONDS, seconds), _WARM_UP_RUNS - 1))
    return Latency(_repeat(call, runs, seconds, 3), warm_up, first)


def _repeat(call: Callable[[], float], runs: int | None, seconds: float, least: int) -> list[float]:
    samples: list[float] = []
    stop = time.perf_counter() + seconds
    while len(samples) < runs if runs is not None else len(samples) < least or time.perf_counter() < stop:
        samples.append(call())
    return samples


def profile(context: ExecutionContext, inputs: Mapping[str, Any], runs: int) -> dict[str, list[float]]:
    """Seconds of each profiled step in each of ``runs`` runs, after one that is not counted.

    Steps of the same name are added up. Control steps and steps whose output size depends on data are not profiled.
    """
    samples: dict[str, list[float]] = {}
    context.execute(inputs)
    try:
        for _ in range(runs):
            run: dict[str, float] = {}

            def note(step: str, spent: float, run: dict[str, float] = run) -> None:
                run[step] = run.get(step, 0.0) + spent

            context.profiler = note
            context.execute(inputs)
            for step, spent in run.items():
                samples.setdefault(step, []).append(spent)
    finally:
        context.profiler = None
    return samples
