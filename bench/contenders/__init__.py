"""The servers that pybehave is measured against. Each starts from one command."""
