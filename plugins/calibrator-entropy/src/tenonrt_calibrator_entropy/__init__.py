"""The entropy calibrator."""
