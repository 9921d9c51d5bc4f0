"""What it buys to choose everything together, and to let close candidates run in place: both beside what is simpler.

uv run --group bench python tests/benchmarks/cover.py MODEL.onnx ... [--threads 2] [--timing-cache F] [--regions 5]

The greedy selection takes the longest region first, of each the fastest tactic by itself, then the cheapest formats
between them. Both selections are made from the same times, so their costs compare exactly and no quiet machine is
needed; a quiet one is where the times are right. "apart" says which regions the two do not share.

Finals are judged by times that did not decide: the finalists run twice, the first time decides, and what the winners
gain is the second time's. What a first time says that it gains is printed beside it: most of it is luck.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import tenonrt
from tenonrt.builder import finalists

# From level 3 on finals change the selection; the timing cache answers alike for both levels.
_COVER_ONLY, _WITH_FINALS = 2, 3


def build(path: Path, level: int, options: argparse.Namespace, *disable: str) -> tenonrt.Engine:
    return tenonrt.compile(
        path, threads=options.threads, timing_cache=options.timing_cache, optimization_level=level,
        disable=frozenset(disable), tolerance=float("inf"),
    )  # fmt: skip


def compare_covers(path: Path, options: argparse.Namespace) -> str:
    exact = build(path, _COVER_ONLY, options)
    greedy = build(path, _COVER_ONLY, options, "exact_cover")
    ours, theirs = (
        {region: found for region, found in engine.choice.regions.items() if found[1]} for engine in (exact, greedy)
    )
    apart = [region for region in ours if region not in theirs]
    other = sum(ours[region] != theirs[region] for region in ours if region in theirs)
    found = (
        f"{path.stem}: greedy {greedy.report.cost * 1e3:.3f} ms, exact {exact.report.cost * 1e3:.3f} ms, "
        f"ratio {greedy.report.cost / exact.report.cost:.3f}; {len(ours)} regions, {len(apart)} of them apart, "
        f"{other} with another tactic; selected in {exact.report.timings['select']:.2f} s"
    )
    return "\n".join([found, *(f"    apart: {region}" for region in apart[: options.regions])])


@dataclass
class Twice:
    """Measures finalists twice, and keeps what the first time promised and the second one showed."""

    measure: Any = finalists._measure
    promised: float = 0.0
    shown: float = 0.0
    total: float = 0.0
    steps: int = 0

    def __call__(self, selector: Any, cover: Any, fields: Any, tuner: Any, lower: Any) -> Mapping[str, float]:
        first, second = (self.measure(selector, cover, fields, tuner, lower) for _ in range(2))
        totals = [self._by_group(fields, seconds) for seconds in (first, second)]
        self.total = cover.cost * 1e-9
        for group, sums in totals[0].items():
            winner = sums.index(min(sums))
            self.steps += winner != 0
            self.promised += sums[0] - sums[winner]
            self.shown += totals[1][group][0] - totals[1][group][winner]
        return first  # type: ignore[no-any-return]

    @staticmethod
    def _by_group(fields: Any, seconds: Mapping[str, float]) -> dict[Any, list[float]]:
        """Seconds of each candidate for the steps that decide together, the cover's own first."""
        found: dict[Any, list[float]] = {}
        for entry in fields.values():
            mine = [seconds.get(column.id, float("inf")) for column in entry.columns]
            before = found.setdefault(entry.group, [0.0] * len(mine))
            found[entry.group] = [a + b for a, b in zip(before, mine, strict=True)]
        return found


def compare_finals(path: Path, options: argparse.Namespace) -> str:
    twice = Twice()
    # Whatever the cache knows of times in place was measured by a build that did not look twice.
    with patch.object(finalists, "_measure", twice), patch.object(finalists, "_keys", _unknown):
        build(path, _WITH_FINALS, options)
    if not twice.total:
        return f"{path.stem}: no finals"
    return (
        f"{path.stem}: finals change {twice.steps} decisions, promise {100 * twice.promised / twice.total:.1f} % "
        f"of the network's time and gain {100 * twice.shown / twice.total:.1f} %"
    )


def _unknown(selector: Any, cover: Any, columns: Any, tuner: Any) -> list[str]:
    """Keys that no build has used."""
    return [tuner.cache.key(f"measured twice {time.time_ns()} {column.id}", "", "", "") for column in columns]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timing-cache", type=Path, help="kept for the next time; what it knows is not timed again")
    parser.add_argument("--regions", type=int, default=5, help="regions to name where the two selections differ")
    parser.add_argument("--no-finals", action="store_true", help="compare covers only, which needs no quiet machine")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.timing_cache = options.timing_cache or Path(folder) / "times"
        for path in options.models:
            print(compare_covers(path, options), flush=True)
            if not options.no_finals:
                print(compare_finals(path, options), flush=True)


if __name__ == "__main__":
    main()
