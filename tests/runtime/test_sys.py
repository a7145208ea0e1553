"""System requests: servers are looked at, held, watched and changed while they run."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pybehave import (
    NO_REPLY,
    Application,
    EventHandler,
    GenEvent,
    GenServer,
    GenStatem,
    Listener,
    Supervisor,
    Worker,
    events,
    statem,
)
from pybehave.actions import Call, Cast, Continue, Opened, Reply, StartTimer, Stop
from pybehave.errors import (
    CallbackFailed,
    CalledInCallback,
    Crashed,
    NoProc,
    Overloaded,
    Suspended,
    Timeout,
)
from pybehave.protocols import Lines
from pybehave.runtime.debug import DONE
from pybehave.statem import KeepStateAndData, NextState, Postpone, PushCallbackModule
from tests.conftest import dial, receive, receive_all, until
from tests.power.machine import wait_for


class Log(GenServer[list[Any], Any, Any]):
    """Keeps what comes; a command that is a function is called with the server and its state."""

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        if callable(command):
            return command(self, state)
        if command == b"later" and self.context.caller is not None:  # it is kept, not answered
            return state, NO_REPLY
        state.append(command)
        return state, command

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        if not isinstance(message, Opened):
            state.append(message)
        return state, None

    def handle_continue(self, term: Any, state: list[Any]) -> Any:
        state.append(term)
        return state, None

    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        return {**status, "state": f"{len(status['state'])} hidden"}


class Door(GenStatem):
    def init(self, args: Any) -> Any:
        return "shut", 0

    def shut(self, kind: Any, content: Any, data: int) -> Any:
        return NextState("open", data + 1, Reply(kind[1], data + 1))

    def open(self, kind: Any, content: Any, data: int) -> Any:
        return NextState("shut", data, Reply(kind[1], data))


class Count(EventHandler):
    def init(self, args: Any) -> Any:
        return args

    def handle_event(self, event: Any, state: Any) -> Any:
        return state + 1


def application(**options: Any) -> Application:
    tree = Supervisor(
        "one_for_one",
        [
            Worker("a", Log, **options),
            Worker("b", Log),
            Worker("door", Door),
            Worker("bus", GenEvent, [events.add_handler(Count, 5)]),
        ],
        intensity=1000,
    )
    return Application(
        "looked at", tree, listeners=[Listener("tcp://127.0.0.1:0", Lines(), to="a")]
    )


@pytest.fixture
def node(start: Any) -> Any:
    return start(application())


def in_thread(function: Any) -> tuple[threading.Thread, list[Any]]:
    """Call a function on a thread of its own; what it returned or raised comes into the list."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(function())
        except Exception as error:  # noqa: BLE001 -- the test looks at it
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def waiting(node: Any, count: int, name: str = "a") -> None:
    until(node, lambda: node.loop.dispatcher.whereis(name).mailbox_count == count)


# --- looking --------------------------------------------------------------------------------------


def test_get_state_is_what_the_servers_own_code_knows(node: Any) -> None:
    node.call("a", "x")
    node.call("door", "push")
    assert node.sys.get_state("a") == ["x"]
    assert node.sys.get_state("door") == ("open", 1)
    assert node.get_state("door") == ("open", 1)
    [(_, count)] = node.sys.get_state("bus")
    assert count == 5


def test_a_request_to_nobody_says_so(node: Any) -> None:
    for request in (node.sys.get_state, node.sys.get_status, node.sys.suspend, node.sys.log):
        with pytest.raises(NoProc):
            request("nobody")


def test_the_status_is_shaped_by_format_status_and_says_where_the_server_stands(node: Any) -> None:
    node.call("a", "x")
    status = node.sys.get_status("a")
    assert (status.mode, status.path, status.incarnation) == ("running", "root/a", 1)
    assert (status.state, status.inputs, status.overflow) == ("1 hidden", 1, "block")
    assert status.kind.endswith(":Log")
    assert not status.is_journaled


