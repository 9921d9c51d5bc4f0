"""The build: regions become problems, kernels offer tactics, trials and timings price them, the cover selects."""
