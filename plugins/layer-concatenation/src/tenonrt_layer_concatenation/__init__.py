"""Joining tensors along an axis, and splitting them, as TenonRT layer types."""
