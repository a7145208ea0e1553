r"""The log of a small service: one event, several handlers, and the last five lines on demand.

pybehave run examples.log:app     then: printf 'started\nwarning: hot\n?\n' | nc 127.0.0.1 7009
"""

from __future__ import annotations

from typing import Any

from pybehave import Application, EventHandler, GenEvent, GenServer, Listener, Supervisor, Worker
from pybehave import events as ev
from pybehave.actions import NO_REPLY, Call, CallReply, Cast, Reply
from pybehave.protocols import Lines


class LastFive(EventHandler):
    """Keeps the last five lines."""

    def handle_event(self, event: str, state: list[str]) -> list[str]:
        """Another line."""
        return [*state[-4:], event]

    def handle_call(self, request: object, state: list[str]) -> tuple[list[str], str]:
        """Say them."""
        return state, " | ".join(state)


class Warnings(EventHandler):
    """Counts warnings, after the line was kept."""

    def handle_event(self, event: str, state: int) -> int:
        """Another line."""
        return state + event.startswith("warning")

    def handle_call(self, request: object, state: int) -> tuple[int, str]:
        """How many."""
        return state, f"{state} warnings"


QUESTIONS = {"?": LastFive, "warnings?": Warnings}


class Desk(GenServer[dict[Any, Any], str, Any]):
    """Takes lines from connections, and questions."""

    def init(self, args: object) -> dict[Any, Any]:
        """Nobody waits."""
        return {"next": 0}

    def step(self, command: str, state: dict[Any, Any]) -> Any:
        """A line to log, or a question."""
        if command not in QUESTIONS:
            return state, "logged", Cast("log", ev.notify(command))
        state["next"] += 1
        state[state["next"]] = self.context.caller
        question = ev.call(QUESTIONS[command], "now")
        return state, NO_REPLY, Call("log", question, tag=state["next"])

    def handle_info(self, message: Any, state: dict[Any, Any]) -> Any:
        """An answer."""
        if not isinstance(message, CallReply):
            return state, None
        return state, None, Reply(state.pop(message.tag), message.value)


HANDLERS = [ev.add_handler(LastFive, []), ev.add_handler(Warnings, 0, after=[LastFive])]

app = Application(
    "log",
    Supervisor("one_for_one", [Worker("log", GenEvent, HANDLERS), Worker("desk", Desk)]),
    listeners=[Listener("tcp://127.0.0.1:7009", Lines(encoding="utf-8"), to="desk")],
)
