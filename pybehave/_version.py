"""The version, in one place: the build reads this line, the command prints it."""

__version__ = "0.1.0"
