"""What images have of their own: windows of single channels, maxima, means and gates, sizes, formats."""
