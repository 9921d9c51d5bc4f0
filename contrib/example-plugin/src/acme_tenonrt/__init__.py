"""An example of a plugin distribution for TenonRT."""
