"""The mean-squared-error calibrator."""
