"""Passes: a rewrite must leave a sound graph that computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tenonrt.contracts import Pass
from tenonrt.graph.passes import PassLog, run_passes
from tenonrt.graph.verification import verify
from tenonrt.plugins.discovery import Entry, incompatibility
from tenonrt.plugins.registry import LAYERS, Registry
from tenonrt.plugins.selection import PluginSet

from tenonrt_testing.networks import graph_inputs, networks, run_graph
from tenonrt_testing.subjects import instance, load

GROUP = "tenonrt.passes"
_random_networks = settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def alone(entry: Entry, registry: Registry) -> Registry:
    """A registry with all layers and the one pass."""
    load(entry)
    if why := incompatibility(entry.distribution):
        pytest.skip(f"the core refuses it: {why}")
    return Registry(PluginSet(), [*registry.entries(LAYERS), entry])


def _run(network: Any, alone: Registry) -> PassLog:
    log = run_passes(network.graph, alone)
    assert not log.quarantined, f"the pass raised, or its patch was refused: {log.quarantined}"
    return log


def test_is_a_pass(entry: Entry) -> None:
    """The entry point names a subclass of `Pass` whose ``kinds`` is None or a frozenset of layer kinds.

    When this fails: the class lacks `rewrite`, or ``kinds`` is a string or a list.
    """
    rewriter = instance(entry)
    assert isinstance(rewriter, Pass)
    assert rewriter.kinds is None or type(rewriter.kinds) is frozenset


@_random_networks
@given(data=st.data())
def test_graph_computes_the_same(alone: Registry, data: st.DataObject) -> None:
    """After the pass a random network verifies and gives the same outputs, in float64 and by the references.

    When this fails: the smallest network found is in the message. The pass takes a tensor for unused that is read
    elsewhere or is an output, assumes a shape or broadcast, or folds constants in too low a precision.
    """
    network = data.draw(networks(alone))
    graph = network.graph
    inputs = graph_inputs(graph)
    before = run_graph(graph, inputs)
    types = {name: tensor.type for name, tensor in graph.outputs.items()}
    log = _run(network, alone)
    verify(graph)
    after = run_graph(graph, inputs)
    reasons = [patch.reason for patch in log.patches]
    assert {name: tensor.type for name, tensor in graph.outputs.items()} == types, reasons
    for name, expected in before.items():
        size = float(np.abs(expected).max(initial=1.0))
        np.testing.assert_allclose(after[name], expected, rtol=1e-4, atol=1e-5 * size, err_msg=str(reasons))


@_random_networks
@given(data=st.data())
def test_second_run_offers_nothing(alone: Registry, data: st.DataObject) -> None:
    """Run again on its own result, the pass has nothing to offer.

    When this fails: it matches what it produces. Passes run until none has anything to offer, so it would run for ever.
    """
    network = data.draw(networks(alone))
    _run(network, alone)
    again = _run(network, alone)
    assert not again.patches, [patch.reason for patch in again.patches]


@_random_networks
@given(data=st.data())
def test_patches_are_explained(alone: Registry, data: st.DataObject) -> None:
    """Every patch has a reason, and every layer still says which of the model's layers it came from.

    When this fails: ``Patch("...")`` was given an empty reason, or a layer was made that replaces nothing.
    """
    network = data.draw(networks(alone))
    names = {source for layer in network.graph.layers for source in layer.sources}
    log = _run(network, alone)
    assert all(patch.reason.strip() for patch in log.patches)
    for layer in network.graph.layers:
        assert layer.sources, f"{layer.name} comes from nowhere"
        assert set(layer.sources) <= names, f"{layer.name} comes from {layer.sources}"
