"""The graph: tensors and layers, how they are built, inferred, patched and verified."""
