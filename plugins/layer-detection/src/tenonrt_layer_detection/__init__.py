"""Layers of object detectors, as TenonRT layer types."""
