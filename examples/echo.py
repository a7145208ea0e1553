"""Echo: every message comes back. The smallest server, and the one that is measured.

ECHO_SIZE=64 pybehave run examples.echo:app
"""

from __future__ import annotations

import os

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Fixed

SIZE = int(os.environ.get("ECHO_SIZE", "64"))


class Echo(GenServer[None, bytes, bytes]):
    """Answers what it is sent."""

    def step(self, command: bytes, state: None) -> tuple[None, bytes]:
        """One message."""
        return state, command


app = Application(
    "echo",
    Supervisor("one_for_one", [Worker("echo", Echo)]),
    listeners=[Listener("tcp://127.0.0.1:7007", Fixed(SIZE), to="echo")],
)
