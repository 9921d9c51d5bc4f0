"""The legacy calibrator."""
