"""Products of bytes and of floats of 8 bits, between Dequantize and Quantize layers."""
