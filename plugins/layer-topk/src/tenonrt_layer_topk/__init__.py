"""Top-k and arg-reduction layers for TenonRT."""
