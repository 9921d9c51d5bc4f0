"""The resize layer for TenonRT."""
