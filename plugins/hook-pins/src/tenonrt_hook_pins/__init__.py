"""Forbid or pin kernels by a TOML file, and keep a log of builds."""
