"""Several applications in one node: order, start types, phases, environment, start and stop."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pybehave import NO_REPLY, Application, Callbacks, GenServer, Listener, Supervisor, Worker
from pybehave.actions import Stop
from pybehave.errors import (
    AlreadyStarted,
    ConfigError,
    NotFound,
    NotStarted,
    SpecError,
    StartFailed,
)
from pybehave.protocols import Lines
from pybehave.runtime import draining
from tests.power.machine import wait_for


class Told(GenServer[Any, Any, Any]):
    """Tells a list what happens to it."""

    def init(self, args: Any) -> Any:
        args.append(f"init {self.context.name}")
        if "refuse" in self.context.name:
            raise ValueError("a deliberate refusal")
        return args

    def step(self, command: Any, state: Any) -> Any:
        if command == "boom":
            raise ValueError("a deliberate bug")
        if isinstance(command, Stop):
            return state, None, command
        return state, command

    def terminate(self, reason: object, state: Any) -> None:
        state.append(f"terminate {self.context.name}")


class Noted(Callbacks):
    def __init__(self, name: str, log: list[str], failing: str = "") -> None:
        self.name, self.log, self.failing = name, log, failing

    def _note(self, what: str, node: Any) -> None:
        self.log.append(f"{what} {self.name}")
        if what == self.failing:
            raise ValueError("a deliberate failure")

    def start_phase(self, node: Any, phase: str) -> None:
        assert node.call(self.name, "ping") == "ping"
        self._note(phase, node)

    def prep_stop(self, node: Any) -> None:
        self._note("prep_stop", node)

    def stop(self, node: Any) -> None:
        self._note("stop", node)

    def config_change(self, node: Any, changed: Any, new: Any, removed: Any) -> None:
        self.log.append(f"config_change {self.name} {changed} {new} {removed}")


def make(name: str, log: list[str], *, failing: str = "", **options: Any) -> Application:
    tree = options.pop("tree", None) or Supervisor("one_for_one", [Worker(name, Told, log)])
    return Application(name, tree, callbacks=Noted(name, log, failing), **options)


def test_what_an_application_depends_on_is_started_before_and_stopped_after_it(
    start: Callable[..., Any],
) -> None:
    log: list[str] = []
    base = make("base", log)
    left, right = make("left", log, depends=[base]), make("right", log, depends=[base])
    node = start(make("top", log, depends=[left, right], phases=["go"]))
    assert log == ["init base", "init left", "init right", "init top", "go top"]
    assert node.which_applications() == [
        (name, "0", "permanent") for name in ("base", "left", "right", "top")
    ]
    assert node.which_children("left")[0].id == "left"
    assert node.which_children("root")[0].id == "top"
    log.clear()
    node.stop()
    assert log == [
        f"{what} {name}"
        for name in ("top", "right", "left", "base")
        for what in ("prep_stop", "terminate", "stop")
    ]


def test_a_start_that_fails_stops_what_it_had_started(start: Callable[..., Any]) -> None:
    log: list[str] = []
    base = make("base", log)
    with pytest.raises(StartFailed, match="refuse"):
        start(make("refuse", log, depends=[base]))
    assert log == ["init base", "init refuse", "prep_stop base", "terminate base", "stop base"]


def test_phases_run_over_the_included_ones_that_name_them(start: Callable[..., Any]) -> None:
    log: list[str] = []
    deep = make("deep", log, phases=["one", "two"])
    inside = make("inside", log, phases=["two", "unheard"], included=[deep])
    node = start(make("top", log, phases=["one", "two"], included=[inside]))
    assert log[3:] == ["one top", "one deep", "two top", "two inside", "two deep"]
    assert [name for name, _, _ in node.which_applications()] == ["top"]
    assert {info.id for info in node.which_children("root")} == {"top", "inside"}
    node.stop()
    assert [line for line in log if "stop" in line] == ["prep_stop top", "stop top"]


def test_a_phase_that_fails_ends_the_start(start: Callable[..., Any]) -> None:
    log: list[str] = []
    with pytest.raises(StartFailed, match=r"Application 'top' .* start phase 'go' failed with Val"):
        start(make("top", log, phases=["go"], failing="go"))
    assert log == ["init top", "go top", "prep_stop top", "terminate top", "stop top"]


def test_applications_start_and_stop_while_the_node_runs(start: Callable[..., Any]) -> None:
    log: list[str] = []
    node = start(make("top", log))
    base = make("base", log)
    other = make("other", log, depends=[base], phases=["go"])
    assert node.start_application(other) == ["base", "other"]
    assert node.call("other", 1) == 1
    with pytest.raises(AlreadyStarted, match="Application 'other' runs already; stop it first"):
        node.start_application(other)
    with pytest.raises(SpecError, match="app='other' is not allowed; use an Application"):
        node.start_application("other")
    assert node.start_application(make("third", log, depends=[base])) == ["third"]
    node.stop_application("base")  # others depend on it: allowed, and warned of
    assert sorted(node.names()) == ["other", "third", "top"]
    node.stop_application("other")
    with pytest.raises(NotStarted, match="'other' does not run"):
        node.stop_application("other")
    with pytest.raises(NotFound):
        node.which_children("other")
    assert [name for name, _, _ in node.which_applications()] == ["top", "third"]
    assert node.start_application(other) == ["base", "other"]


def test_a_start_at_run_time_that_fails_leaves_the_others(start: Callable[..., Any]) -> None:
    log: list[str] = []
    node = start(make("top", log))
    with pytest.raises(StartFailed):
        node.start_application(make("refuse", log, depends=[make("base", log)]))
    assert [name for name, _, _ in node.which_applications()] == ["top"]
    assert node.call("top", 1) == 1
    with pytest.raises(SpecError, match="start_type='odd'"):
        node.start_application(make("x", log), "odd")


@pytest.mark.parametrize(
    ("start_type", "is_end"), [("temporary", False), ("transient", True), ("permanent", True)]
)
def test_what_a_tree_that_gives_up_means_for_the_node(
    start: Callable[..., Any], start_type: str, is_end: bool
) -> None:
    log: list[str] = []
    node = start(make("top", log))
    node.start_application(make("other", log), start_type)
    log.clear()
    for incarnation in (1, 2):
        wait_for(lambda: node.whereis("other") == incarnation, "it runs")  # noqa: B023
        node.cast("other", "boom")
    wait_for(lambda: "stop other" in log, "it gives up")
    ends = [line for line in log if line in ("prep_stop other", "stop other")]
    assert ends == ["prep_stop other", "stop other"]
    if is_end:
        wait_for(lambda: "stop top" in log, "the node ends")
        node.stop()
        assert node.exit_status == 1
    else:
        assert [name for name, _, _ in node.which_applications()] == ["top"]
        assert node.stop() == 0


def test_an_application_brings_its_listeners_and_takes_them_away(
    start: Callable[..., Any],
) -> None:
    log: list[str] = []
    node = start(make("top", log))
    listener = Listener("tcp://127.0.0.1:0", Lines(), to="other")
    node.start_application(make("other", log, listeners=[listener]))
    port = int(node.urls[0].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"hello\n")
        assert client.recv(100) == b"hello\n"
        node.stop_application("other")
        assert client.recv(100) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)
    assert node.call("top", 1) == 1


class Putting(Told):
    """Never answers a line."""

    def handle_call(self, request: Any, caller: Any, state: Any) -> Any:
        return state, NO_REPLY


class Busy:
    """A loop with one server that never takes what waits for it; its time is the test's."""

    name, mailbox_count = "busy", 1

    def __init__(self) -> None:
        self.time = 0.0
        self.alarms: list[tuple[float, Callable[[], None]]] = []
        self.dispatcher = self

    def now(self) -> float:
        return self.time

    def in_turn(self, _name: str, _then: Callable[[], None]) -> None:
        """It has none."""

    def start_alarm(self, seconds: float, then: Callable[[], None]) -> None:
        self.alarms.append((self.time + seconds, then))

    def run(self) -> None:
        self.time, then = self.alarms.pop(0)
        then()


