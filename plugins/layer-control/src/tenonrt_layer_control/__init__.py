"""Conditional and loop layers for TenonRT."""
