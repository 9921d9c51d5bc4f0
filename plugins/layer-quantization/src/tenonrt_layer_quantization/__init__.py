"""Quantize and dequantize layers for TenonRT."""
