"""Old journals with new code: inputs, states, timers, messages and dead letters are upcast."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from pybehave import Application, GenServer, GenStatem, Listener, Once, Supervisor, Worker, actions
from pybehave.errors import Crashed, JournalRefused, NonDeterminism, RequestKnown, SpecError
from pybehave.journal import dead_letters
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines
from pybehave.statem import KeepStateAndData, NextState, Postpone, StateTimeout
from pybehave.testing import repeat
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import kept_by
from tests.power.machine import wait_for
from tests.snapshots import take_snapshot

OPTIONS = Options(segment_bytes=64 << 10)
TCP = "tcp://127.0.0.1:7000"


class One(GenServer[Any, Any, Any]):
    """Version 1: keeps what it hears, as it hears it."""

    pure = True

    def init(self, args: Any) -> Any:
        return []

    def step(self, command: Any, state: Any) -> Any:
        if command == "fail":
            raise ValueError("a deliberate bug")
        if command == "later":
            return [*state, command], 1, actions.StartTimer("t", 3e8, "tick")
        return [*state, command], len(state)

    def handle_info(self, message: Any, state: Any) -> Any:
        return [*state, message], None


class Two(One):
    """Version 2: what it hears is numbered, and what it says is the number."""

    version = 2

    def step(self, command: Any, state: Any) -> Any:
        number, text = command
        if text == "later":
            return [*state, command], 2, actions.StartTimer("t", 3e8, (2, "tick"))
        return [*state, (number, text)], number

    def handle_info(self, message: Any, state: Any) -> Any:
        number, text = message
        return [*state, (number, text)], None

    def upcast(self, version: int, message: Any) -> Any:
        return (2, message) if version == 1 else message

    def upcast_state(self, version: int, dumped: Any) -> Any:
        return [(2, each) for each in dumped] if version == 1 else dumped


class Three(Two):
    """Version 3: text before number."""

    version = 3

    def step(self, command: Any, state: Any) -> Any:
        text, number = command
        return [*state, (text, number)], text

    def upcast(self, version: int, message: Any) -> Any:
        return message[::-1] if version == 2 else super().upcast(version, message)

    def upcast_state(self, version: int, dumped: Any) -> Any:
        if version == 2:
            return [(text, number) for number, text in dumped]
        return super().upcast_state(version, dumped)


def app(kind: type[GenServer[Any, Any, Any]], **options: Any) -> Application:
    worker = Worker("s", kind, journal=True)
    return Application("t", Supervisor("one_for_one", [worker], intensity=100), **options)


def live(start: Callable[..., Any], data: Path, kind: type[Any], *commands: Any) -> Any:
    """One life of a server; what it knew at its end."""
    node = start(app(kind), data=data, journal_options=OPTIONS)
    for command in commands:
        if command == "snapshot":
            take_snapshot(node)
        else:
            node.call("s", command)
    state = node.get_state("s")
    node.stop()
    return state


@pytest.mark.parametrize("snapshot", [(), ("snapshot",)])
def test_F33_inputs_and_states_go_through_the_chain(
    start: Callable[..., Any], tmp_path: Path, snapshot: tuple[str, ...]
) -> None:
    live(start, tmp_path, One, "a", *snapshot, "b")
    assert live(start, tmp_path, Three) == [("a", 2), ("b", 2)]


def test_each_life_has_its_version(start: Callable[..., Any], tmp_path: Path) -> None:
    assert live(start, tmp_path, One, "a") == ["a"]
    assert live(start, tmp_path, Two, (9, "b")) == [(2, "a"), (9, "b")]
    expected = [("a", 2), ("b", 9), ("c", 8)]
    assert live(start, tmp_path, Three, ("c", 8)) == expected
    assert live(start, tmp_path, Three) == expected


def test_older_inputs_are_stepped_by_newer_code_once(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    """The first start of newer code takes a snapshot, so no later one has to ask `upcast`."""
    live(start, tmp_path, One, "a")
    node = start(app(Two), data=tmp_path, journal_options=OPTIONS)
    wait_for(lambda: node.stats()["journal"]["snapshots"]["taken"] == 1, "a snapshot")
    node.stop()
    asked: list[Any] = []
    kind = type("Two", (Two,), {"upcast": lambda _, version, message: asked.append(message)})
    assert live(start, tmp_path, kind) == [(2, "a")]
    assert asked == []


def test_a_crash_in_newer_code_rebuilds_from_older_inputs(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    live(start, tmp_path, One, "a")
    kind = type("Two", (Two,), {"pure": False})
    node = start(app(kind), data=tmp_path, journal_options=OPTIONS)
    with pytest.raises(Crashed):
        node.call("s", 7)
    assert node.get_state("s") == [(2, "a")]


def test_a_newer_journal_is_refused_and_stays_readable(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    live(start, tmp_path, Two, (1, "a"))
    with pytest.raises(JournalRefused, match=r"version 2 of its class .* but One is version 1"):
        start(app(One), data=tmp_path, journal_options=OPTIONS)
    assert live(start, tmp_path, Two) == [(1, "a")]


@pytest.mark.parametrize("commands", [("a",), ("snapshot",)])
def test_F33_a_newer_class_that_does_not_say_what_changed_is_refused(
    start: Callable[..., Any], tmp_path: Path, commands: tuple[str, ...]
) -> None:
    live(start, tmp_path, One, *commands)
    kind = type("Newer", (One,), {"version": 2})
    with pytest.raises(JournalRefused, match="Newer is version 2 and has nothing that leads on"):
        start(app(kind), data=tmp_path, journal_options=OPTIONS)
    assert live(start, tmp_path, One) == [each for each in commands if each != "snapshot"]


def test_an_upcast_that_raises_names_the_input(start: Callable[..., Any], tmp_path: Path) -> None:
    live(start, tmp_path, One, "a")
    kind = type("Two", (Two,), {"upcast": lambda *_: 1 // 0})
    with pytest.raises(JournalRefused, match=r"ZeroDivisionError.* on the input of lsn \d+;"):
        start(app(kind), data=tmp_path, journal_options=OPTIONS)


def test_outcomes_of_the_same_version_are_still_compared(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    """Of an older version they are not: the code was another."""
    live(start, tmp_path, One, "a")
    node = start(app(Two), data=tmp_path, journal_options=OPTIONS)
    node.call("s", (5, "b"))
    node.stop()
    kind = type("Two", (Two,), {"step": lambda _, command, state: (state, "else")})
    with pytest.raises(NonDeterminism, match="Server 's' does not repeat itself"):
        start(app(kind), data=tmp_path, journal_options=OPTIONS)


@pytest.mark.parametrize("snapshot", [(), ("snapshot",)])
def test_timers_that_run_are_upcast(
    start: Callable[..., Any], tmp_path: Path, snapshot: tuple[str, ...]
) -> None:
    live(start, tmp_path, One, "later", *snapshot)
    node = start(app(Two), data=tmp_path, journal_options=OPTIONS)
    assert node.run_on_loop(lambda: node.loop.dispatcher.whereis("s").due["t"][1]) == (2, "tick")


def test_an_expired_timer_is_upcast(start: Callable[..., Any], tmp_path: Path) -> None:
    class Short(One):
        def step(self, command: Any, state: Any) -> Any:
            return [*state, command], 1, actions.StartTimer("t", 0.0, "tick")

    class ShortTwo(Two):
        def step(self, command: Any, state: Any) -> Any:
            return [*state, command], 1, actions.StartTimer("t", 0.0, (2, "tick"))

    node = start(app(Short), data=tmp_path, journal_options=OPTIONS)
    node.call("s", "a")
    wait_for(lambda: node.get_state("s") == ["a", "tick"], "the timer")
    node.stop()
    node = start(app(ShortTwo), data=tmp_path, journal_options=OPTIONS)
    assert node.get_state("s") == [(2, "a"), (2, "tick")]
    assert node.stats()["servers"]["s"]["timers"] == 0


def test_a_dead_letter_of_an_older_version_is_sent_again_as_todays(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(app(One), data=tmp_path, journal_options=OPTIONS)
    with pytest.raises(Crashed):
        node.call("s", "fail")
    wait_for(lambda: dead_letters.numbers(str(tmp_path)), "a letter")
    node.stop()
    [lsn] = dead_letters.numbers(str(tmp_path))
    dead_letters.requeue(str(tmp_path), dead_letters.get(str(tmp_path), lsn))
    node = start(app(Two), data=tmp_path, journal_options=OPTIONS)
    wait_for(lambda: node.get_state("s") == [(2, "fail")], "the letter")


def test_a_failure_of_an_older_version_is_repeated_with_todays_code(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(app(One), data=tmp_path, journal_options=OPTIONS)
    node.call("s", "a")
    with pytest.raises(Crashed):
        node.call("s", "fail")
    node.stop()
    [lsn] = dead_letters.numbers(str(tmp_path))
    letter = (tmp_path / dead_letters.letter_name(lsn)).read_bytes()
    assert repeat(Two, letter) == ([(2, "a"), (2, "fail")], 2)


class Put(msgspec.Struct):
    key: str


class Store(msgspec.Struct):
    key: str
    times: int = 1


class PutTwo(msgspec.Struct):
    key: str
    value: int


PutTwo.__qualname__ = "Put"


class Typed(One):
    types = (Put,)


class Renamed(One):
    types = (Store,)
    aliases: ClassVar = {"Put": Store}


class Reshaped(One):
    types = (PutTwo,)
    version = 2
    aliases: ClassVar = {("Put", 1): Put}

    def upcast(self, version: int, message: Any) -> Any:
        return PutTwo(message.key, 0) if isinstance(message, Put) else message

    def upcast_state(self, version: int, dumped: Any) -> Any:
        return [self.upcast(version, each) for each in dumped]


@pytest.mark.parametrize("snapshot", [(), ("snapshot",)])
@pytest.mark.parametrize(
    "kind, expected",
    [(Renamed, [Store("a"), Store("b")]), (Reshaped, [PutTwo("a", 0), PutTwo("b", 0)])],
)
def test_declared_types_may_get_another_name_or_shape(
    start: Callable[..., Any], tmp_path: Path, kind: Any, expected: Any, snapshot: Any
) -> None:
    live(start, tmp_path, Typed, Put("a"), *snapshot, Put("b"))
    assert live(start, tmp_path, kind, *snapshot) == expected
    assert live(start, tmp_path, kind) == expected


def test_a_type_that_is_gone_is_named(start: Callable[..., Any], tmp_path: Path) -> None:
    live(start, tmp_path, Typed, Put("a"))
    with pytest.raises(JournalRefused, match="declared type 'Put', which the server no longer"):
        start(app(One), data=tmp_path, journal_options=OPTIONS)


def test_a_declaration_that_is_not_allowed_stops_the_start(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    live(start, tmp_path, One, "a")
    with pytest.raises(SpecError, match="Server 's' of class Odd: version=0 is not allowed"):
        start(app(type("Odd", (One,), {"version": 0})), data=tmp_path, journal_options=OPTIONS)


def test_a_kept_reply_of_a_type_that_changed_is_not_guessed(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    class Echo(Typed):
        def step(self, command: Any, state: Any) -> Any:
            return state, command

    class EchoTwo(Reshaped):
        pass

    node = start(app(Echo), data=tmp_path, journal_options=OPTIONS)
    assert node.call("s", Once("client", 1, Put("a"))) == Put("a")
    take_snapshot(node)
    node.stop()
    node = start(app(EchoTwo), data=tmp_path, journal_options=OPTIONS)
    with pytest.raises(RequestKnown, match="its reply is of an older version"):
        node.call("s", Once("client", 1, Put("a")))
    assert node.call("s", Once("client", 2, PutTwo("b", 1))) == 0


class Sender(GenServer[Any, Any, Any]):
    pure = True

    def step(self, command: Any, state: Any) -> Any:
        return state, None, actions.Cast("s", command)


def pair(kind: type[Any]) -> Application:
    """A server that does not start again once it has crashed, and one that sends to it."""
    workers: list[Any] = [
        Worker("s", kind, journal=True, restart="temporary"),
        Worker("sender", Sender, journal=True),
    ]
    return Application("t", Supervisor("one_for_one", workers))


def test_a_message_under_way_in_a_snapshot_is_upcast(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(pair(One), data=tmp_path, journal_options=OPTIONS)
    with pytest.raises(Crashed):
        node.call("s", "fail")
    node.call("sender", "hello")
    take_snapshot(node)
    node.stop()
    node = start(pair(Two), data=tmp_path, journal_options=OPTIONS)
    wait_for(lambda: node.get_state("s") == [(2, "hello")], "the message")


class Door(GenStatem):
    def init(self, args: Any) -> Any:
        return "closed", []

    def closed(self, event_type: Any, content: Any, data: Any) -> Any:
        if content == "open":
            return NextState("opened", [*data, content])
        if event_type == "cast":
            return KeepStateAndData(Postpone())
        return NextState("closed", data, StateTimeout(3e8, content))

    def opened(self, event_type: Any, content: Any, data: Any) -> Any:
        return NextState("opened", [*data, content])


class DoorTwo(Door):
    version = 2

    def shut(self, event_type: Any, content: Any, data: Any) -> Any:
        if content == (2, "open"):
            return NextState("opened", [*data, content])
        if event_type == "cast":
            return KeepStateAndData(Postpone())
        return NextState("shut", data, StateTimeout(3e8, content))

    def init(self, args: Any) -> Any:
        return "shut", []

    def upcast(self, version: int, message: Any) -> Any:
        return (2, message)

    def upcast_state(self, version: int, state: Any, data: Any) -> Any:
        return {"closed": "shut"}.get(state, state), [(2, each) for each in data]


@pytest.mark.parametrize("is_snapshot", [False, True])
def test_a_machine_is_upcast_with_what_it_has_postponed(
    start: Callable[..., Any], tmp_path: Path, is_snapshot: bool
) -> None:
    node = start(app(Door), data=tmp_path, journal_options=OPTIONS)
    node.cast("s", "wait")
    node.info("s", "soon")
    node.run_on_loop(lambda: None)
    if is_snapshot:
        take_snapshot(node)
    node.stop()
    node = start(app(DoorTwo), data=tmp_path, journal_options=OPTIONS)
    machine = kept_by(node, "s")
    assert machine.state == "shut"
    assert machine.postponed == (("cast", (2, "wait")),)
    assert machine.timeouts == {"state_timeout": (2, "soon")}
    node.cast("s", (2, "open"))
    assert node.run_on_loop(lambda: None) is None
    wait_for(lambda: len(kept_by(node, "s").data) == 2, "the postponed event")
    assert kept_by(node, "s").data == [(2, "open"), (2, "wait")]


def text_of(entry: Any) -> str:
    """What was said, whichever version keeps it."""
    if isinstance(entry, tuple):
        entry = next(each for each in entry if not isinstance(each, int))
    return entry.decode() if isinstance(entry, bytes) else str(entry)


class LineOne(One):
    def step(self, command: Any, state: Any) -> Any:
        return [*state, command], command


class LineTwo(Two):
    def step(self, command: Any, state: Any) -> Any:
        command = command if isinstance(command, tuple) else (9, command)
        return [*state, command], command[1]


class LineThree(Three):
    def step(self, command: Any, state: Any) -> Any:
        command = command if isinstance(command, tuple) else (command, 9)
        return [*state, command], command[0]

    def upcast(self, version: int, message: Any) -> Any:
        if version == 2 and not isinstance(message, tuple):
            return (message, 9)
        return super().upcast(version, message)


@pytest.mark.parametrize("seed", range(40))
def test_upgrades_survive_power_cuts(seed: int) -> None:
    """Whatever version a life has, it knows what was acknowledged before, in order."""
    dice, disk, seen, version = random.Random(seed), SimDisk(seed), [], 0
    for life in range(6):
        version = max(version, dice.randrange(3))
        kind = (LineOne, LineTwo, LineThree)[version]
        world = Simulator(
            seed * 10 + life,
            app(kind, listeners=[Listener(TCP, Lines(), to="s")]),
            disk=disk,
            journal_options=OPTIONS,
        ).start()
        world.node.journal.snapshots.records = dice.choice((5, 1000))
        found = [text_of(each) for each in world.node.get_state("s")]
        assert found[: len(seen)] == seen
        client = world.connect(TCP)
        for number in range(dice.randrange(1, 9)):
            client.send(b"%d.%d\n" % (life, number))
            world.run(dice.random() * 0.01)
        seen = found + bytes(client.received).decode().split()
        disk = world.lose_power(dice)
