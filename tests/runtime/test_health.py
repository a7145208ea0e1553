"""How a node says that it is well: each reason comes, and goes by itself or when it is mended."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, Backoff, GenServer, Listener, Supervisor, Worker
from pybehave.errors import Crashed, DurabilityLost, SpecError
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines
from pybehave.runtime.durable.events import SnapshotRejected, SnapshotSaved
from pybehave.runtime.health import (
    CHILDREN_SHOWN,
    REASONS_MAX,
    Health,
    HealthChanged,
    HealthLimits,
    Reason,
)
from pybehave.runtime.node import Node
from pybehave.runtime.watchdog import StepTooLong
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import dial
from tests.runtime.work import until

OPTIONS = Options(segment_bytes=64 << 10)
FOREVER = Backoff(first=3600.0, maximum=3600.0, jitter="none")


class Fragile(GenServer[Any, Any, Any]):
    def init(self, args: Any) -> Any:
        return []

    def step(self, command: Any, state: Any) -> Any:
        if command == "break":
            raise ValueError("a deliberate bug")
        if isinstance(command, threading.Event):
            command.wait(60)
        return state, command


def tree(*names: str, **fields: Any) -> Supervisor:
    options = {"intensity": 1000, **fields.pop("supervisor", {})}
    return Supervisor("one_for_one", [Worker(n, Fragile, **fields) for n in names], **options)


def world(spec: Supervisor, *, disk: SimDisk | None = None, **limits: Any) -> Simulator:
    app = Application("t", spec, listeners=[Listener("tcp://10.0.0.1:7", Lines("utf-8"), to="a")])
    options: Any = {"health": HealthLimits(**limits)}
    return Simulator(1, app, disk=disk, journal_options=OPTIONS, **options)


def reasons(found: Health) -> dict[str, Reason]:
    return {reason.what: reason for reason in found.reasons}


def fail(node: Any, name: str, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(Crashed):
            node.call(name, "break")


# --- crashes and restarts -------------------------------------------------------------------------


def test_a_node_is_well_to_begin_with() -> None:
    with world(tree("a")) as sim:
        assert sim.node.health() == Health("ok")
        assert str(sim.node.health()) == "ok"


def test_a_crash_degrades_and_is_outlived() -> None:
    with world(tree("a")) as sim:
        fail(sim.node, "a", 2)
        found = sim.node.health()
        assert (found.status, found.is_ready, found.is_live) == ("degraded", True, True)
        (reason,) = found.reasons
        assert (reason.what, reason.where, reason.count) == ("crashes", "root/a", 2)
        assert str(found) == "degraded: root/a has failed twice, the last time with ValueError"
        sim.run(59)
        assert sim.node.health().status == "degraded"
        sim.run(2)
        assert sim.node.health().status == "ok"


def test_a_server_that_fails_on_and_on_is_failing() -> None:
    with world(tree("a"), failing_after=100.0) as sim:
        for _ in range(3):
            fail(sim.node, "a")
            assert sim.node.health().status == "degraded"
            sim.run(49)
        fail(sim.node, "a")
        found = sim.node.health()
        assert (found.status, found.reasons[0].count, found.is_ready) == ("failing", 4, True)


def test_a_child_that_waits_for_its_restart_is_down_until_it_is_back() -> None:
    with world(tree("a", "b", backoff=FOREVER)) as sim:
        fail(sim.node, "a")
        assert reasons(sim.node.health())["down"].where == "root/a"
        sim.run(600)
        found = reasons(sim.node.health())
        assert found["down"].level == "failing"
        assert found["down"].seconds >= 600
        sim.run(3001)
        assert sim.node.health().status == "ok"


def test_many_children_that_fail_are_one_reason() -> None:
    names = [f"w{number}" for number in range(CHILDREN_SHOWN + 1)]
    with world(tree("a", *names)) as sim:
        for name in names[1:]:
            fail(sim.node, name)
        assert len(sim.node.health().reasons) == CHILDREN_SHOWN
        fail(sim.node, names[0], 2)
        (reason,) = sim.node.health().reasons
        assert (reason.where, reason.count) == ("root", CHILDREN_SHOWN + 2)
        assert reason.text == "6 children of root have failed, 7 times in all"


def test_a_supervisor_that_gives_up_is_named() -> None:
    below = tree("b", supervisor={"intensity": 0, "id": "below"})
    spec = Supervisor("one_for_one", [Worker("a", Fragile), below], intensity=9)
    with world(spec) as sim:
        fail(sim.node, "b")
        found = reasons(sim.node.health())
        assert found["gave_up"].where == "root/below"
        assert found["crashes"].count == 1
        sim.run(61)
        assert sim.node.health().status == "ok"


def test_a_supervisor_that_pauses_is_named_until_it_goes_on() -> None:
    pause = Backoff(first=90.0, maximum=90.0, jitter="none")
    with world(tree("a", "b", supervisor={"intensity": 0, "backoff": pause})) as sim:
        fail(sim.node, "b")
        sim.run(30)
        found = reasons(sim.node.health())["paused"]
        assert (found.where, found.count, round(found.seconds)) == ("root", 1, 30)
        sim.run(61)
        assert "paused" not in reasons(sim.node.health())


def test_an_application_that_has_gone_is_missed_until_it_runs_again() -> None:
    other = Application("other", tree("o", supervisor={"intensity": 0}))
    with world(tree("a")) as sim:
        sim.node.start_application(other)
        fail(sim.node, "o")
        sim.run(61)
        reason = reasons(sim.node.health())["application_ended"]
        assert (reason.level, reason.where) == ("failing", "other")
        sim.node.start_application(other)
        assert sim.node.health().status == "ok"


# --- load -----------------------------------------------------------------------------------------


def test_mailboxes_that_fill_and_overflow_are_told() -> None:
    with world(tree("a", "b", mailbox=10, overflow="reject")) as sim:
        node = sim.node
        for number in range(9):
            node.cast("b", number)
        assert reasons(node.health())["mailbox"].count == 9
        for number in range(2):
            node.cast("b", number)
        found = reasons(node.health())
        assert (found["mailbox"].where, found["mailbox"].count) == ("b", 10)
        sim.run(1)
        left = reasons(node.health())
        assert "mailbox" not in left and left["overloaded"].count == 1
        sim.run(61)
        assert node.health().status == "ok"


@pytest.mark.parametrize(("count", "is_told"), [(4, False), (5, True), (6, True)])
def test_a_mailbox_is_told_from_its_share_on(count: int, is_told: bool) -> None:
    with world(tree("a", mailbox=10), mailbox_share=0.5) as sim:
        for number in range(count):
            sim.node.cast("a", number)
        assert ("mailbox" in reasons(sim.node.health())) == is_told


def test_suspended_servers_are_not_forgotten() -> None:
    with world(tree("a")) as sim:
        sim.node.sys.suspend("a")
        assert reasons(sim.node.health())["suspended"].count == 1
        sim.node.sys.resume("a")
        assert sim.node.health().status == "ok"


def test_connections_that_cannot_be_accepted_are_counted() -> None:
    with world(tree("a")) as sim:
        sim.network.set(accept_failure=1000)
        sim.connect()
        sim.run(1)
        assert reasons(sim.node.health())["accept_errors"].count >= 1


def test_connections_over_the_limit_are_counted(serve: Callable[..., Any]) -> None:
    node = serve(Fragile, Lines("utf-8"), connections_max=1)
    with dial(node), dial(node):
        until(lambda: node.stats()["loop"]["refused"])
        found = reasons(node.health())["refused"]
    assert found.count >= 1 and "connections_max" in found.text


def test_steps_over_their_budget_are_told() -> None:
    with world(tree("a")) as sim:
        sim.node.events.hand_on(StepTooLong("", "a", "step", 0.75, ""))
        reason = reasons(sim.node.health())["steps"]
        assert (reason.where, reason.count) == ("a", 1)
        assert "0.75 s" in reason.text


# --- the journal ----------------------------------------------------------------------------------


def test_an_input_that_is_put_aside_degrades_for_a_while() -> None:
    with world(tree("a", journal=True), disk=SimDisk()) as sim:
        fail(sim.node, "a")
        reason = reasons(sim.node.health())["quarantined"]
        assert (reason.where, reason.count) == ("a", 1)
        sim.run(61)
        assert sim.node.health().status == "ok"


def test_a_journal_that_cannot_be_written_is_not_live() -> None:
    disk = SimDisk()
    sim = world(tree("a", journal=True), disk=disk).start()
    disk.fail(errno.EIO, is_forever=True)
    with pytest.raises(DurabilityLost):
        sim.node.call("a", "x")
    found = sim.node.health()
    assert (found.status, found.is_ready, found.is_live) == ("failing", False, False)
    assert "Input/output error" in reasons(found)["journal_failed"].text
    sim.stop()


def test_a_disk_is_low_and_then_full() -> None:
    disk = SimDisk(room=400 << 10)
    with world(tree("a", journal=True), disk=disk, every=1.0, disk_segments=3) as sim:
        assert sim.node.health().status == "ok"
        disk.room = 200 << 10
        sim.run(2)
        assert reasons(sim.node.health())["disk_low"].where == disk.path
        while not sim.node.journal.commit.is_full:
            sim.node.call("a", "x" * 5000)
            sim.run(0.1)
        found = sim.node.health()
        assert (found.status, found.is_ready, found.is_live) == ("failing", False, True)
        assert "disk_full" in reasons(found)
        disk.room = None
        sim.run(5)
        assert sim.node.health().status == "ok"


def test_the_latest_snapshot_counts() -> None:
    with world(tree("a", journal=True), disk=SimDisk()) as sim:
        sim.node.events.hand_on(SnapshotRejected("", "", 7, "no process is left"))
        sim.run(600)
        reason = reasons(sim.node.health())["snapshots"]
        assert reason.text.endswith("no process is left") and reason.seconds >= 600
        sim.node.events.hand_on(SnapshotSaved("", "", 8))
        assert sim.node.health().status == "ok"


# --- telling --------------------------------------------------------------------------------------


def test_changes_are_told_to_hooks_and_looked_for_when_that_is_ordered() -> None:
    with world(tree("a"), every=5.0) as sim:
        heard: list[HealthChanged] = []
        sim.node.events.add(lambda e: heard.append(e) if isinstance(e, HealthChanged) else None)
        fail(sim.node, "a")
        assert heard == []
        sim.run(6)
        assert [(e.before, e.health.status) for e in heard] == [("ok", "degraded")]
        assert str(heard[0]).startswith("health was ok and is degraded: root/a has failed once")
        sim.run(66)
        assert [(e.before, e.health.status) for e in heard[1:]] == [("degraded", "ok")]


def test_nobody_looks_unless_that_is_ordered() -> None:
    with world(tree("a")) as sim:
        assert sim.node.stats()["timers"]["armed"] == 0


def test_systemd_hears_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        sim = world(tree("a", journal=True), disk=SimDisk(), every=5.0).start()
        assert notices.recv(500) == b"STATUS=ok"
        fail(sim.node, "a")
        sim.run(6)
        said = b"STATUS=degraded: an input of server 'a' became a dead letter once, at last lsn 4"
        assert notices.recv(500) == said + b" (and 1 more)"
        sim.node.events.hand_on(SnapshotRejected("", "", 7, "no\nSTOPPING=1"))
        sim.run(66)
        assert notices.recv(500).endswith(b"(and 2 more)")
        assert notices.recv(500).endswith(b"does not count: no STOPPING=1")
        sim.run(6)
        notices.setblocking(False)
        with pytest.raises(BlockingIOError):
            notices.recv(500)
        sim.stop()


def test_reasons_are_bounded_the_gravest_first() -> None:
    light = [Reason("steps", "degraded", str(n), 1, 0.0, "slow") for n in range(REASONS_MAX)]
    grave = Reason("disk_full", "failing", "", 1, 0.0, "full")
    found = Health.of([*light, grave])
    assert found.reasons[0] is grave
    assert (len(found.reasons), found.reasons_more) == (REASONS_MAX, 1)
    assert str(found) == f"failing: full (and {REASONS_MAX} more)"
    assert found.as_dict()["reasons"][0]["what"] == "disk_full"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("healthy_after", 0),
        ("failing_after", -1.0),
        ("mailbox_share", 1.5),
        ("disk_segments", -1),
        ("every", 0),
        ("every", "soon"),
    ],
)
def test_a_limit_that_is_none_is_one_sentence(field: str, value: Any) -> None:
    with pytest.raises(SpecError, match=f"{field}=.* is not allowed; use "):
        HealthLimits(**{field: value})


# --- on every source ------------------------------------------------------------------------------


@pytest.fixture
def node(start: Callable[..., Any], tmp_path: Path) -> Iterator[Any]:
    yield start(Application("t", tree("a", "b", journal=True)), data=tmp_path / "d")


def test_any_thread_may_ask(node: Any) -> None:
    assert node.health() == Health("ok")
    fail(node, "a", 3)
    found = reasons(node.health())
    assert (found["crashes"].count, found["quarantined"].count) == (3, 3)


def test_a_loop_that_is_held_up_is_not_live(node: Any) -> None:
    gate = threading.Event()
    thread = threading.Thread(target=lambda: node.call("b", 1, timeout=None))
    node.watch.failures.note("crashes", "b", 0.0)
    held = threading.Event()

    def hold_up() -> None:
        held.set()
        gate.wait(60)

    hold = threading.Thread(target=lambda: node.run_on_loop(hold_up))
    hold.start()
    thread.start()
    held.wait(60)
    found = node.health(timeout=0.05)
    gate.set()
    hold.join()
    thread.join()
    (reason,) = found.reasons
    assert (reason.what, found.is_ready, found.is_live) == ("loop_stuck", False, False)
    assert node.health().is_live


def test_a_server_that_holds_up_the_loop_is_named(start: Callable[..., Any]) -> None:
    node = start(Application("t", tree("a")))
    gate = threading.Event()
    thread = threading.Thread(target=lambda: node.call("a", gate, timeout=None))
    thread.start()
    until(lambda: node.loop.dispatcher.stepping() is not None)
    text = str(node.health(timeout=0.05))
    gate.set()
    thread.join()
    assert text == "failing: the loop has not answered for 0.05 s; server 'a' has it"


def test_before_and_after_its_life_a_node_is_not_ready(source: str) -> None:
    node = Node(Application("t", tree("a")), backend=source)
    assert (str(node.health()), node.health().is_ready) == (
        "failing: the node has not started yet",
        False,
    )
    node.start()
    assert node.health().is_ready
    node.stop()
    assert str(node.health()) == "failing: the node stops, or has stopped"
