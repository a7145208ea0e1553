"""Mistakes planted in the package's own code, and the trials that must find each of them.

A trial is written as a user would write it: servers, what clients ask, what must hold. A mistake is
a change of one function of the package; it stands for a bug that somebody might make there. Those
below are in Python, put in place by a monkeypatch; planted_compiled.py has those in the core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from pybehave import NO_REPLY, Application, Backoff, GenServer, GenStatem, Supervisor, Worker
from pybehave._uring.values import Values
from pybehave.actions import (
    Call,
    CallFailed,
    CallReply,
    Cast,
    Down,
    Monitor,
    Reply,
    StartTimer,
    Stop,
)
from pybehave.statem import KeepStateAndData, NextState, Postpone, StateTimeout
from pybehave.testing import Faults, Model, Trial

SEEDS = 150
"""Within so many each mistake is found; without one, so many find nothing."""

SAFE = Faults(restarts=2, power_cuts=2, crashes=2, snapshots=3)


def tree(*children: Any, **options: Any) -> Application:
    options = {"intensity": 1000, **options}
    return Application("planted", Supervisor("one_for_one", list(children), **options))


# --- a ledger: what is answered stays, once -------------------------------------------------------


class Ledger(GenServer[dict[str, int], Any, Any]):
    def init(self, args: Any) -> dict[str, int]:
        return {"a": 0, "b": 0}

    def step(self, command: Any, state: dict[str, int]) -> Any:
        name, amount = command
        state[name] += amount
        return state, state[name]


def ledger(**options: Any) -> Trial:
    return Trial(
        lambda: tree(Worker("ledger", Ledger, journal=True)),
        lambda dice: ("ledger", (dice.choice("ab"), dice.randrange(1, 9))),
        model={"ledger": Model.of(Ledger, key=lambda command: command[0])},
        shake=True,
        **{"faults": SAFE, **options},
    )


def named_requests() -> Trial:
    """The same with clients that send again: each request takes effect once."""
    return ledger(once=True, faults=Faults(lose=300, restarts=2, power_cuts=2, snapshots=3))


# --- clerks: what was asked for is answered, by others and by timers ------------------------------


class Clerk(GenServer[dict[str, int], Any, Any]):
    """Counts what it waits for: replies, timers; and what it has told the other one."""

    def init(self, args: Any) -> dict[str, int]:
        return {"waits": 0, "told": 0}

    def step(self, command: Any, state: dict[str, int]) -> Any:
        if command == "tell":
            state["told"] += 1
            return state, None, Cast("ear", "told")
        state["waits"] += 1
        if command == "ask":
            return state, None, Call("ear", "hear", "asked")
        return state, None, StartTimer(f"t{self.context.random.random()}", 0.2, "rings")

    def handle_info(self, message: Any, state: dict[str, int]) -> Any:
        if message == "rings" or isinstance(message, CallReply | CallFailed):
            state["waits"] -= 1
        return state, None


class Ear(GenServer[int, Any, Any]):
    """Counts what it was told, takes a while to answer, and a rest when it is told to."""

    def init(self, args: Any) -> int:
        return 0

    def step(self, command: Any, state: int) -> Any:
        if command == "rest":
            return state, None, Stop("normal")
        if command == "hear":
            return (
                state,
                NO_REPLY,
                StartTimer(self.context.caller, 0.1, ("say", self.context.caller)),
            )
        return state + 1, None

    def handle_info(self, message: Any, state: int) -> Any:
        return state, None, Reply(message[1], "heard")


def clerks(command: str) -> Trial:
    return Trial(
        lambda: tree(
            Worker("clerk", Clerk, journal=True),
            Worker("ear", Ear, journal=command == "tell", backoff=Backoff(0.2)),
        ),
        lambda dice: dice.choice([("clerk", command)] * 4 + [("ear", "rest")]),
        requests=15,
        faults=Faults(crashes=0, restarts=2, power_cuts=2, snapshots=3),
        at_end={"all answered": answered},
    )


def answered(node: Any) -> bool:
    clerk, ear = node.get_state("clerk"), node.get_state("ear")
    return bool(clerk["waits"] == 0 and clerk["told"] in (0, ear))


# --- groups of servers: who is started with whom, in which order, how often -----------------------


class Member(GenServer[int, Any, Any]):
    """Notes its starts in a list that its tree's servers share; its state is how many they are."""

    def init(self, args: list[str]) -> int:
        args.append(self.context.name)
        return args.count(self.context.name)

    def step(self, command: Any, state: int) -> Any:
        if command == "boom":
            raise ZeroDivisionError
        return state, state


