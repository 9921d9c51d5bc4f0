"""The conformance kit: see `tenonrt_testing.suites`."""
