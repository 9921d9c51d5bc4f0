"""Mappings of TensorFlow's operations to layers, by what the operations do."""
