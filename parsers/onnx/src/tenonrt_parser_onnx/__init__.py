"""ONNX for TenonRT: a parser of model files and the mappings of the standard operators to layers."""
