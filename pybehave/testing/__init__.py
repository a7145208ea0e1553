"""What tests of servers and trees are written with; start with `run`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from pybehave.testing.linearizability import (
    UNANSWERED,
    History,
    Model,
    Operation,
    Verdict,
    check_linearizable,
)
from pybehave.testing.run import FixedCaller, FixedContext, Outcome, fold, run

if TYPE_CHECKING:
    from pybehave.testing.crash import repeat
    from pybehave.testing.disk import SimDisk
    from pybehave.testing.script import Faults
    from pybehave.testing.simulate import Simulator
    from pybehave.testing.trial import Trial, TrialFailed

__all__ = [
    "UNANSWERED",
    "Faults",
    "FixedCaller",
    "FixedContext",
    "History",
    "Model",
    "Operation",
    "Outcome",
    "SimDisk",
    "Simulator",
    "Trial",
    "TrialFailed",
    "Verdict",
    "check_linearizable",
    "fold",
    "repeat",
    "run",
]

_LATER: Final = {
    "Faults": "script",
    "SimDisk": "disk",
    "Simulator": "simulate",
    "Trial": "trial",
    "TrialFailed": "trial",
    "repeat": "crash",
}
"""Names that need compiled modules, and where they are.

The pytest plugin is imported, and so is this package, in every run of pytest in an environment that
has pybehave: then no more is wanted than that the plugin is there.
"""


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


def __getattr__(name: str) -> Any:
    """Import a name of `_LATER` when it is asked for."""
    if name in _LATER:
        return getattr(import_module(f"pybehave.testing.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
