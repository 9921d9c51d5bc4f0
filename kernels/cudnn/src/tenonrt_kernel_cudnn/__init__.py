"""cuDNN kernels of TenonRT."""
