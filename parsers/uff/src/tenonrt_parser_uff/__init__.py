"""UFF files and frozen TensorFlow graphs: parsers of both, and a writer of UFF."""
