"""Batch, layer, RMS, instance, group and Lp normalization layers of TenonRT."""