@pytest.mark.parametrize(("called_off_s", "at_most_s"), [(60.0, 10.0), (2.0, 2.2), (0.0, 0.2)])
def test_a_stop_at_once_ends_a_drain_that_waits_for_servers(
    called_off_s: float, at_most_s: float
) -> None:
    """INT behind TERM waited for the whole `drain_timeout`."""
    loop: Any = Busy()
    ended: list[float] = []
    draining.after_waiting(
        loop, [loop], 10.0, lambda: loop.time < called_off_s, lambda: ended.append(loop.time)
    )
    while loop.alarms:
        loop.run()
    assert len(ended) == 1
    assert min(called_off_s, 10.0) <= ended[0] <= at_most_s


def test_a_node_that_stops_ends_a_stop_that_waits_for_connections(
    start: Callable[..., Any],
) -> None:
    log: list[str] = []
    node = start(make("top", log), drain_timeout=60.0)
    tree = Supervisor("one_for_one", [Worker("other", Putting, log)])
    listener = Listener("tcp://127.0.0.1:0", Lines(), to="other")
    node.start_application(make("other", log, tree=tree, listeners=[listener]))
    port = int(node.urls[0].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"hello\n")
        wait_for(lambda: node.stats()["servers"]["other"]["callers"] == 1, "it came")
        stopping = threading.Thread(target=node.stop_application, args=("other",))
        stopping.start()
        wait_for(lambda: node.urls == (), "it accepts no more")
        node.stop(drain=False)
        stopping.join(10)
        assert not stopping.is_alive()
    assert [line for line in log if line in ("prep_stop other", "stop other")] == [
        "prep_stop other", "stop other",
    ]  # fmt: skip


