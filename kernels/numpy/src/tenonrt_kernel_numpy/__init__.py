"""NumPy kernels of TenonRT."""
