"""What tests of servers and trees are written with; start with `run`."""

from pybehave.testing.run import FixedContext, Outcome, fold, run

__all__ = ["FixedContext", "Outcome", "fold", "run"]
