"""Activation functions and the parametric ReLU, as TenonRT layer types."""
