r"""A telephone exchange: every line is a state machine with timers of its own.

pybehave run examples.telephone:app     then, in two terminals: nc 127.0.0.1 7010
    line 1                              (this telephone is line 1; `line 2` in the other one)
    dial 2 | answer | say hello | hangup

    idle --dial--> dialling --it rings there--> waiting --answered--> talking --hangup--> idle
    idle --is rung-----------------------------> ringing --answer--> talking
"""

from __future__ import annotations

import os
from typing import Any

from pybehave import Application, GenServer, GenStatem, Listener, Supervisor, Worker
from pybehave.actions import Cast, Send
from pybehave.protocols import Lines
from pybehave.statem import KeepState, KeepStateAndData, NextState, StateTimeout

LINES = int(os.environ.get("TELEPHONE_LINES", "100"))
PATIENCE_S = float(os.environ.get("TELEPHONE_PATIENCE_S", "30"))
BUSY = ("dialling", "waiting", "ringing", "talking")


class Line(GenStatem):
    """One line. Its data: its number, the other's number or None, its telephone or None."""

    def init(self, number: int) -> Any:
        """On the hook."""
        return "idle", (number, None, None)

    def handle_event(self, event_type: Any, content: Any, state: Any, data: Any) -> Any:
        """In the order of a call."""
        number, other, phone = data
        match state, content:
            case _, ("attach", connection):
                return KeepState((number, other, connection), Send(connection, f"line {number}"))
            case "idle", ("dial", who) if who != number:
                return NextState(
                    "dialling", (number, who, phone), [tell(who, "ring", number), LATE]
                )
            case "idle", ("ring", who):
                actions = [tell(who, "rings"), *say(phone, f"ringing {who}"), LATE]
                return NextState("ringing", (number, who, phone), actions)
            case _, ("ring", who):
                return KeepStateAndData(tell(who, "busy"))
            case "dialling", ("rings",):
                return NextState("waiting", data, say(phone, f"calling {other}"))
            case "dialling", ("busy",):
                return NextState("idle", (number, None, phone), say(phone, "busy"))
            case "ringing", ("answer",):
                return NextState("talking", data, [tell(other, "answered"), *say(phone, "talk")])
            case "waiting", ("answered",):
                return NextState("talking", data, say(phone, "talk"))
            case "talking", ("say", words):
                return KeepStateAndData(tell(other, "hear", words))
            case "talking", ("hear", words):
                return KeepStateAndData(say(phone, f"heard {words}"))
            case _, ("hangup",) | "too late" if state in BUSY:
                ended = [tell(other, "gone"), *say(phone, "over")]
                return NextState("idle", (number, None, phone), ended)
            case _, ("gone",):
                return NextState("idle", (number, None, phone), say(phone, "over"))
        return KeepStateAndData(say(phone, f"not while {state}"))


LATE = StateTimeout(PATIENCE_S, "too late")


def say(phone: Any, words: str) -> list[Send]:
    """To the telephone of a line, if it has one."""
    return [Send(phone, words)] if phone is not None else []


def tell(line: int, *message: Any) -> Cast:
    """To another line."""
    return Cast(f"line-{line}", message)


class Exchange(GenServer[dict[Any, int], str, Any]):
    """Knows which telephone is which line, and passes on what is said on it."""

    def init(self, args: object) -> dict[Any, int]:
        """No telephone yet."""
        return {}

    def step(self, command: str, state: dict[Any, int]) -> Any:
        """One line of text."""
        verb, _, rest = command.partition(" ")
        phone = self.context.connection
        if verb == "line" and rest.isdigit() and int(rest) < LINES:
            state[phone] = int(rest)
            return state, "ok", tell(int(rest), "attach", phone)
        if phone not in state:
            return state, f"say first which line this is: line 0 to line {LINES - 1}"
        words = {"dial": [int(rest)] if rest.isdigit() else [], "say": [rest]}.get(verb, [])
        return state, "ok", tell(state[phone], verb, *words)


app = Application(
    "telephone",
    Supervisor(
        "one_for_one",
        [Worker("exchange", Exchange), *(Worker(f"line-{n}", Line, n) for n in range(LINES))],
        intensity=10,
    ),
    listeners=[Listener("tcp://127.0.0.1:7010", Lines(encoding="utf-8"), to="exchange")],
)
