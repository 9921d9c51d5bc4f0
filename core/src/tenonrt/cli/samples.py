"""Batches of inputs for the tools that compare: from files, else random."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenonrt.builder.config import BuilderConfig
    from tenonrt.types import Array

_BATCH = 32  # samples, where the model takes any number


def sample_batches(
    model: Path, options: Mapping[str, Any], data: Path | None, config: BuilderConfig, seed: int
) -> list[dict[str, Array]]:
    """All batches of the data, of up to ``max_batch`` samples; without data two random ones of the least sizes.

    options: of the model's parser.
    """
    import numpy as np

    from tenonrt.api import parse
    from tenonrt.calibration.batches import load_batches
    from tenonrt.contracts import draw
    from tenonrt.dims import symbols
    from tenonrt.graph.shaping import specialise_inputs

    graph = parse(model, options=options).graph
    specialise_inputs(graph, config.max_batch, config.shapes)
    if data is not None:
        return [dict(batch) for batch in load_batches(data, graph.inputs, config.max_batch or _BATCH)]
    rng = np.random.default_rng(seed)
    values = {s.name: max(1, s.lower) for t in graph.inputs for d in t.type.shape for s in symbols(d)}
    return [{t.name: draw(t.type.substitute(values), rng) for t in graph.inputs} for _ in range(2)]
