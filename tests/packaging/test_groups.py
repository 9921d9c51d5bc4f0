"""Tests of one xdist_group stay together: not every pytest and pytest-xdist do that, and none of them complains."""

from __future__ import annotations

import os

import pytest


@pytest.mark.xdist_group("together")
@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process runs all tests")
def test_the_scheduler_sees_the_group(request: pytest.FixtureRequest) -> None:
    assert request.node.nodeid.endswith("@together")
