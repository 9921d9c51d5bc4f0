"""Reductions and cumulative sums, as TenonRT layer types."""
