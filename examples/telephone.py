"""A telephone exchange: every line is a state machine, a call is a fishbone.

pybehave run examples.telephone:app     then, in two terminals: nc 127.0.0.1 7010
    line 1                              (this telephone is line 1; `line 2` in the other one)
    dial 2 | answer | say hello | hangup

    idle --dial--> dialling --it rings there--> waiting --answered--> talking
    idle --ring--> ringing --answer--> talking;   busy, gone, hangup and time lead back to idle
"""

import os
from typing import Any

from pybehave import Application, GenServer, GenStatem, Listener, Supervisor, Worker
from pybehave.actions import Cast, Closed, Send
from pybehave.protocols import Lines
from pybehave.statem import KeepState, KeepStateAndData, NextState, StateTimeout

LINES = int(os.environ.get("TELEPHONE_LINES", "100"))
LATE = StateTimeout(float(os.environ.get("TELEPHONE_PATIENCE_S", "30")), ("hangup",))


class Line(GenStatem):
    """One line. Its data: its number, the other's number or None, its telephone or None."""

    def init(self, number: int) -> Any:
        """On the hook."""
        return "idle", (number, None, None)

    def handle_event(self, event_type: Any, content: Any, state: Any, data: Any) -> Any:
        """In the order of a call; what another line sends has that line's number behind it."""
        me, other, phone = data
        match state, content:
            case _, ("attach", connection):
                return KeepState((me, other, connection), say(connection, f"line {me}"))
            case "idle", ("dial", who) if who != me:
                return NextState("dialling", (me, who, phone), [tell(who, "ring", me), LATE])
            case "idle", ("ring", who):
                actions = [tell(who, "rings", me), *say(phone, f"ringing {who}"), LATE]
                return NextState("ringing", (me, who, phone), actions)
            case _, ("ring", who):
                return KeepStateAndData(tell(who, "busy", me))
            case "dialling", ("rings", who) if who == other:
                return NextState("waiting", data, [*say(phone, f"calling {other}"), LATE])
            case "ringing", ("answer",):
                actions = [tell(other, "answered", me), *say(phone, "talk")]
                return NextState("talking", data, actions)
            case "waiting", ("answered", who) if who == other:
                return NextState("talking", data, say(phone, "talk"))
            case "talking", ("say", words):
                return KeepStateAndData(tell(other, "hear", words, me))
            case "talking", ("hear", words, who) if who == other:
                return KeepStateAndData(say(phone, f"heard {words}"))
            case _, ("hangup",) if other is not None:
                actions = [tell(other, "gone", me), *say(phone, "over")]
                return NextState("idle", (me, None, phone), actions)
            case _, (("gone" | "busy") as how, who) if who == other:
                return NextState("idle", (me, None, phone), say(phone, how))
            case _, ("dial" | "answer" | "say" | "hangup", *_):
                return KeepStateAndData(say(phone, f"not while {state}"))
        return KeepStateAndData()  # of a call that is over


def say(phone: Any, words: str) -> list[Send]:
    """To the telephone of a line, if it has one."""
    return [Send(phone, words)] if phone is not None else []


def tell(line: int, *message: Any) -> Cast:
    """To another line."""
    return Cast(f"line-{line}", message)


class Exchange(GenServer[dict[Any, int], str, Any]):
    """Knows which telephone is which line, and passes on what is said on it."""

    def step(self, command: str, state: dict[Any, int]) -> Any:
        """One line of text."""
        verb, _, rest = command.partition(" ")
        phone = self.context.connection
        if phone in state:
            words = {"dial": [int(rest)] if rest.isdecimal() else [], "say": [rest]}.get(verb, [])
            return state, "ok", tell(state[phone], verb, *words)
        if verb == "line" and rest.isdecimal() and int(rest) < LINES:
            state[phone] = int(rest)
            return state, "ok", tell(int(rest), "attach", phone)
        return state, f"say first which line this is: line 0 to line {LINES - 1}"

    def handle_info(self, message: Any, state: dict[Any, int]) -> Any:
        """A telephone that is gone has hung up."""
        gone = isinstance(message, Closed) and message.connection in state
        return state, None, tell(state.pop(message.connection), "hangup") if gone else None


workers = [Worker("exchange", Exchange, {}), *(Worker(f"line-{n}", Line, n) for n in range(LINES))]
listener = Listener("tcp://127.0.0.1:7010", Lines(encoding="utf-8"), to="exchange", events=True)
app = Application("telephone", Supervisor("one_for_one", workers), listeners=[listener])
