"""The second entropy calibrator."""
