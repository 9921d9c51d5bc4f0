"""cuBLASLt kernels of TenonRT."""
