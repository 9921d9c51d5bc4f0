"""Layers that rearrange elements: transposition, reshaping, repetition and storage formats, as TenonRT layer types."""
