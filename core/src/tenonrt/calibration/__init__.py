"""Int8 without a quantized model: ranges of tensors from sample inputs, and the layers that quantize by them."""
