"""Print the held-out accuracy of the patches network in float32 and in int8 by every installed calibrator, as a table.

    python accuracy.py [--level 3] [--threads 1] [--keep LAYER ...]

From level 3 on kernels are chosen by timing all of them, as an application would; level 0 computes the same in float32.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tenonrt
import tenonrt_patches
from numpy.typing import NDArray

BATCH = 64


def main() -> None:
    """Build an engine for each calibrator and print what it makes of the held-out patches."""
    parser = argparse.ArgumentParser(description="Accuracy of tenonrt-patches in int8.")
    parser.add_argument("--level", type=int, default=3, help="optimization level of the builder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", action="append", default=[], help="a layer that stays in float32; repeatable")
    given = parser.parse_args()
    config: dict[str, Any] = {"optimization_level": given.level, "threads": given.threads, "max_batch": BATCH}
    with tempfile.TemporaryDirectory() as folder:  # engines that differ in scales alone are tuned once
        print_table({**config, "timing_cache": Path(folder) / "timing.cache"}, frozenset(given.keep))


def print_table(config: dict[str, Any], keep: frozenset[str]) -> None:
    """One row for each calibrator, under that of float32."""
    patches, labels = tenonrt_patches.heldout()
    samples = batches_of(tenonrt_patches.calibration()[0])
    real = probabilities(tenonrt.compile(tenonrt_patches.model_path(), **config), patches)
    print("| calibrator | top-1 | lost | won | same class as float32 | largest change of a probability |")
    print("|---|---|---|---|---|---|")
    print(f"| none (float32) | {(real.argmax(axis=1) == labels).mean():.2%} | | | | |")
    for calibrator in tenonrt.current_registry().names("tenonrt.calibrators"):
        engine = tenonrt.compile(
            tenonrt_patches.model_path(),
            precision="int8",
            calibration=tenonrt.Calibration(samples, calibrator, keep=keep),
            **config,
        )
        print(f"| {calibrator} {row(probabilities(engine, patches), real, labels)}", flush=True)


def batches_of(patches: NDArray[np.float32]) -> list[dict[str, NDArray[np.float32]]]:
    """Inputs of BATCH patches each, the last of what is left."""
    return [{"image": patches[start : start + BATCH]} for start in range(0, len(patches), BATCH)]


def probabilities(engine: tenonrt.Engine, patches: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the engine makes of all patches, float32 [n, 20]."""
    context = engine.create_context()
    return np.concatenate([context.execute(batch)["probabilities"] for batch in batches_of(patches)])


def row(found: NDArray[np.float32], real: NDArray[np.float32], labels: NDArray[np.int64]) -> str:
    """Top-1; patches that only float32, and only int8, got right; how alike both are."""
    classes, exact = found.argmax(axis=1), real.argmax(axis=1)
    lost = int(((exact == labels) & (classes != labels)).sum())
    won = int(((exact != labels) & (classes == labels)).sum())
    cells: Sequence[str] = (
        f"{(classes == labels).mean():.2%}", str(lost), str(won), f"{(classes == exact).mean():.2%}",
        f"{np.abs(found - real).max():.3f}",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
