"""What holds for the tests of every distribution."""

from __future__ import annotations

from hypothesis import settings

# Tests share the cores with each other: how long an example takes says nothing about what it tests.
settings.register_profile("shared cores", deadline=None)
settings.load_profile("shared cores")
