"""Mappings of UFF operations to layers, by the group that the format's validator puts them in."""
