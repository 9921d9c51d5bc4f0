"""Hook plugins: what can be said before a build calls them."""

from __future__ import annotations

import warnings

from tenonrt.plugins.discovery import Entry
from tenonrt.plugins.hooks import Hooks
from tenonrt.plugins.registry import PluginWarning, Registry

GROUP = "tenonrt.hooks"


def test_is_accepted(entry: Entry) -> None:
    """The module has marked functions, each with the name of a hook and with arguments that the hook has.

    When this fails: the plugin would be left out of every build. Compare with the specifications in
    `tenonrt.plugins.hooks`, and mark each function with `hookimpl`.
    """
    registry = Registry(entries=[entry])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)  # the record says the same
        hooks = Hooks(registry)
    record = registry.record(entry)
    assert hooks, f"{entry.id} is {record.state}: {record.why}"
