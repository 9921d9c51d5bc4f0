"""Operators of ONNX's long tail as TenonRT layers, computed by the reference evaluator of the onnx package."""
