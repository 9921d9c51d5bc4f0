"""The standard operators as layers, one module per family. Nothing here needs onnx."""