def test_the_status_of_a_machine_has_what_it_holds(start: Callable[..., Any]) -> None:
    class Busy(GenStatem):
        def init(self, args: Any) -> Any:
            return "busy", 0, [statem.Timeout("late", 60, "look"), PushCallbackModule(Door)]

        def busy(self, kind: Any, content: Any, data: int) -> Any:
            raise ValueError("the pushed module is asked")

        def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
            return {**status, "message": "***"} if status.get("message") == "secret" else status

    class Door(Busy):
        def busy(self, kind: Any, content: Any, data: int) -> Any:
            if content == "crash":
                raise ValueError("a deliberate bug")
            return KeepStateAndData(Postpone())

    tree = Supervisor("one_for_one", [Worker("busy", Busy), Worker("a", Log)])
    node = start(Application("busy", tree))
    assert node.sys.get_status("a").machine is None
    node.cast("busy", "first")
    node.cast("busy", "secret")
    wait_for(lambda: node.sys.get_status("busy").inputs == 2, "both were taken")
    held = node.sys.get_status("busy").machine
    node.cast("busy", "crash")
    assert held.postponed == (("cast", "first"), ("cast", "***"))
    assert held.timeouts == {("timeout", "late"): "look"}
    assert [name.rpartition(".")[2] for name in held.modules] == ["Busy", "Door"]
    wait_for(node.crashes, "it has crashed")
    report = node.crashes()[-1]
    assert report.machine() == held
    assert "with 2 postponed in state" in str(report)
    assert report.as_dict()["machine"]["postponed"] == ["'cast' 'first'", "'cast' '***'"]
    assert node.sys.get_status("busy").machine.postponed == ()


class Upper(GenStatem):
    """A callback module whose states are no methods, on top of a machine whose states are."""

    def handle_event(self, kind: Any, content: Any, state: Any, data: Any) -> Any:
        if content == "crash":
            raise ValueError("asked to")
        return NextState(("sub", 1), data, Reply(kind[1], state))

    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        return dict.fromkeys(status, "the upper one's")


class Lower(GenStatem):
    def init(self, args: Any) -> Any:
        return "one", 0

    def one(self, kind: Any, content: Any, data: int) -> Any:
        return statem.KeepStateAndData([PushCallbackModule(Upper), Reply(kind[1], "pushed")])

    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        return dict.fromkeys(status, "the lower one's")


def test_a_machines_current_module_checks_its_state_and_shapes_what_is_shown(start: Any) -> None:
    node = start(Application("stack", Supervisor("one_for_one", [Worker("m", Lower)])))
    assert node.sys.get_status("m").state == "the lower one's"
    node.call("m", "push")
    node.call("m", "go")
    assert node.sys.replace_state("m", lambda shown: shown) == (("sub", 1), 0)
    assert node.sys.get_status("m").state == "the upper one's"
    with pytest.raises(Crashed):
        node.call("m", "crash")
    assert node.crashes()[-1].status()["state"] == "the upper one's"


def test_requests_work_on_the_loops_own_thread_between_inputs(node: Any) -> None:
    def look() -> Any:
        node.sys.suspend("a")
        return node.sys.get_status("a").mode

    assert node.run_on_loop(look) == "suspended"


def test_from_within_a_callback_one_may_look_but_not_change(node: Any) -> None:
    def look(_self: Any, state: Any) -> Any:
        return state, node.sys.get_state("b")

    def change(_self: Any, state: Any) -> Any:
        node.sys.suspend("b")
        return state, None

    assert node.call("a", look) == []
    with pytest.raises(Crashed) as caught:
        node.call("a", change)
    assert isinstance(caught.value.reason, CalledInCallback)
    assert node.sys.get_status("b").mode == "running"


# --- holding --------------------------------------------------------------------------------------


def test_suspended_inputs_wait_and_come_in_their_order(node: Any) -> None:
    node.sys.suspend("a")
    callers = []
    for index in range(5):
        callers.append(in_thread(lambda index=index: node.call("a", index)))
        waiting(node, 2 * index + 1)
        node.cast("a", f"cast {index}")
        waiting(node, 2 * index + 2)
    assert node.sys.get_state("a") == []
    node.sys.resume("a")
    for thread, _ in callers:
        thread.join()
    assert [outcome for _, outcome in callers] == [[0], [1], [2], [3], [4]]
    node.call("a", "last")
    assert node.sys.get_state("a") == [x for i in range(5) for x in (i, f"cast {i}")] + ["last"]


