"""Strided slices of tensors, as TenonRT layer types."""
