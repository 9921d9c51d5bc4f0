"""First-party distributions, and the example that third parties copy, keep their contracts."""

from __future__ import annotations

from importlib.metadata import distributions
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("first-party plugins")

# What must hold for a distribution to be here: it is developed in this repository and offers something to the core.
NAMES = sorted(
    d.metadata["Name"]
    for d in distributions()
    if d.metadata["Name"].startswith(("tenonrt-", "acme-tenonrt"))
    and any(point.group.startswith("tenonrt.") for point in d.entry_points)
)


@pytest.fixture(scope="module")
def outcome(kit: Any) -> Any:
    """One run over all of them: starting processes is what takes time."""
    return kit.run(NAMES, "-W", "error")


def test_nothing_is_wrong(outcome: Any) -> None:
    assert outcome.status == 0, outcome.output[-6000:]


@pytest.mark.parametrize("name", NAMES)
def test_every_distribution_was_tested(outcome: Any, name: str) -> None:
    assert any(f"[{name}" in test and result == "passed" for test, result in outcome.outcomes.items())


def test_every_group_was_tested(outcome: Any) -> None:
    rules = {test.partition("[")[0] for test in outcome.outcomes}
    assert rules >= {
        "test_requires_a_bounded_core", "test_infer_agrees_with_reference", "test_result_is_right",
        "test_graph_computes_the_same", "test_launches_run_in_order", "test_random_bytes_are_a_parse_error",
        "test_takes_builder_node_and_inputs", "test_every_tensor_gets_a_range",
    }  # fmt: skip
