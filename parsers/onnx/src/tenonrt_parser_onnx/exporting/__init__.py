"""Networks written as ONNX models. A package of its own: reading a model imports none of it."""
