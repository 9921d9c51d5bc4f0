"""Convolution and Deconvolution layers of TenonRT."""
