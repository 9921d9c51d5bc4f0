"""Sums, means and maxima along axes, and what is made of them."""
