"""Layers that read shapes or make tensors from them, as TenonRT layer types."""
