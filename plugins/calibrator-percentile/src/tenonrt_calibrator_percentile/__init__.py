"""The percentile calibrator."""
