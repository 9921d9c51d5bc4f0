"""Random graphs of native layers at level 3, against the layers' references in float64.

Twenty-five graphs make a network, over common inputs, and twenty networks a run: 500 graphs, and 50 more whose sizes
are symbols. Networks share one timing cache, since the same problems come again and again. ``TENONRT_FUZZ_SEED`` and
``TENONRT_FUZZ_NETWORKS`` choose others and more of them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from tenonrt import Network

sys.path.insert(0, str(Path(__file__).parent))

from networks.random_steps import STEPS, Numbers, random_network

GRAPHS, DEEPEST = 25, 7
NETWORKS = int(os.environ.get("TENONRT_FUZZ_NETWORKS", "20"))
SEED = int(os.environ.get("TENONRT_FUZZ_SEED", "0"))
# Of the largest value on the way to an output: Winograd's algorithm may be off by 1e-4 of its own, a few times over.
ALLOWED = 5e-4
Array = np.ndarray[Any, Any]


def steps() -> st.SearchStrategy[Numbers]:
    operand = st.integers(0, 3 + DEEPEST)
    return st.tuples(st.integers(0, len(STEPS) - 1), operand, operand, st.integers(0, 11))


def networks() -> st.SearchStrategy[list[list[Numbers]]]:
    graph = st.lists(steps(), min_size=3, max_size=DEEPEST)
    return st.lists(graph, min_size=GRAPHS, max_size=GRAPHS)


def expected(network: Network, inputs: dict[str, Array]) -> dict[str, tuple[Array, float]]:
    """Outputs by the references, layer by layer, each with the size that errors on the way to it may have."""
    graph = network.graph
    found: dict[Any, tuple[Array, float]] = {}
    for tensor in graph.inputs:
        found[tensor] = inputs[tensor.name].astype(np.float64), 1.0
    for layer in graph.layers:
        operands = [None if t is None else _operand(t, found) for t in layer.inputs]
        arrays = [None if operand is None else operand[0] for operand in operands]
        sizes = [1.0 if operand is None else operand[1] for operand in operands]
        if layer.kind in ("Elementwise", "MatrixMultiply") and getattr(layer.attrs, "operation", "prod") == "prod":
            # An error in one factor counts as often as the other is large.
            sizes = [own * max(1.0, _largest(other)) for own, other in zip(sizes, reversed(arrays), strict=True)]
        results = layer.layer_type.reference(layer.attrs, arrays, None)  # type: ignore[arg-type]
        for tensor, result in zip(layer.outputs, results, strict=True):
            found[tensor] = result, max([*sizes, _largest(result)])
    return {name: found[tensor] for name, tensor in graph.outputs.items()}


def _operand(tensor: Any, found: dict[Any, tuple[Array, float]]) -> tuple[Array, float]:
    if tensor.constant is None:
        return found[tensor]
    values = tensor.constant
    return (values.astype(np.float64) if values.dtype.kind == "f" else values), 1.0


def _largest(array: Array | None) -> float:
    return 0.0 if array is None else float(np.abs(array).max(initial=0.0))


# One process runs both, for the sake of the cache.
pytestmark = pytest.mark.xdist_group("random graphs")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("timing") / "cache"


def check(network: Network, cache: Path, sizes: dict[str, int]) -> None:
    """An engine of level 3 at these sizes, against the references of the network as it was before it was built."""
    rng = np.random.default_rng(1)
    inputs = {t.name: rng.standard_normal(t.type.concrete(sizes)).astype(np.float32) for t in network.inputs}
    right = expected(network, inputs)
    engine = tenonrt.compile(network, optimization_level=3, timing_cache=cache, trial_seconds=60)
    found = engine.create_context().execute(inputs)
    for name, (reference, size) in right.items():
        assert found[name].shape == reference.shape
        error = np.abs(found[name] - reference).max(initial=0.0) / size
        assert error <= ALLOWED, f"{name} is off by {error:.1e} of the largest value on the way to it"


HURRIED = [HealthCheck.too_slow, HealthCheck.data_too_large]


@seed(SEED)
@settings(max_examples=NETWORKS, database=None, suppress_health_check=HURRIED)
@given(graphs=networks(), open_batch=st.booleans())
def test_level_3_computes_what_the_references_say(cache: Path, graphs: list[list[Numbers]], open_batch: bool) -> None:
    check(random_network(graphs, tenonrt.symbol("N", 1, 2) if open_batch else 2), cache, {"N": 2})


@seed(SEED)
@settings(max_examples=max(1, NETWORKS // 8), database=None, suppress_health_check=HURRIED)
@given(graphs=networks(), words=st.integers(3, 6), rows=st.integers(5, 7))
def test_sizes_that_are_known_only_when_running(
    cache: Path, graphs: list[list[Numbers]], words: int, rows: int
) -> None:
    """Most kernels take no such sizes, and are compiled for those that come."""
    symbols = tenonrt.symbol("N", 1, 2), tenonrt.symbol("S", 3, 6), tenonrt.symbol("P", 5, 7)
    check(random_network(graphs, *symbols), cache, {"N": 2, "S": words, "P": rows})
