"""The parser of UFF files, which TensorFlow users gave to TensorRT."""