def test_a_connection_waits_for_a_suspended_server_and_overtakes_nobody(node: Any) -> None:
    with dial(node) as client:
        client.sendall(b"1\n")
        assert receive(client, 2) == b"1\n"
        node.sys.suspend("a")
        client.sendall(b"2\n3\n")
        until(node, lambda: node.loop.stats()["connections"]["pauses"] == 1)
        for index in range(200):  # more than one round of a mailbox
            node.cast("a", index)
        waiting(node, 200)
        with dial(node) as second:
            second.sendall(b"4\n")
            until(node, lambda: node.loop.stats()["connections"]["pauses"] == 2)
            node.sys.resume("a")
            assert receive(client, 4) == b"2\n3\n"
            assert receive(second, 2) == b"4\n"
    found = node.sys.get_state("a")
    assert [x for x in found if isinstance(x, int)] == list(range(200))
    assert found.index(199) < len(found) - 1
    assert sorted(x for x in found if isinstance(x, bytes)) == [b"1", b"2", b"3", b"4"]


def test_a_caller_of_a_suspended_server_runs_out_of_time(node: Any) -> None:
    node.sys.suspend("a")
    with pytest.raises(Timeout):
        node.call("a", "x", timeout=0.01)
    node.sys.resume("a")
    until(node, lambda: node.loop.dispatcher.whereis("a").state == ["x"])


def test_on_the_loops_own_thread_a_call_of_a_suspended_server_is_refused(node: Any) -> None:
    node.sys.suspend("a")
    with pytest.raises(Suspended):
        node.run_on_loop(lambda: node.call("a", "x"))
    assert [type(found) for found in node.call_many("a", ["x", "y"])] == [Suspended, Suspended]
    node.sys.resume("a")
    assert node.sys.get_state("a") == []


def test_a_full_mailbox_refuses_by_its_policy(start: Any) -> None:
    node = start(application(mailbox=2, overflow="reject"))
    node.sys.suspend("a")
    node.cast("a", 1)
    node.cast("a", 2)
    waiting(node, 2)
    with pytest.raises(Overloaded):
        node.call("a", 3)
    with dial(node) as client:
        client.sendall(b"4\n")
        assert receive(client, 7) == b"error: "
    node.sys.resume("a")
    until(node, lambda: node.sys.get_state("a") == [1, 2])


def test_a_thread_that_casts_waits_while_a_full_mailbox_blocks(start: Any) -> None:
    node = start(application(mailbox=2))
    node.sys.suspend("a")
    node.cast("a", 0)
    node.cast("a", 1)
    waiting(node, 2)
    thread, outcome = in_thread(lambda: node.cast("a", 2))
    thread.join(0.05)
    assert thread.is_alive()
    assert node.sys.get_status("a").mailbox == 2
    node.sys.resume("a")
    thread.join()
    until(node, lambda: node.sys.get_state("a") == [0, 1, 2])
    assert outcome == [None]


def test_who_waits_for_a_suspended_server_hears_of_its_end(start: Any) -> None:
    node = start(application(mailbox=1))
    node.sys.suspend("a")
    caller, answer = in_thread(lambda: node.call("a", "never"))
    waiting(node, 1)
    caster, _ = in_thread(lambda: node.cast("a", "lost"))
    with dial(node) as client:
        client.sendall(b"held\n")
        until(node, lambda: node.loop.stats()["connections"]["pauses"] == 1)
        node.terminate_child("root", "a")
        assert receive(client, 7) == b"error: "
    caller.join()
    caster.join()
    assert type(answer[0]).__name__ == "Stopped"
    node.restart_child("root", "a")
    assert node.sys.get_status("a").mode == "running"
    assert node.call("a", "x") == "x"


def test_timers_of_a_suspended_server_go_on_and_expire_when_it_is_resumed(node: Any) -> None:
    def begin() -> None:  # in one go: the timer cannot come between
        node.call("a", lambda _self, state: (state, None, StartTimer("t", 0.001, "tick")))
        node.sys.suspend("a")

    node.run_on_loop(begin)
    waiting(node, 1)
    assert node.sys.get_state("a") == []
    node.sys.resume("a")
    until(node, lambda: node.sys.get_state("a") == ["tick"])


