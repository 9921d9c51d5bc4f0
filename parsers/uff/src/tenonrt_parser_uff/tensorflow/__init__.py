"""Frozen TensorFlow graphs."""
