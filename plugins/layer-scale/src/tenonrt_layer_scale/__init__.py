"""Scale layer of TenonRT."""
