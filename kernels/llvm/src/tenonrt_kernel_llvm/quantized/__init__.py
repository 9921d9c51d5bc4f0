"""Regions between Dequantize and Quantize layers, computed on small integers as they are."""
