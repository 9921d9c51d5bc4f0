"""Kernels in Triton, compiled when an engine is built and launched by the driver alone when it runs."""
