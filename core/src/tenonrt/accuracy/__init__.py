"""Tools that say how far results are from what they should be, and which layer is to blame."""
