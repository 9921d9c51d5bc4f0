"""Finding plugins by entry points, and loading the one that is asked for."""
