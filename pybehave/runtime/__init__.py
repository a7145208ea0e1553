"""Joins a tree to a loop: the effect ring. Decisions come from `pybehave.behaviours`."""
