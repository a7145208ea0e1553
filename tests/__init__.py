"""Tests; each folder is one kind of proof, see the README.md in it."""
