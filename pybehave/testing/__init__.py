"""What tests of servers and trees are written with; start with `run`."""

from typing import TYPE_CHECKING, Any

from pybehave.testing.linearizability import (
    UNANSWERED,
    History,
    Model,
    Operation,
    Verdict,
    check_linearizable,
)
from pybehave.testing.run import FixedContext, Outcome, fold, run

if TYPE_CHECKING:
    from pybehave.testing.crash import repeat

__all__ = [
    "UNANSWERED",
    "FixedContext",
    "History",
    "Model",
    "Operation",
    "Outcome",
    "Verdict",
    "check_linearizable",
    "fold",
    "repeat",
    "run",
]


def __getattr__(name: str) -> Any:
    """Import what needs compiled modules when it is asked for.

    The pytest plugin is imported, and so is this package, in every run of pytest in an environment
    that has pybehave: then nothing more than the names of things is wanted.
    """
    if name == "repeat":
        from pybehave.testing.crash import repeat

        return repeat
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
