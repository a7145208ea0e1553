"""Erlang/OTP's behaviours for Python, without processes and without message passing.

One single-threaded loop (io_uring, or epoll) takes every input, one at a time, to plain functions
`step(input, state) -> (state, output)`; a supervisor tree restarts what crashes. Start with
`README.md`; the names below are the whole public face, with `actions`, `errors` and `protocols`.
"""

from typing import TYPE_CHECKING, Any

from pybehave import actions, errors, events, statem
from pybehave._version import __version__
from pybehave.actions import NO_REPLY, TIMEOUT
from pybehave.behaviours.application import Application, Callbacks
from pybehave.behaviours.asyncio_task import AsyncioTask
from pybehave.behaviours.backoff import Backoff
from pybehave.behaviours.child_spec import Ref, Worker
from pybehave.behaviours.combined import both, either
from pybehave.behaviours.contract import Contract
from pybehave.behaviours.event_handler import EventHandler
from pybehave.behaviours.family import family
from pybehave.behaviours.gen_event import GenEvent
from pybehave.behaviours.gen_server import GenServer
from pybehave.behaviours.gen_statem import GenStatem
from pybehave.behaviours.observer import Observer
from pybehave.behaviours.pool import Pool
from pybehave.behaviours.recovery import Recovery
from pybehave.behaviours.release import Migration, Release
from pybehave.behaviours.speaks import Bridge, Speaks
from pybehave.behaviours.supervisor import Supervisor
from pybehave.errors import DoNotRestart, TerminateTree
from pybehave.listener import Listener
from pybehave.once import Once
from pybehave.tagged import Tagged
from pybehave.together import Together
from pybehave.types import Rollback, Shutdown
from pybehave.via import Registry, Via

if TYPE_CHECKING:
    from pybehave.runtime.node import Node

__all__ = [
    "NO_REPLY",
    "TIMEOUT",
    "Application",
    "AsyncioTask",
    "Backoff",
    "Bridge",
    "Callbacks",
    "Contract",
    "DoNotRestart",
    "EventHandler",
    "GenEvent",
    "GenServer",
    "GenStatem",
    "Listener",
    "Migration",
    "Node",
    "Observer",
    "Once",
    "Pool",
    "Recovery",
    "Ref",
    "Registry",
    "Release",
    "Rollback",
    "Shutdown",
    "Speaks",
    "Supervisor",
    "Tagged",
    "TerminateTree",
    "Together",
    "Via",
    "Worker",
    "__version__",
    "actions",
    "both",
    "either",
    "errors",
    "events",
    "family",
    "statem",
]


def __getattr__(name: str) -> Any:
    """Import `Node` when it is asked for: it needs compiled modules, a specification does not."""
    if name == "Node":
        from pybehave.runtime.node import Node

        return Node
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
