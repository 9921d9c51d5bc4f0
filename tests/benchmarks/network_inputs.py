"""Inputs that networks are run with, and how far two runtimes' outputs are apart. Imports no runtime."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(bool)": "bool"}


def feed(session: Any, seed: int, *, smooth: bool) -> dict[str, Array]:
    """Noise, or for images patches with a little noise; ids below 1000, a mask that hides a third, zero types."""
    rng, made = np.random.default_rng(seed), {}
    for given in session.get_inputs():
        shape, dtype = [d if isinstance(d, int) else 1 for d in given.shape], DTYPES[given.type]
        x = rng.standard_normal(shape)
        if smooth and len(shape) == 4:
            patches = 2 * rng.standard_normal((*shape[:2], 4, 4)) + rng.standard_normal((*shape[:2], 1, 1))
            rows, columns = -(-shape[2] // 4), -(-shape[3] // 4)
            x = patches.repeat(rows, 2).repeat(columns, 3)[:, :, : shape[2], : shape[3]] + 0.1 * x
        if dtype != "float32":
            x = np.zeros(shape) if "type" in given.name else rng.integers(0, 1000, shape)
            if "mask" in given.name:
                x = np.ones(shape)
                x[..., shape[-1] - shape[-1] // 3 :] = 0
        made[given.name] = x.astype(dtype)
    return made


def disagreement(found: dict[str, Array], expected: dict[str, Array], other: dict[str, Array]) -> float:
    """The largest deviation, in units of how far the expected outputs move to others; infinite where a number is lost:
    halves end at 65504."""
    worst = 0.0
    for name, right in expected.items():
        moved = np.abs(right.astype(np.float64) - other[name]).max()
        deviation = np.abs(found[name].astype(np.float64) - right).max() / max(moved, 1e-30)
        worst = max(worst, float(np.nan_to_num(deviation, nan=np.inf, posinf=np.inf)))
    return worst
