"""Clients of an older version stay connected over an upgrade, and are spoken to as before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import (
    NO_REPLY,
    Application,
    Bridge,
    GenServer,
    Listener,
    Once,
    Release,
    Speaks,
    Supervisor,
    Together,
    Worker,
)
from pybehave.actions import Reply, Send, StartTimer
from pybehave.errors import UpgradeRefused
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines, Protocol
from pybehave.runtime.release.specs import Wish
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import dial, receive, receive_all

SMALL = Options(segment_bytes=256 * 1024)
URL = "tcp://127.0.0.1:0"


class One(GenServer[Any, Any, Any]):
    """Version 1: `add 3` -> `3`; the state is a number."""

    def init(self, args: Any) -> Any:
        return 0

    def step(self, command: str, total: int) -> Any:
        match command.split():
            case ["add", number]:
                return total + int(number), str(total + int(number))
            case ["later"]:
                return total, NO_REPLY, StartTimer("t", 60.0, self.context.caller)
            case ["watch"]:
                return total, "ok", StartTimer("w", 60.0, self.context.connection)
        raise ValueError(command)

    def handle_info(self, message: Any, total: int) -> Any:
        return total, None, self.told(message, str(total))

    def told(self, message: Any, text: str) -> Any:
        is_caller = type(message).__name__ == "Caller"
        return Reply(message, text) if is_caller else Send(message, text)


class Two(One):
    """Version 2: `add 3 EUR` -> `EUR 3`; the state is a dict."""

    version = 2

    def init(self, args: Any) -> Any:
        return {"EUR": 0}

    def step(self, command: str, totals: Any) -> Any:
        match command.split():
            case ["add", number, unit]:
                totals[unit] = totals.get(unit, 0) + int(number)
                return totals, f"{unit} {totals[unit]}"
            case ["tell"]:
                return totals, f"EUR {totals['EUR']}"
        return super().step(command, totals)

    def handle_info(self, message: Any, totals: Any) -> Any:
        return totals, None, self.told(message, f"EUR {totals['EUR']}")

    def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
        return state["EUR"] if old_version == ("down", 1) else {"EUR": state}


class Three(Two):
    """Version 3: as version 2, in capitals, and another word."""

    version = 3

    def step(self, command: str, totals: Any) -> Any:
        word, _, rest = command.partition(" ")
        totals, text = super().step(f"{'add' if word == 'PUT' else word} {rest}", totals)
        return totals, f"= {text}"

    def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
        return state


TO_TWO: Bridge[str, str, str, str] = Bridge(
    up_input=lambda text: f"{text} EUR" if text.startswith("add") else text,
    down_output=lambda text: text.removeprefix("EUR "),
)
AND_BACK: Bridge[str, str, str, str] = Bridge(
    TO_TWO.up_input,
    TO_TWO.down_output,
    down_input=lambda text: text.removesuffix(" EUR"),
    up_output=lambda text: f"EUR {text}",
)
TO_THREE: Bridge[str, str, str, str] = Bridge(
    up_input=lambda text: text.replace("add", "PUT"),
    down_output=lambda text: text.removeprefix("= "),
)
KINDS: dict[int, Any] = {1: One, 2: Two, 3: Three}


def application(
    version: int,
    *,
    journal: bool = False,
    url: str = URL,
    bridges: Any = None,
    overflow: Any = "block",
    **more: Any,
) -> Application:
    known = {1: TO_TWO, 2: TO_THREE} if bridges is None else bridges
    if version > 1 or more:
        kept = {key: each for key, each in known.items() if key < version}
        more = {"speaks": Speaks(version, kept, **more)}
    worker = Worker("a", KINDS[version], journal=journal, overflow=overflow)
    return Application(
        "adder",
        Supervisor("one_for_one", [worker], intensity=100),
        version=str(version),
        listeners=[Listener(url, Lines("utf-8"), to="a", **more)],
    )


@pytest.fixture(params=[False, True], ids=["memory", "journal"])
def journal(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def begin(start: Callable[..., Any], tmp_path: Path, journal: bool) -> Callable[..., Any]:
    def begin(**more: Any) -> Any:
        app = application(1, journal=journal, **more)
        return start(app, data=tmp_path / "data", journal_options=SMALL)

    return begin


def ask(client: Any, text: str, answer: str) -> None:
    client.sendall(f"{text}\n".encode())
    assert receive(client, len(answer) + 1).decode() == f"{answer}\n"


def test_an_old_client_is_spoken_to_as_before(begin: Callable[..., Any], journal: bool) -> None:
    node = begin()
    with dial(node) as old:
        ask(old, "add 1", "1")
        node.releases.upgrade(application(2, journal=journal), from_version="1")
        ask(old, "add 2", "3")
        with dial(node) as new:
            ask(new, "add 4 EUR", "EUR 7")
            ask(new, "add 4 USD", "USD 4")
            ask(old, "add 1", "8")


def test_over_two_releases_the_bridges_are_a_chain(
    begin: Callable[..., Any], journal: bool
) -> None:
    node = begin()
    with dial(node) as one:
        ask(one, "add 1", "1")
        node.releases.upgrade(application(2, journal=journal), from_version="1")
        with dial(node) as two:
            ask(two, "add 1 EUR", "EUR 2")
            node.releases.upgrade(application(3, journal=journal), from_version="2")
            with dial(node) as three:
                ask(three, "PUT 1 EUR", "= EUR 3")
                ask(two, "add 1 EUR", "EUR 4")
                ask(one, "add 1", "5")
        [facts] = node.releases.status()["listeners"]
        assert (facts["oldest"], facts["version"]) == (1, 3)


def test_a_reply_that_was_put_off_and_what_is_sent_by_itself(journal: bool) -> None:
    """Both are made by the new code, for clients of the old one."""
    address = "tcp://127.0.0.1:7000"
    app = application(1, journal=journal, url=address)
    with Simulator(1, app, disk=SimDisk(1), journal_options=SMALL) as sim:
        waits, watches = sim.connect(address), sim.connect(address)
        waits.send(b"add 5\nlater\n")
        watches.send(b"watch\n")
        sim.run_until(lambda: waits.received == b"5\n" and watches.received == b"ok\n")
        upgrade(sim, application(2, journal=journal, url=address))
        sim.run(61.0)
        assert (waits.received, watches.received) == (b"5\n5\n", b"ok\n5\n")


def upgrade(sim: Simulator, app: Application) -> None:
    """Until it is over."""
    answers: list[Any] = []
    wish = Wish(Release(app, upgrades=sim.node.app.version), [])
    sim.node.releases.begin(wish, lambda *answer: answers.append(answer))
    sim.run_until(lambda: bool(answers))
    assert answers[0][1] is None


def take_back(sim: Simulator) -> None:
    """The same for the way back."""
    answers: list[Any] = []
    sim.node.releases.begin_rollback(None, lambda *answer: answers.append(answer))
    sim.run_until(lambda: bool(answers))
    assert answers[0][1] is None


def test_what_waits_in_the_mailbox_meets_the_new_code_in_its_own_words(journal: bool) -> None:
    address = "tcp://127.0.0.1:7000"
    more: Any = {"journal": journal, "url": address, "overflow": "reject"}
    with Simulator(1, application(1, **more), disk=SimDisk(1), journal_options=SMALL) as sim:
        client = sim.connect(address)
        client.send(b"add 1\n")
        sim.run_until(lambda: client.received == b"1\n")
        sim.node.sys.suspend("a")
        client.send(b"add 2\nadd 3\n")
        sim.run(1.0)
        assert sim.node.sys.get_status("a").mailbox == 2
        upgrade(sim, application(2, **more))
        sim.node.sys.resume("a")
        sim.run(1.0)
        assert client.received == b"1\n3\n6\n"


def test_an_input_that_has_no_way_up_is_told_and_nobody_crashes(
    begin: Callable[..., Any], journal: bool
) -> None:
    node = begin()

    def raising(text: str) -> str:
        raise ValueError("no such word any more")

    bridge: Bridge[str, str, str, str] = Bridge(raising, TO_TWO.down_output)
    with dial(node) as old:
        ask(old, "add 1", "1")
        newer = application(2, journal=journal, bridges={1: bridge})
        node.releases.upgrade(newer, from_version="1")
        old.sendall(b"add 2\n")
        assert b"no such word any more" in old.recv(4096)
        with dial(node) as new:
            ask(new, "add 1 EUR", "EUR 2")


def test_an_output_that_has_no_way_down_takes_the_release_back(
    begin: Callable[..., Any], journal: bool
) -> None:
    """It is a crash like that of an output which the protocol cannot write."""
    node = begin()

    def raising(text: str) -> str:
        raise ValueError("not for you")

    bridge: Bridge[str, str, str, str] = Bridge(TO_TWO.up_input, raising)
    with dial(node) as old:
        ask(old, "add 1", "1")
        newer = application(2, journal=journal, bridges={1: bridge})
        node.releases.upgrade(newer, from_version="1", crashes=1)
        old.sendall(b"add 2\n")
        old.recv(4096)
        while node.app.version != "1":
            assert node.health() is not None  # a turn of the loop
        total = int(node.call("a", "add 0"))
        ask(old, "add 1", str(total + 1))


def test_without_a_bridge_the_release_is_refused(begin: Callable[..., Any], journal: bool) -> None:
    node = begin()
    with dial(node) as old:
        ask(old, "add 1", "1")
        with pytest.raises(UpgradeRefused, match="speaks version 1 of its messages, and the new"):
            node.releases.upgrade(application(2, journal=journal, bridges={}), from_version="1")
        ask(old, "add 1", "2")


def test_a_bridge_may_go_with_its_last_client(begin: Callable[..., Any], journal: bool) -> None:
    node = begin()
    three = application(3, journal=journal, bridges={2: TO_THREE})
    with dial(node) as old:
        ask(old, "add 1", "1")
        node.releases.upgrade(application(2, journal=journal), from_version="1")
        with pytest.raises(UpgradeRefused, match="1 connection speaks version 1"):
            node.releases.upgrade(three, from_version="2")
        ask(old, "add 1", "2")
    while node.releases.status()["listeners"][0]["spoken"] != [(2, 0)]:
        assert node.app.version == "2"
    node.releases.upgrade(three, from_version="2")
    assert node.call("a", "PUT 1 EUR") == "= EUR 3"


def test_on_the_way_back_newer_clients_end_behind_their_answers(
    begin: Callable[..., Any], journal: bool
) -> None:
    node = begin()
    with dial(node) as old:
        ask(old, "add 1", "1")
        node.releases.upgrade(application(2, journal=journal), from_version="1")
        with dial(node) as new:
            ask(new, "add 1 EUR", "EUR 2")
            assert node.releases.rollback().ended == 1
            assert receive_all(new) == b""
        ask(old, "add 1", "3")


def test_what_newer_clients_are_owed_on_the_way_back_crashes_nobody(journal: bool) -> None:
    """They are told that it cannot be said any more, and hear nothing of what goes to all."""
    address = "tcp://127.0.0.1:7000"
    old = application(1, journal=journal, url=address)
    with Simulator(1, old, disk=SimDisk(1), journal_options=SMALL) as sim:
        upgrade(sim, application(2, journal=journal, url=address))
        client = sim.connect(address)
        client.send(b"watch\nlater\n")
        sim.run_until(lambda: client.received == b"ok\n")
        sim.run(1.0)
        take_back(sim)
        crashes = sim.node.loop.stats()["loop"]["crashes"]
        sim.run_until(lambda: client.state == "ended", within=70.0)
        assert b"version 2 is not spoken here any more" in client.received
        assert bytes(client.received).count(b"\n") == 2
        assert sim.node.loop.stats()["loop"]["crashes"] == crashes == 0


def test_with_inverse_functions_newer_clients_stay(
    begin: Callable[..., Any], journal: bool
) -> None:
    node = begin()
    newer = application(2, journal=journal, bridges={1: AND_BACK})
    with dial(node) as old:
        ask(old, "add 1", "1")
        for _ in range(2):
            node.releases.upgrade(newer, from_version="1")
            with dial(node) as new:
                total = int(node.call("a", "add 0 EUR").removeprefix("EUR "))
                ask(new, "add 1 EUR", f"EUR {total + 1}")
                assert node.releases.rollback().ended == 0
                ask(new, "add 1 EUR", f"EUR {total + 2}")
                ask(old, "add 1", str(total + 3))


class Named(Protocol):
    """Lines, of which some are several commands with a name."""

    framing = Lines("utf-8")

    def decode(self, text: Any) -> Any:
        if not text.startswith("once "):
            return text
        return Once("client", 1, Together(text.removeprefix("once ").split(",")))

    def encode(self, output: Any) -> Any:
        return str(output)

    def encode_error(self, error: Any) -> Any:
        return f"error: {error}"


def test_a_repetition_of_several_commands_hears_what_the_first_heard(
    start: Callable[..., Any], tmp_path: Path, journal: bool
) -> None:
    speaks = Speaks(2, {1: TO_TWO}, assumed=1)
    app = Application(
        "adder",
        Supervisor("one_for_one", [Worker("a", Two, journal=journal)]),
        listeners=[Listener(URL, Named(), to="a", speaks=speaks)],
    )
    node = start(app, data=tmp_path / "data", journal_options=SMALL)
    with dial(node) as client:
        for _ in range(2):
            ask(client, "once add 1,add 2", "['1', '3']")


class NamedAlone(Named):
    """Each `once ` is one command."""

    def decode(self, text: Any) -> Any:
        found = super().decode(text)
        return found if found is text else Once("client", 1, found.request.commands[0])


def named(version: int, journal: bool, down_output: Any) -> Application:
    to_two: Bridge[str, str, str, str] = Bridge(TO_TWO.up_input, down_output)
    speaks = Speaks(version, {1: to_two} if version == 2 else None)
    return Application(
        "adder",
        Supervisor("one_for_one", [Worker("a", KINDS[version], journal=journal)]),
        version=str(version),
        listeners=[Listener(URL, NamedAlone(), to="a", speaks=speaks)],
    )


@pytest.mark.parametrize("is_strict", [False, True])
def test_a_repetition_after_an_upgrade_hears_the_reply_of_then(
    start: Callable[..., Any], tmp_path: Path, journal: bool, is_strict: bool
) -> None:
    """The bridge gets it as the old code gave it; one that does not take it hurts nobody else."""
    down_output = (lambda text: text.split()[1]) if is_strict else TO_TWO.down_output
    data = tmp_path / "data"
    node = start(named(1, journal, down_output), data=data, journal_options=SMALL)
    with dial(node) as old:
        ask(old, "once add 3", "3")
        node.releases.upgrade(named(2, journal, down_output), from_version="1")
        with dial(node) as new:
            ask(new, "once add 3 EUR", "3")
        old.sendall(b"once add 3\n")
        answer = receive(old, 2) if not is_strict else receive(old, 6)
        assert answer == (b"error:" if is_strict else b"3\n")
        assert node.whereis("a") == 1 and node.call("a", "tell") == "EUR 3"


def test_clients_that_declare_a_version(serve_two: Callable[..., Any]) -> None:
    node = serve_two(declares=lambda text: int(text[1:]) if text.startswith("v") else None)
    with dial(node) as client:
        ask(client, "add 1 EUR", "EUR 1")
        client.sendall(b"v7\n")
        assert b"version 7 is not spoken here; 1 to 2 are" in client.recv(4096)
        ask(client, "v1", "hello")
        ask(client, "add 1", "2")
        ask(client, "v2", "hello")
        ask(client, "add 1 EUR", "EUR 3")


def test_clients_that_declare_nothing_are_taken_for_old_ones(
    serve_two: Callable[..., Any],
) -> None:
    node = serve_two(assumed=1)
    with dial(node) as client:
        ask(client, "add 1", "1")
        assert dict(node.releases.status()["listeners"][0]["spoken"])[1] == 1


class Polite(Two):
    """Greets who declares a version."""

    def step(self, command: str, totals: Any) -> Any:
        if command.startswith("v"):
            return totals, "hello"
        return super().step(command, totals)


@pytest.fixture
def serve_two(start: Callable[..., Any], tmp_path: Path, journal: bool) -> Callable[..., Any]:
    def serve(**more: Any) -> Any:
        speaks = Speaks(2, {1: TO_TWO}, **more)
        app = Application(
            "adder",
            Supervisor("one_for_one", [Worker("a", Polite, journal=journal)]),
            listeners=[Listener(URL, Lines("utf-8"), to="a", speaks=speaks)],
        )
        return start(app, data=tmp_path / "data", journal_options=SMALL)

    return serve
