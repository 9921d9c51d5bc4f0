"""The standard passes of TenonRT."""
