"""The suites: every entry point of the distributions named by ``--tenonrt-dist``, held to its contract."""
