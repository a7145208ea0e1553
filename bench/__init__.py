"""Benchmarks: `python -m bench` lists them. Not part of the package."""