def group(strategy: Any, check: Callable[[list[str], Any], bool], **options: Any) -> Trial:
    starts: list[str] = []

    def make() -> Application:
        starts.clear()
        members = [Worker(name, Member, starts) for name in ("a", "b", "c")]
        inner = Supervisor(strategy, members, id="group", **{"intensity": 1000, **options})
        return tree(inner)

    return Trial(
        make,
        lambda dice: (dice.choice("abc"), "anything"),
        faults=Faults(crashes=5, restarts=0, power_cuts=0),
        at_end={"as OTP has it": lambda node: check(starts, node)},
    )


def later_ones_too(starts: list[str], node: Any) -> bool:
    a, b, c = (starts.count(name) for name in "abc")
    return a <= b <= c


def all_in_order(starts: list[str], node: Any) -> bool:
    return starts == list("abc") * (len(starts) // 3)


def seldom(starts: list[str], node: Any) -> bool:
    """One restart in a minute is allowed: by the next crash the group begins anew."""
    rest = "".join(starts).replace("abc", " ").split(" ")
    return all(len(alone) <= 1 for alone in rest)


# --- a door: time-outs and postponed events of a state machine ------------------------------------


class Door(GenStatem):
    """Opens for a while. What comes when it is open waits, and is taken in its order."""

    def init(self, args: Any) -> Any:
        return "closed", {"came": [], "taken": []}

    def closed(self, kind: Any, content: Any, data: Any) -> Any:
        match kind, content:
            case ("call", caller), "open":
                return NextState("open", data, [StateTimeout(0.05, "close"), Reply(caller, "ok")])
            case ("call", caller), "close":
                return KeepStateAndData(Reply(caller, "ok"))
            case ("call", caller), number:
                data["taken"].append(number)
                return KeepStateAndData(Reply(caller, "taken"))
        raise AssertionError(f"{kind} is no business of a closed door")

    def open(self, kind: Any, content: Any, data: Any) -> Any:
        match kind, content:
            case ("call", caller), "close":
                return NextState("closed", data, Reply(caller, "ok"))
            case ("call", caller), "open":
                return KeepStateAndData(Reply(caller, "ok"))
            case "state_timeout", "close":
                return NextState("closed", data)
            case ("call", _), number:
                data["came"].append(number)
                return KeepStateAndData(Postpone())
        return KeepStateAndData()


def in_their_order(node: Any) -> bool:
    _, data = node.sys.get_state("door")
    waited = [number for number in data["taken"] if number in data["came"]]
    return waited == data["came"]


def door() -> Trial:
    numbers = iter(range(1_000_000))
    return Trial(
        lambda: tree(Worker("door", Door)),
        lambda dice: ("door", dice.choice(["open", "close", next(numbers), next(numbers)])),
        faults=Faults(crashes=0, restarts=0, power_cuts=0, lose=0),
        at_end={"in their order": in_their_order},
    )


# --- a watcher: each end is told once -------------------------------------------------------------


class Watcher(GenServer[list[int], Any, Any]):
    """Keeps the incarnations whose end it was told of."""

    def init(self, args: Any) -> Any:
        return [], Monitor("member")

    def step(self, command: Any, state: list[int]) -> Any:
        return state, state

    def handle_info(self, message: Any, state: list[int]) -> Any:
        if isinstance(message, Down) and message.incarnation:
            state.append(message.incarnation)
        if isinstance(message, Down) and not message.incarnation:  # there is nobody just now
            return state, None, StartTimer("again", 0.001, "again")
        return state, None, Monitor("member")


def each_once(states: Any) -> bool:
    told = states["watcher"]
    return bool(told == list(range(1, len(told) + 1)))


def watcher() -> Trial:
    starts: list[str] = []

    def make() -> Application:
        starts.clear()
        return tree(Worker("member", Member, starts), Worker("watcher", Watcher))

    def all_told(node: Any) -> bool:
        return bool(len(node.get_state("watcher")) == len(starts) - 1)

    return Trial(
        make,
        lambda dice: ("member", "boom"),
        requests=10,
        seconds=60,
        faults=Faults(crashes=0, restarts=0, power_cuts=0),
        expected=(ZeroDivisionError,),
        always={"each once": each_once},
        at_end={"all told": all_told},
    )


TRIALS: dict[str, Callable[[], Trial]] = {
    "ledger": ledger,
    "busy ledger": lambda: ledger(seconds=0.05),
    "named requests": named_requests,
    "calls": lambda: clerks("ask"),
    "timers": lambda: clerks("ring"),
    "tells": lambda: clerks("tell"),
    "rest_for_one": lambda: group("rest_for_one", later_ones_too),
    "one_for_all": lambda: group("one_for_all", all_in_order),
    "intensity": lambda: group("one_for_one", seldom, intensity=1, period=60),
    "door": door,
    "watcher": watcher,
}


# --- the mistakes ---------------------------------------------------------------------------------

Patch = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Planted:
    """A mistake, the trial that finds it, and the promises one of which it breaks."""

    trial: str
    promises: tuple[str, ...]
    patch: Patch


def snapshots_of_before(patch: pytest.MonkeyPatch) -> None:
    """A snapshot holds the states of the one before it."""
    from pybehave.runtime.durable.snapshots import Snapshots

    real = Snapshots._entries

    def entries(self: Any, *bytes_max: int) -> Any:
        found = real(self, *bytes_max)
        before, self.journal.before = getattr(self.journal, "before", found), found
        return before

    patch.setattr(Snapshots, "_entries", entries)


def snapshots_without(field: str, empty: Any = b"") -> Patch:
    """A fact of each server is left out of its snapshots."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        from pybehave.journal.snapshot import Entry
        from pybehave.runtime.durable.snapshots import Snapshots

        real = Snapshots._running

        def running(self: Any, server: Any, *bytes_max: int) -> Any:
            entry = real(self, server, *bytes_max)
            facts = Values().decode(entry.facts)
            return Entry(Values().encode({**facts, field: empty}), entry.state)

        patch.setattr(Snapshots, "_running", running)

    return plant


def no_outbox(patch: pytest.MonkeyPatch) -> None:
    """Messages that are under way are left out of snapshots."""
    from pybehave.runtime.durable.snapshots import Snapshots

    patch.setattr(Snapshots, "_outbox", lambda self: None)


def names_not_synced(patch: pytest.MonkeyPatch) -> None:
    """A file's new name is not made durable."""
    from pybehave.journal import recovery

    patch.setattr(recovery, "_name", lambda disk, old, new: disk.rename(old, new))


def init_counts(patch: pytest.MonkeyPatch) -> None:
    """A server that starts again begins with what init returned, also when it is journaled."""
    from pybehave.runtime.durable.journaling import NodeJournal

    patch.setattr(NodeJournal, "known", lambda self, worker, *, is_asked: None)


def nobody_is_told(patch: pytest.MonkeyPatch) -> None:
    """Calls that a start has cut off are never settled."""
    from pybehave.runtime.durable import asked

    patch.setattr(asked, "settle", lambda *_: None)


def clock_falls_back(patch: pytest.MonkeyPatch) -> None:
    """The bug that the trial of timers has found: a replay leaves its time as the present."""
    from pybehave.runtime.durable.journaling import NodeJournal

    real = NodeJournal._begin

    def begin(self: Any, found: Any) -> None:
        self._dispatcher.set_unix_now(max(self._time_ns, 1))
        real(self, found)

    patch.setattr(NodeJournal, "_begin", begin)


def only_the_failed(strategy: str) -> Patch:
    def plant(patch: pytest.MonkeyPatch) -> None:
        from pybehave.behaviours import restart

        patch.setitem(restart._RANGES, strategy, restart._only_the_failed)

    return plant


def started_in_reverse(patch: pytest.MonkeyPatch) -> None:
    from pybehave.behaviours import restart

    def everyone(state: Any, failed: Any) -> Any:
        stops, starts = restart._everyone(state, failed)
        return stops, list(reversed(starts))

    patch.setitem(restart._RANGES, "one_for_all", everyone)


def never_too_often(patch: pytest.MonkeyPatch) -> None:
    from pybehave.behaviours.budget import Budget

    patch.setattr(Budget, "is_exhausted", lambda self, now: False)


def timeouts_go_on(patch: pytest.MonkeyPatch) -> None:
    """A change of state does not cancel the state's time-out."""
    from pybehave.behaviours.statem_engine import Turn

    real = Turn._cancel
    patch.setattr(Turn, "_cancel", lambda self, key: key == "state_timeout" or real(self, key))


def postponed_backwards(patch: pytest.MonkeyPatch) -> None:
    """The latest postponed event is tried first."""
    from pybehave.behaviours.statem_engine import Turn

    real = Turn._settle

    def settle(self: Any, event: Any, *, is_change: bool) -> None:
        if is_change:
            self._postponed = tuple(reversed(self._postponed))
        real(self, event, is_change=is_change)

    patch.setattr(Turn, "_settle", settle)


def told_twice(patch: pytest.MonkeyPatch) -> None:
    from pybehave.runtime.monitors import Monitors

    real = Monitors._tell

    def tell(self: Any, *words: Any) -> None:
        real(self, *words)
        real(self, *words)

    patch.setattr(Monitors, "_tell", tell)


def not_told(patch: pytest.MonkeyPatch) -> None:
    """Every other end is not told."""
    from pybehave.runtime.monitors import Monitors

    real = Monitors._tell
    patch.setattr(
        Monitors,
        "_tell",
        lambda self, to, server, *words: server.incarnation % 2 and real(self, to, server, *words),
    )


PLANTED = {
    "snapshots of before": Planted("ledger", ("history", "start", "crash"), snapshots_of_before),
    "names not synced": Planted("ledger", ("history", "start"), names_not_synced),
    "init counts": Planted("ledger", ("history", "start"), init_counts),
    "requests not in snapshots": Planted(
        "named requests", ("history",), snapshots_without("requests", [])
    ),
    "calls not in snapshots": Planted("calls", ("end",), snapshots_without("asked")),
    "calls not settled": Planted("calls", ("end",), nobody_is_told),
    "timers not in snapshots": Planted(
        "timers", ("end",), snapshots_without("timers", Values().encode({}))
    ),
    "clock falls back": Planted("timers", ("end",), clock_falls_back),
    "messages not in snapshots": Planted("tells", ("end",), no_outbox),
    "rest_for_one restarts one": Planted("rest_for_one", ("end",), only_the_failed("rest_for_one")),
    "one_for_all restarts one": Planted("one_for_all", ("end",), only_the_failed("one_for_all")),
    "started in reverse": Planted("one_for_all", ("end",), started_in_reverse),
    "never too often": Planted("intensity", ("end",), never_too_often),
    "time-outs go on": Planted("door", ("crash",), timeouts_go_on),
    "postponed backwards": Planted("door", ("end",), postponed_backwards),
    "told twice": Planted("watcher", ("invariant",), told_twice),
    "not told": Planted("watcher", ("invariant", "end"), not_told),
}
