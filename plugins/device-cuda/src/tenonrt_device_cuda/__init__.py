"""NVIDIA GPUs as a TenonRT device."""