def test_what_an_input_has_left_to_do_is_done_before_the_server_is_suspended(node: Any) -> None:
    def both() -> Any:
        node.cast("a", lambda _self, state: (state, None, Continue("after")))
        node.loop.dispatcher.call("b", "now")
        return None

    node.run_on_loop(both)
    node.sys.suspend("a")
    state = list(node.sys.get_state("a"))
    node.sys.resume("a")
    until(node, lambda: node.sys.get_state("a") == ["after"])
    assert state in ([], ["after"])


def test_suspended_twice_is_suspended_and_resumed_once(node: Any) -> None:
    node.sys.suspend("a")
    node.sys.suspend("a")
    assert node.run_on_loop(lambda: node.loop.dispatcher.suspended_count) == 1
    node.sys.resume("a")
    node.sys.resume("a")
    assert node.run_on_loop(lambda: node.loop.dispatcher.suspended_count) == 0
    assert node.call("a", "x") == "x"
    assert node.run_on_loop(lambda: node.loop.dispatcher.whereis("a").control) is None


@pytest.mark.parametrize("overflow", ["block", "reject"])
def test_a_drain_tells_clients_of_a_suspended_server_and_does_not_wait(
    start: Any, overflow: Any, caplog: pytest.LogCaptureFixture
) -> None:
    node = start(application(overflow=overflow), drain_timeout=3600.0)
    node.sys.suspend("a")
    with dial(node) as client, dial(node) as other, caplog.at_level("WARNING", "pybehave"):
        logging.getLogger("pybehave").setLevel(logging.WARNING)
        client.sendall(b"1\n")
        other.sendall(b"2\n3\n")
        for each in (client, other):
            each.shutdown(socket.SHUT_WR)  # else the node lingers for their ends
        if overflow == "block":
            until(node, lambda: node.loop.stats()["connections"]["pauses"] == 2)
        else:
            waiting(node, 3)
        assert node.stop() == 0
        assert receive_all(client).startswith(b"error: ")
        assert receive_all(other).startswith(b"error: ")
    assert "'a' is suspended: " in caplog.text


def test_a_drain_does_not_wait_for_a_reply_that_a_suspended_server_has_put_off(start: Any) -> None:
    node = start(application(), drain_timeout=3600.0)
    with dial(node) as client:
        client.sendall(b"later\n")
        client.shutdown(socket.SHUT_WR)
        until(node, lambda: node.loop.dispatcher.whereis("a").callers_count == 1)
        node.sys.suspend("a")
        assert node.stop() == 0
        assert receive_all(client).startswith(b"error: ")


def test_an_application_that_drains_does_not_wait_for_a_suspended_server_either(
    start: Any,
) -> None:
    node = start(application(), drain_timeout=3600.0)
    node.sys.suspend("a")
    with dial(node) as client:
        client.sendall(b"1\n")
        client.shutdown(socket.SHUT_WR)
        until(node, lambda: node.loop.stats()["connections"]["pauses"] == 1)
        node.stop_application("looked at")
        assert receive_all(client).startswith(b"error: ")


# --- changing -------------------------------------------------------------------------------------


def test_replace_state_puts_another_state_in_place(node: Any) -> None:
    node.call("a", 1)
    assert node.sys.replace_state("a", lambda state: [*state, 2]) == [1, 2]
    assert node.sys.replace_state("door", lambda pair: ("open", pair[1] + 7)) == ("open", 7)
    node.sys.replace_state("bus", lambda found: [(key, 40) for key, _ in found])
    node.call("bus", events.sync_notify("e"))
    assert node.sys.get_state("bus")[0][1] == 41
    assert node.call("door", "push") == 7


