"""The min-max calibrator."""
