"""What random programs say (random_programs.py): names, and who writes the scripts.

Does not know: what becomes of a script.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from pybehave import events

Script = tuple[str, tuple[Any, ...]]

TCP = "tcp://127.0.0.1:7000"
POLITE = "tcp://127.0.0.1:7001"
PEER = "tcp://127.0.0.1:7900"
NOBODY = "tcp://127.0.0.1:7901"

STEADY = ("a", "b", "c", "side", "machine")
"""Journaled servers that the application always has, and that take scripts as they are."""

SPECIAL = ("os", "memory", "tight", "loose", "pure", "maybe", "sleepy")
"""Journaled, too, each with a peculiarity: a level, a mailbox, an observer, an init."""

PLAIN = ("p", "q", "d", "engine", "keyed", "narrow")
MEMBERS = ("m-1", "m-2", "n-1", "k-1", "k-2")
POOLS = ("jobs", "procs")
MADE = ("x1", "x2", "y1", "y2")
PAIRED = ("either", "both")
MANAGERS = ("log", "news")
TAKERS = (*STEADY, *SPECIAL, "p", "q", "engine", "keyed", "m-1")
"""Who takes several scripts together, and scripts with a name."""

EVERYONE = (*STEADY, *SPECIAL, *PLAIN, *MEMBERS, *MADE, "nobody")
GROUPS = ("g", "h")
SUPERVISORS = ("root", "pair", "made", "m-*", "n-*", "k-*")

MOVED = (*"pqabcd", *SPECIAL, "keyed", "jobs", "machine", "either")


class Writer:
    """Writes scripts.

    Args:
        dice: Everything follows from it.
        asked: What steps ask the node for (random_programs.ASKED); nothing without.
    """

    def __init__(self, dice: Random, asked: Sequence[str] = ()) -> None:
        self.dice = dice
        self.asked = asked
        # Not all in each program: what one word prevents others from is seen without it.
        self.words = [word for word in WORDS if dice.random() < 0.6] or list(WORDS)
        self.leaves = [word for word in LEAVES if word in self.words] or ["now"]
        self.count = 0
        self.scripts: dict[str, tuple[Any, ...]] = {}
        self.again: set[str] = set()

    def script(self, depth: int = 2, *, is_repeated: bool = False) -> Script:
        self.count += 1
        name = f"s{self.count}"
        sizes = {-1: (0,), 0: (0, 0, 1)}.get(depth, (0, 1, 1, 2, 3))
        size = self.dice.choice(sizes)
        ops = tuple(self.operation(depth, is_repeated=is_repeated) for _ in range(size))
        self.scripts[name] = ops
        if is_repeated:
            self.again.add(name)
        return name, ops

    def to(self, name: str, depth: int, *, is_repeated: bool = False) -> Any:
        """A message in the form that a server takes."""
        if name == "either":
            return self.dice.randrange(2), self.script(depth, is_repeated=is_repeated)
        if name == "both":
            return tuple(self.script(depth, is_repeated=is_repeated) for _ in range(2))
        if name in MANAGERS:
            return events.notify(self.script(depth, is_repeated=True))  # each handler does it
        return self.script(depth, is_repeated=is_repeated)

    def anybody(self) -> str:
        return self.dice.choice((*EVERYONE, *STEADY, *PAIRED, "via"))

    def operation(self, depth: int, *, is_repeated: bool) -> tuple[Any, ...]:
        dice = self.dice
        word = dice.choice(self.words if depth > 0 else self.leaves)
        if word == "ask" and not self.asked:
            word = "now"
        if depth and word in CARRYING:
            return self.carrying(word, depth - 1, is_repeated=is_repeated)
        match word:
            case "join" | "leave":
                return word, dice.choice(GROUPS)
            case "cancel_timer" | "cancel_run":
                return word, dice.randrange(2)
            case "idle" | "state_timeout" | "event_timeout":
                return word, dice.choice(SECONDS)
            case "run":
                how = dice.choice(("works", "fails"))
                pool = dice.choice((None, *POOLS, *POOLS, "nowhere"))
                limit, again = dice.choice((None, 0.05)), dice.random() < 0.5
                return word, how, dice.randrange(2), limit, again, pool
            case "gather":
                return word, dice.choice(("all", "any")), self.effects(depth)
            case "pad":
                return word, "." * dice.choice((10, 3000, 20_000))
            case "monitor" | "demonitor" | "link" | "unlink":
                return word, dice.choice((*EVERYONE, *PAIRED, *MANAGERS)), dice.randrange(2)
            case "connect":
                return word, dice.choice((PEER, NOBODY)), dice.choice((True, "once", 2))
            case "stop":
                return word, dice.choice(("normal", "shutdown", "odd"))
            case "ask":
                script = self.script(0, is_repeated=True)
                return word, dice.choice(self.asked), dice.randrange(1 << 20), script
            case "bad":
                return word, dice.randrange(12)
        return (word,)

    def effects(self, depth: int) -> tuple[Any, ...]:
        """What is waited for together: of each kind, some that fail."""
        dice, found = self.dice, []
        for _ in range(dice.randrange(1, 4)):
            kind = dice.choice(("call", "call", "run", "connect"))
            if kind == "call":
                name = self.anybody()
                message = self.to(name, -1, is_repeated=True)
                found.append((kind, name, message, dice.choice((0.01, 5.0))))
            elif kind == "run":
                how = dice.choice(("works", "fails"))
                found.append((kind, how, dice.choice((None, *POOLS)), dice.random() < 0.5))
            else:
                found.append((kind, dice.choice((PEER, NOBODY))))
        return tuple(found)

    def carrying(self, word: str, depth: int, *, is_repeated: bool) -> tuple[Any, ...]:
        """An operation with a script in it."""
        dice = self.dice
        match word:
            case "cast" | "info":
                name = self.anybody()
                if word == "info" and name in PAIRED:  # whose infos have no side
                    name = "a"
                return word, name, self.to(name, depth, is_repeated=is_repeated)
            case "call":
                name, again = self.anybody(), dice.random() < 0.3
                # One that ends its sender, too, would do so again and again: it does nothing.
                message = self.to(name, -1 if again else depth, is_repeated=again or is_repeated)
                wait = dice.choice(("fail", "wait"))
                return word, name, message, dice.choice((0.01, 1.0, 5.0)), again, wait
            case "cast_group":
                return word, dice.choice(GROUPS), self.script(depth, is_repeated=True)
            case "together":
                size = dice.choice((1, 2, 3))
                scripts = [self.script(depth, is_repeated=is_repeated) for _ in range(size)]
                return word, dice.choice(TAKERS), tuple(scripts)
            case "once":
                return word, dice.choice(TAKERS), self.script(depth, is_repeated=is_repeated)
            case "timer":
                script = self.script(depth, is_repeated=is_repeated)
                return word, dice.randrange(2), dice.choice(SECONDS), script
        return word, self.script(depth, is_repeated=is_repeated)


SECONDS = (0, 0.001, 0.01, 0.5)
CARRYING = {
    "cast", "info", "call", "cast_group", "timer", "continue", "next_event",
    "together", "once",
}  # fmt: skip
WORDS = (
    "cast", "cast", "cast", "info", "call", "call", "join", "leave", "cast_group", "continue",
    "timer", "timer", "cancel_timer", "idle", "run", "run", "cancel_run", "monitor", "demonitor",
    "link", "unlink", "connect", "send", "close", "active", "stop", "hibernate", "hibernate",
    "crash", "bad", "later", "later", "answer", "answer", "dice", "now", "ask", "ask", "next_event",
    "state_timeout", "event_timeout", "postpone", "toggle", "gather", "gather", "pad",
    "together", "once",
)  # fmt: skip
LEAVES = (
    "hibernate", "crash", "bad", "later", "answer", "dice", "now", "ask", "stop", "monitor", "link",
    "unlink", "join", "leave", "run", "cancel_run", "send", "close", "toggle", "postpone", "idle",
    "connect", "gather",
)  # fmt: skip
OF_MACHINES = {"next_event", "state_timeout", "event_timeout", "postpone", "toggle"}
NOT_OF_MACHINES = {"continue", "idle", "stop"}
NOT_OF_SIDES = {"connect", "idle", "join", "leave", "gather"}
