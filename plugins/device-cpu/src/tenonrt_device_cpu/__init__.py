"""The CPU as a TenonRT device."""
