"""The application that the storms run: servers that keep a sum, and a journal of what they did.

A command is `VERB ID ...` in bytes, or a list of these words from RESP (which puts the verb in
upper case); an answer is `ok ID SUM`, `failed ID`, or an error. The journal is told of every input
by the server itself, and folds the inputs again, on its own: sum by server, from the last init on.
What a server answers must be what the journal has.

| verb            | what the server does                                                      |
|-----------------|---------------------------------------------------------------------------|
| add ID N        | adds N, answers                                                           |
| later ID MS     | answers when a timer fires                                                |
| ask ID TO N     | has another server add N, answers then                                    |
| tell ID TO N    | casts `add` to another server, answers at once                            |
| big ID BYTES    | answers with a long line                                                  |
| crash ID HOW    | changes its state, then raises, or returns nonsense, or cannot be encoded |
| cont ID         | answers in handle_continue                                                |
| leave ID        | answers and closes the connection                                         |
| stop ID         | answers and ends with "normal"                                            |
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from pybehave.actions import (
    NO_REPLY,
    Call,
    CallFailed,
    CallReply,
    Cast,
    Close,
    Continue,
    Reply,
    StartTimer,
    Stop,
)
from pybehave.behaviours.gen_server import GenServer
from tests.simulation.supervision_model import Model

LEAK = 1_000_000
"""What a crashing step adds first: seen in an answer, a state has survived its crash."""

CRASHES = {
    b"raise": ValueError,
    b"assert": AssertionError,
    b"exit": SystemExit,
    b"memory": MemoryError,
    b"recursion": RecursionError,
}


class Journal:
    """What happened, in order, and what must follow from it."""

    def __init__(self) -> None:
        self.model: Model | None = None
        self.life: list[str] = []
        self.sums: dict[str, int] = {}
        self.expected: dict[bytes, int] = {}
        self.seen: set[bytes] = set()
        self.counts: Counter[str] = Counter()

    def began(self, name: str) -> None:
        self.life.append(f"init {name}")
        self.sums[name] = 0

    def added(self, name: str, ident: bytes, amount: int) -> None:
        self.entered(ident)
        self.sums[name] += amount

    def entered(self, ident: bytes) -> None:
        assert ident not in self.seen, f"{ident!r} was handled twice"
        self.seen.add(ident)

    def answers(self, name: str, ident: bytes) -> None:
        """From now on, an answer to `ident` carries the present sum of `name`."""
        self.expected[ident] = self.sums[name]

    def ends(self, name: str, *, is_clean: bool, now: float) -> None:
        self.counts["clean ends" if is_clean else "crashes"] += 1
        assert self.model is not None
        self.model.ended(name, is_clean=is_clean, now=now)


class Ledger(GenServer[dict[str, Any], Any, Any]):
    """A server of the storm; its args are the journal."""

    def init(self, args: Journal) -> dict[str, Any]:
        self.journal = args
        self.journal.began(self.context.name)
        return {"sum": 0}

    def step(self, command: Any, state: dict[str, Any]) -> Any:
        verb, ident, *rest = command.split() if isinstance(command, bytes) else command
        return getattr(self, f"on_{verb.decode().lower()}")(ident, rest, state)

    def on_add(self, ident: bytes, rest: list[bytes], state: dict[str, Any]) -> Any:
        self.journal.added(self.context.name, ident, int(rest[0]))
        state["sum"] += int(rest[0])
        return state, self.answer(ident, state)

    def on_big(self, ident: bytes, rest: list[bytes], state: dict[str, Any]) -> Any:
        self.journal.entered(ident)
        return state, self.answer(ident, state) + b" " + b"x" * int(rest[0])

    def on_later(self, ident: bytes, rest: list[bytes], state: dict[str, Any]) -> Any:
        self.journal.entered(ident)
        seconds = int(rest[0]) / 1000
        return state, NO_REPLY, StartTimer(ident, seconds, (ident, self.context.caller))

    def on_ask(self, ident: bytes, rest: list[bytes], state: dict[str, Any]) -> Any:
        self.journal.entered(ident)
        request = b"add %s/asked %s" % (ident, rest[1])
        tag = (ident, self.context.caller)
        return state, NO_REPLY, Call(rest[0].decode(), request, tag)

    def on_tell(self, ident: bytes, rest: list[bytes], state: dict[str, Any]) -> Any:
        self.journal.entered(ident)
        message = b"add %s/told %s" % (ident, rest[1])
        return state, self.answer(ident, state), Cast(rest[0].decode(), message)

    def on_crash(self, ident: bytes, rest: list[bytes], state: dict[str, Any]) -> Any:
        self.journal.entered(ident)
        self.journal.ends(self.context.name, is_clean=False, now=self.context.monotonic)
        state["sum"] += LEAK
        if rest[0] in CRASHES:
            raise CRASHES[rest[0]](ident)
        if rest[0] == b"return":
            return state
        return state, object()  # which no protocol can encode

    def on_cont(self, ident: bytes, rest: list[bytes], state: dict[str, Any]) -> Any:
        self.journal.entered(ident)
        return state, NO_REPLY, Continue((ident, self.context.caller))

    def on_leave(self, ident: bytes, rest: list[bytes], state: dict[str, Any]) -> Any:
        self.journal.entered(ident)
        return state, self.answer(ident, state), Close(self.context.connection)

    def on_stop(self, ident: bytes, rest: list[bytes], state: dict[str, Any]) -> Any:
        self.journal.entered(ident)
        answer = self.answer(ident, state)
        self.journal.ends(self.context.name, is_clean=True, now=self.context.monotonic)
        return state, answer, Stop("normal")

    def handle_info(self, message: Any, state: dict[str, Any]) -> Any:
        match message:
            case CallReply(tag=(ident, caller)):
                return state, None, Reply(caller, self.answer(ident, state))
            case CallFailed(tag=(ident, caller)):
                return state, None, Reply(caller, b"failed " + ident)
            case (ident, caller):
                return state, None, Reply(caller, self.answer(ident, state))
        return state, None

    def handle_continue(self, term: Any, state: dict[str, Any]) -> Any:
        ident, caller = term
        return state, None, Reply(caller, self.answer(ident, state))

    def terminate(self, reason: Any, state: dict[str, Any]) -> None:
        self.journal.life.append(f"terminate {self.context.name}")

    def answer(self, ident: bytes, state: dict[str, Any]) -> bytes:
        self.journal.answers(self.context.name, ident)
        return b"ok %s %d" % (ident, state["sum"])


class SlowLedger(Ledger):
    """The same by way of handle_call: every input has a caller and takes the general road."""

    def handle_call(self, request: Any, caller: Any, state: dict[str, Any]) -> Any:
        return self.step(request, state)
