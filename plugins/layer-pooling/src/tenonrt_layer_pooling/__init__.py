"""Pooling layer of TenonRT."""
