"""Mappings: how an operator of a model format becomes layers."""

from __future__ import annotations

import inspect

from tenonrt.plugins.discovery import Entry

from tenonrt_testing.subjects import load

GROUP = "tenonrt.mappings"


def test_takes_builder_node_and_inputs(entry: Entry) -> None:
    """A mapping is called as ``mapping(builder, node, inputs)``.

    When this fails: the entry point names something that cannot be called with three positional arguments. It should
    name a function, not its module or a class that needs other arguments.
    """
    mapping = load(entry)
    assert callable(mapping), f"{entry.value} is a {type(mapping).__name__}"
    inspect.signature(mapping).bind(None, None, ())