class Env(msgspec.Struct, frozen=True):
    limit: int = 1
    words: tuple[str, ...] = ()


def test_an_environment_can_be_set_before_and_while_it_runs(start: Callable[..., Any]) -> None:
    log: list[str] = []
    trees = lambda env: Supervisor("one_for_one", [Worker("top", Told, log)])  # noqa: E731
    app = make("top", log, tree=trees, env=Env)
    node = start(app, config={"top": {"limit": 5}})
    assert node.env("top") == Env(5)
    node.configure({"top": {"words": ["a"]}})
    assert node.env("top") == Env(5, ("a",))
    assert log[-1] == "config_change top {'words': ('a',)} {} []"
    count = len(log)
    node.configure({"top": {"words": ["a"]}})
    assert len(log) == count
    with pytest.raises(ConfigError, match=r"top\.limit: Expected `int`"):
        node.configure({"top": {"limit": "x"}})
    with pytest.raises(NotStarted):
        node.configure({"nobody": {"limit": 1}})
    assert node.env("top") == Env(5, ("a",))


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (["same"], "two different applications have this name"),
        (["taken"], "name='shared' is taken by a worker of application 'taken'"),
    ],
)
def test_names_are_unique_in_a_node(others: list[str], said: str) -> None:
    log: list[str] = []
    shared = Supervisor("one_for_one", [Worker("shared", Told, log)])
    if others == ["same"]:
        inner = make("mid", log, depends=[make("top", log)])
        with pytest.raises(SpecError, match="it depends on itself: top -> mid -> top"):
            make("top", log, depends=[inner]).start(backend="epoll")
        apps = [make("same", log), make("same", [*log, "x"])]
    else:
        apps = [make("taken", log, tree=shared)]
    with pytest.raises(SpecError, match=said):
        make("top", log, tree=shared, depends=apps).start(backend="epoll")


def test_an_optional_application_is_started_if_it_is_there(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "is_there_too.py").write_text(
        "from pybehave import Application, GenServer, Supervisor, Worker\n"
        "app = Application('extra', Supervisor('one_for_one', [Worker('extra', GenServer)]))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    log: list[str] = []
    node = start(make("top", log, optional=["not_there_at_all:app", "is_there_too:app"]))
    assert node.names() == ["extra", "top"]
    with pytest.raises(SpecError, match="has no application 'nothing'"):
        start(make("top", log, optional=["is_there_too:nothing"]))
    for wrong in ("is_there_too", ":app", "is-there:app", "is_there_too:"):
        with pytest.raises(SpecError, match="use MODULE:APP"):
            make("top", log, optional=[wrong])


def test_a_journaled_worker_is_not_taken_where_no_journal_is_kept(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    log: list[str] = []
    node = start(make("top", log), data=tmp_path / "data")
    with pytest.raises(StartFailed, match="it keeps no journal; start the node with this worker"):
        node.start_child("root", Worker("late", Told, log, journal=True))


def test_journaled_applications_share_the_nodes_journal(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    class Sum(GenServer[int, int, int]):
        def step(self, command: int, state: int) -> tuple[int, int]:
            return state + command, state + command

    def app(name: str, *depends: Application) -> Application:
        tree = Supervisor("one_for_one", [Worker(name, Sum, 0, journal=True)])
        return Application(name, tree, depends=depends)

    node = start(app("top", app("base")), data=tmp_path / "data")
    assert (node.call("top", 1), node.call("base", 10)) == (1, 10)
    node.start_application(app("late"))
    assert node.call("late", 100) == 100
    node.stop_application("late")
    node.start_application(app("late"))
    assert node.call("late", 100) == 200
    node.stop()
    node = start(app("top", app("base")), data=tmp_path / "data")
    node.start_application(app("late"))
    assert [node.call(name, 0) for name in ("top", "base", "late")] == [1, 10, 200]
