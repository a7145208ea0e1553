"""What tests of servers and trees are written with; start with `run`."""

from pybehave.testing.crash import repeat
from pybehave.testing.run import FixedContext, Outcome, fold, run

__all__ = ["FixedContext", "Outcome", "fold", "repeat", "run"]
