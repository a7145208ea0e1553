"""The example's server at the level "os": a reply outlives the process, not the power."""

from __future__ import annotations

from examples.kv import KeyValueStore
from pybehave import Application, Listener, Supervisor, Worker
from pybehave.protocols import Resp

app = Application(
    "kept",
    Supervisor(
        "one_for_one",
        [Worker("kv1", KeyValueStore, journal=True, acknowledge="os")],
        intensity=10,
        period=10,
    ),
    listeners=[Listener("tcp://127.0.0.1:6379", Resp(), to="kv1")],
)
