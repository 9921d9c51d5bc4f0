"""The last word on accuracy: the finished engine against one built from exact tactics only."""

from __future__ import annotations

import numpy as np

from tenonrt.builder.config import BuilderConfig
from tenonrt.contracts import draw
from tenonrt.dims import symbols
from tenonrt.errors import ExecutionError
from tenonrt.runtime.engine import Engine
from tenonrt.types import Array

_BY_PRECISION = {"float32": 1e-3, "tf32": 1e-2, "float16": 1e-2, "bfloat16": 5e-2, "best": 5e-2}


def tolerance(config: BuilderConfig) -> float | None:
    """What the configuration allows, None when engines of its precision are not compared."""
    if config.tolerance is not None:
        return config.tolerance
    asked = {config.precision, *(constraint.precision for constraint in config.layer_precisions)} & {*_BY_PRECISION}
    return max((_BY_PRECISION[precision] for precision in asked), default=None)


def disagreement(engine: Engine, exact: Engine) -> float:
    """The largest deviation over all outputs, in units of the exact output's max |y|, on one random input.

    Integers that are no indices of the network's tables make it fail: zeros are tried then.
    """
    inputs = random_inputs(engine)
    try:
        expected = exact.create_context(0).execute(inputs)
    except ExecutionError:
        inputs = {name: a if a.dtype.kind in "fcV" else np.zeros_like(a) for name, a in inputs.items()}
        expected = exact.create_context(0).execute(inputs)
    found = engine.create_context(0).execute(inputs)
    return max((_deviation(found[name], expected[name]) for name in expected), default=0.0)


def random_inputs(engine: Engine) -> dict[str, Array]:
    """One seeded value per input, every symbol at the lower end of its range (at least 1)."""
    rng, made = np.random.default_rng(0), {}
    for binding in engine.bindings:
        if binding.is_input:
            values = {s.name: max(1, s.lower) for d in binding.type.shape for s in symbols(d)}
            made[binding.name] = draw(binding.type.substitute(values), rng)
    return made


def _deviation(found: Array, expected: Array) -> float:
    if found.shape != expected.shape:
        return float("inf")
    if expected.dtype.kind not in "fc" or expected.size == 0:
        return 0.0  # indices and labels may differ in near ties; their scores are compared
    precise = np.complex128 if expected.dtype.kind == "c" else np.float64
    wide, narrow = expected.astype(precise), found.astype(precise)
    finite = np.isfinite(wide)
    if not np.array_equal(narrow[~finite], wide[~finite], equal_nan=True):
        return float("inf")  # what is NaN or infinite on purpose is so in both
    size = float(np.abs(wide[finite]).max(initial=0.0))
    deviation = float(np.abs(narrow[finite] - wide[finite]).max(initial=0.0))
    return deviation / max(size, 1e-30) if np.isfinite(deviation) else float("inf")
