"""What a trial says about a plugin that raised."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
from tenonrt.builder.worker import _is_settled, _origin


def broken_plugin() -> None:
    json.loads("{")


def test_the_plugin_is_blamed_and_not_the_library_that_it_called() -> None:
    with pytest.raises(ValueError, match="Expecting property name") as caught:
        broken_plugin()
    line = inspect.getsourcelines(broken_plugin)[1] + 1
    assert _origin(caught.value) == f"broken_plugin, line {line} of {Path(__file__).name}"


def test_an_error_raised_again_is_traced_to_where_it_began() -> None:
    def device() -> None:
        try:
            broken_plugin()
        except ValueError as error:
            raise RuntimeError("step 'conv1' failed") from error

    with pytest.raises(RuntimeError) as caught:
        device()
    assert _origin(caught.value).startswith("broken_plugin, ")


def test_what_the_system_refused_may_work_another_time() -> None:
    """The timing cache must not remember for ever that memory was short once."""
    assert not _is_settled(MemoryError())
    assert not _is_settled(OSError(28, "No space left on device"))
    assert _is_settled(ValueError("no such tile"))
    raised_again = RuntimeError("step 'conv1' failed")
    raised_again.__cause__ = MemoryError()
    assert not _is_settled(raised_again)
