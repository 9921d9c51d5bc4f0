"""A module that cannot be imported."""

raise ImportError("libbroken.so.1 is not there")
