"""How far engines are from onnxruntime, and how far it is from itself when its input moves by a rounding.

uv run --group bench python tests/benchmarks/agreement.py MODEL.onnx ... [--seeds 4] [--nudges 12] [--threads 2]

For each model, of our engine, of one without inexact tactics, of one at level 0, and of OpenVINO: the largest deviation
over seeds, for patches and for noise, in units of how far onnxruntime's output moves between the two. In a deep network
with random weights the error of one rounding may grow until it moves the output, whoever computes it: the last columns
are the quantiles over inputs of the first seed whose elements moved by one unit in the last place or stayed, each
compared with onnxruntime's output for the unmoved input. Where onnxruntime's own quantiles are large, no two
implementations agree on that input, and its error says nothing of either.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import tenonrt
from cpu import Feed, Run, fixed_inputs, onnxruntime_session, run_onnxruntime, run_openvino
from network_inputs import disagreement, feed

BUILDS: dict[str, dict[str, Any]] = {
    "tenonrt": {},
    "exact only": {"allow_inexact": False},
    "level 0": {"optimization_level": 0},
}


def nudged(given: Feed, seed: int) -> Feed:
    """The feed with about half of its floats one unit in the last place higher."""
    rng = np.random.default_rng(seed)

    def moved(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if x.dtype.kind != "f":
            return x
        return np.where(rng.random(x.shape) < 0.5, np.nextafter(x, x.dtype.type(np.inf)), x)

    return {name: moved(x) for name, x in given.items()}


def runtimes(path: Path, options: argparse.Namespace, shapes: dict[str, tuple[int, ...]]) -> dict[str, Run]:
    made = {"onnxruntime": run_onnxruntime(path, options.threads, shapes)}
    made["openvino"] = run_openvino(path, options.threads, shapes)
    for name, settings in BUILDS.items():
        engine = tenonrt.compile(
            path, threads=options.threads, shapes=shapes, timing_cache=options.timing_cache, **settings
        )
        made[name] = engine.create_context().execute
    return made


def measure(path: Path, options: argparse.Namespace) -> None:
    """Print a row for each runtime."""
    inputs = fixed_inputs(onnxruntime_session(path, options.threads), 1)
    pairs = [
        (feed(inputs, 2 * seed, smooth=True), feed(inputs, 2 * seed + 1, smooth=False)) for seed in range(options.seeds)
    ]
    runs = runtimes(path, options, {name: array.shape for name, array in pairs[0][0].items()})
    reference = [tuple(runs["onnxruntime"](given) for given in pair) for pair in pairs]
    print(
        f"{path.stem}: largest over {options.seeds} seeds: patches, noise; one unit in the last place: p10, median, p90"
    )
    for name, run in runs.items():
        smooth = max(disagreement(run(p[0]), r[0], r[1]) for p, r in zip(pairs, reference, strict=True))
        noise = max(disagreement(run(p[1]), r[1], r[0]) for p, r in zip(pairs, reference, strict=True))
        moved = [disagreement(run(nudged(pairs[0][0], n)), *reference[0]) for n in range(options.nudges)]
        low, middle, high = np.quantile(moved, (0.1, 0.5, 0.9))
        print(f"  {name:12}{smooth:9.1e}{noise:9.1e}   {low:9.1e}{middle:9.1e}{high:9.1e}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--nudges", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timing-cache", type=Path)
    options = parser.parse_args()
    for path in options.models:
        measure(path, options)


if __name__ == "__main__":
    main()
