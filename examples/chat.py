"""A chat room: the server speaks first, and to everybody.

    pybehave run examples.chat:app        then, in several terminals: nc 127.0.0.1 7009

The first line a client sends is its name; every further line goes to all. A room that has crashed
asks everybody for a name again: it is told of the connections that stand.
"""

from __future__ import annotations

from typing import Any

from pybehave import NO_REPLY, Application, GenServer, Listener, Supervisor, Worker
from pybehave.actions import Action, Closed, Opened, Send
from pybehave.protocols import Lines

Room = dict[Any, str]  # connection -> name, "" until it has said one


class Chat(GenServer[Room, str, Any]):
    """Who is here, by connection."""

    def init(self, args: object) -> Room:
        """Nobody is here yet."""
        return {}

    def step(self, command: str, state: Room) -> tuple[Room, Any, list[Action]]:
        """A line from one of them."""
        speaker = self.context.connection
        name = state.get(speaker)
        if not name:
            state[speaker] = command.strip() or "anonymous"
            return state, NO_REPLY, say(state, f"* {state[speaker]} joined")
        return state, NO_REPLY, say(state, f"{name}: {command}")

    def handle_info(self, message: object, state: Room) -> tuple[Any, ...]:
        """Somebody came or went."""
        match message:
            case Opened(connection):
                state[connection] = ""
                return state, None, [Send(connection, "your name?")]
            case Closed(connection, _):
                name = state.pop(connection, "")
                if name:
                    return state, None, say(state, f"* {name} left")
        return state, None


def say(room: Room, line: str) -> list[Action]:
    """One line to all who have a name; it is encoded once."""
    return [Send(connection, line) for connection, name in room.items() if name]


app = Application(
    "chat",
    Supervisor("one_for_one", [Worker("chat", Chat)]),
    listeners=[
        Listener("tcp://127.0.0.1:7009", Lines(encoding="utf-8"), to="chat", events=True),
    ],
)
