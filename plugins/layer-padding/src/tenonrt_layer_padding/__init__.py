"""Padding and cropping, as TenonRT layer types."""
