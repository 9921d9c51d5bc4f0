"""Convolutions and matrix products: register tiles of 16-channel blocks, and what surrounds them."""
