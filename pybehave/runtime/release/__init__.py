"""Releases of a running node: new code, new specifications, a new process, and the way back."""