@pytest.mark.parametrize(
    "server, function",
    [
        ("a", lambda state: 1 // 0),
        ("door", lambda pair: "open"),
        ("door", lambda pair: ("no such state", 1)),
        ("bus", lambda found: []),
    ],
)
def test_a_function_that_fails_changes_nothing(node: Any, server: str, function: Any) -> None:
    before = node.sys.get_state(server)
    with pytest.raises(CallbackFailed) as caught:
        node.sys.replace_state(server, function)
    assert caught.value.server == server
    assert node.sys.get_state(server) == before
    assert node.whereis(server) == 1


def test_a_suspended_servers_state_can_be_replaced(node: Any) -> None:
    node.sys.suspend("a")
    node.cast("a", "waits")
    node.sys.replace_state("a", lambda _state: ["new"])
    node.sys.resume("a")
    until(node, lambda: node.sys.get_state("a") == ["new", "waits"])


# --- watching -------------------------------------------------------------------------------------


def test_a_trace_shows_inputs_and_outputs_on_every_road(node: Any) -> None:
    seen: list[Any] = []
    node.sys.trace("a", seen.append)
    node.call("a", "from a thread")
    node.cast("a", "cast")
    node.info("a", "info")
    node.run_on_loop(lambda: node.call("a", "on the loop"))
    node.call("b", lambda _self, state: (state, None, Call("a", "from b", "tag")))
    until(node, lambda: "from b" in node.sys.get_state("a"))
    with dial(node) as client:
        client.sendall(b"wire\n")
        assert receive(client, 5) == b"wire\n"
    ins = [(event.kind, event.value) for event in seen if event.what == "in"]
    assert ins[:5] == [
        ("call", "from a thread"),
        ("cast", "cast"),
        ("info", "info"),
        ("call", "on the loop"),
        ("call", "from b"),
    ]
    assert ("call", b"wire") in ins
    outs = [event.value for event in seen if event.what == "out"]
    assert outs == ["from a thread", "on the loop", "from b", b"wire"]
    assert [event.what for event in seen][:4] == ["in", "out", "in", "noreply"]
    texts = "\n".join(map(str, seen))
    assert "from server 'b'" in texts and "from connection" in texts


def test_a_trace_ends_when_it_is_told_to_and_leaves_nothing(node: Any) -> None:
    seen: list[Any] = []
    node.sys.trace("a", seen.append)
    node.sys.trace("a", None)
    node.call("a", 1)
    assert seen == []
    assert node.run_on_loop(lambda: node.loop.dispatcher.whereis("a").control) is None


def test_a_trace_tells_of_the_end_and_of_what_a_step_wants_done(node: Any) -> None:
    seen: list[Any] = []
    node.sys.trace("a", seen.append)
    node.call("a", lambda _self, state: (state, "bye", [Cast("b", 1), Stop("normal")]))
    until(node, lambda: len(seen) == 3)
    assert [event.what for event in seen] == ["in", "out", "ended"]
    assert seen[1].actions == (Cast("b", 1), Stop("normal"))
    assert "ended: Stopped" in str(seen[2])


def test_a_crash_is_the_end_of_a_trace(node: Any) -> None:
    seen: list[Any] = []
    node.sys.trace("a", seen.append)
    with pytest.raises(Crashed):
        node.call("a", lambda _self, _state: 1 // 0)
    assert [event.what for event in seen] == ["in", "ended"]
    assert node.sys.get_status("a").debug == ()


def test_a_log_keeps_the_newest_events(node: Any) -> None:
    node.sys.log("a", 4)
    for index in range(10):
        node.call("a", index)
    assert [event.value for event in node.sys.get_log("a")] == [8, 8, 9, 9]
    assert node.sys.get_status("a").debug == ("log of 4",)
    node.sys.log("a", 0)
    assert node.sys.get_log("a") == []


@pytest.mark.parametrize("count", [-1, 10_001, 1.5, True])
def test_a_log_has_bounds(node: Any, count: Any) -> None:
    with pytest.raises(ValueError, match="count="):
        node.sys.log("a", count)


def test_statistics_count_inputs_and_outputs_from_when_they_are_switched_on(node: Any) -> None:
    node.call("a", 0)
    assert node.sys.statistics("a") is None
    assert node.sys.statistics("a", True).inputs == 0
    node.call("a", 1)
    node.cast("a", 2)
    node.call("a", lambda _self, state: (state, 3, Cast("b", 1)))
    found = node.sys.statistics("a")
    assert (found.inputs, found.outputs) == (3, 3)
    assert found.now >= found.since
    assert node.sys.statistics("a", False) is None


def test_counting_goes_on_when_it_is_switched_on_again(node: Any) -> None:
    node.sys.statistics("a", True)
    node.call("a", 1)
    assert node.sys.statistics("a", True).inputs == 1
    with pytest.raises(TypeError, match="is_on="):
        node.sys.statistics("a", "get")


def test_a_full_disk_ends_the_log_to_a_file_and_nothing_else(node: Any, caplog: Any) -> None:
    with caplog.at_level(logging.ERROR, "pybehave"):
        node.sys.log_to_file("a", "/dev/full")
        assert node.call("a", 1, timeout=2) == 1
        assert node.call("b", 1, timeout=2) == 1
    assert node.sys.get_status("a").debug == ()
    assert "the log of 'a' to /dev/full ends" in caplog.text
    assert node.failure is None


def test_false_ends_a_log_to_a_file_and_a_trace_as_none_does(node: Any, tmp_path: Path) -> None:
    seen: list[Any] = []
    node.sys.log_to_file("a", tmp_path / "log")
    node.sys.trace("a", seen.append)
    node.sys.log_to_file("a", False)
    node.sys.trace("a", False)
    node.call("a", 1)
    assert node.sys.get_status("a").debug == ()
    assert (seen, (tmp_path / "log").read_text()) == ([], "")


@pytest.mark.parametrize("path", [True, 0, 5, b"log", 1.5])
def test_what_is_no_path_is_refused(node: Any, path: Any) -> None:
    with pytest.raises(TypeError, match="is no path"):
        node.sys.log_to_file("a", path)


@pytest.mark.parametrize("what", ["trace", "install"])
def test_what_cannot_be_called_is_refused(node: Any, what: str) -> None:
    with pytest.raises(TypeError, match="5 cannot be called"):
        getattr(node.sys, what)("a", 5)
    assert node.sys.get_status("a").debug == ()


@pytest.mark.parametrize("timeout", ["x", -1, True])
def test_a_timeout_that_is_no_time_is_refused_and_nothing_has_happened(
    node: Any, timeout: Any, tmp_path: Path
) -> None:
    sys, path = node.sys, tmp_path / "log"
    for ask in (
        partial(sys.suspend, "a"),
        partial(sys.replace_state, "a", lambda _: [7]),
        partial(sys.terminate, "a", "normal"),
        partial(sys.log_to_file, "a", path),
        partial(sys.log, "a"),
        partial(sys.get_state, "a"),
    ):
        with pytest.raises(ValueError, match="timeout="):
            ask(timeout=timeout)
    status = sys.get_status("a")
    assert (status.incarnation, status.mode, status.debug) == (1, "running", ())
    assert sys.get_state("a") == []
    assert not path.exists()


def test_a_function_that_is_installed_again_keeps_its_state(node: Any) -> None:
    seen: list[int] = []

    def count(state: int, event: Any) -> int:
        seen.append(state)
        return state + 1

    node.sys.install("a", count, 1)
    node.sys.install("a", count, 10)
    node.call("a", 1)
    assert seen == [1, 2]


def test_an_installed_function_has_a_state_and_ends_with_done(node: Any) -> None:
    seen: list[int] = []

    def count(state: int, event: Any) -> Any:
        seen.append(state)
        return DONE if state == 2 else state + 1

    node.sys.install("a", count, 0)
    for _ in range(4):
        node.call("a", 1)
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_function_that_raises_is_removed_and_the_server_goes_on(node: Any, kind: Any) -> None:
    calls: list[Any] = []

    def fail(event: Any) -> None:
        calls.append(event)
        raise kind("on purpose")

    node.sys.trace("a", fail)
    assert node.call("a", 1) == 1
    assert node.call("a", 2) == 2
    assert len(calls) == 1
    assert node.whereis("a") == 1


def test_a_function_that_watches_cannot_call_servers(node: Any) -> None:
    errors: list[Any] = []

    def call(event: Any) -> None:
        try:
            node.call("b", 1)
        except CalledInCallback as error:
            errors.append(error)

    node.sys.trace("a", call)
    node.call("a", 1)
    assert len(errors) == 2


def test_installed_functions_are_removed_by_name_and_others_stay(node: Any) -> None:
    seen: list[str] = []
    first = lambda state, event: seen.append("first")  # noqa: E731
    second = lambda state, event: seen.append("second")  # noqa: E731
    node.sys.install("a", first)
    node.sys.install("a", second)
    node.sys.remove("a", first)
    node.sys.remove("a", first)
    node.call("a", 1)
    assert seen == ["second", "second"]
