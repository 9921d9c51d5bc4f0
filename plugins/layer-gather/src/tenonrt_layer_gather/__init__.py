"""Gather, scatter and one-hot layers for TenonRT."""
