"""Calls, casts, infos, actions and timers on a running node; on every source."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from pybehave import NO_REPLY, TIMEOUT, Application, GenServer, Supervisor, Worker
from pybehave.actions import (
    Call,
    CallFailed,
    CallReply,
    CancelTimer,
    Cast,
    Continue,
    IdleTimeout,
    Info,
    Reply,
    Run,
    RunDone,
    RunFailed,
    StartTimer,
    Stop,
)
from pybehave.errors import (
    BadReturn,
    CalledInCallback,
    CallingSelf,
    Crashed,
    EncodeError,
    NoProc,
    Overloaded,
    Stopped,
    Timeout,
)
from pybehave.protocols import Fixed, Lines
from tests.conftest import dial, receive, until

CRASHES = [AssertionError, KeyError, RecursionError, MemoryError, SystemExit, GeneratorExit]


class Lab(GenServer[dict[str, Any], Any, Any]):
    """Does what it is told: a command is a function of itself and its state."""

    def init(self, args: Any) -> dict[str, Any]:
        return {"seen": []}

    def step(self, command: Any, state: dict[str, Any]) -> Any:
        if callable(command):
            return command(self, state)
        state["seen"].append(command)
        return state, command

    def handle_info(self, message: Any, state: dict[str, Any]) -> Any:
        state["seen"].append(message)
        if isinstance(message, tuple) and message[0] == "answer":
            return state, None, Reply(state["caller"], message[1])
        return state, None

    def handle_continue(self, term: Any, state: dict[str, Any]) -> Any:
        state["seen"].append(("continue", term))
        return state, None

    def terminate(self, reason: Any, state: dict[str, Any]) -> None:
        ENDS.append((self.context.name, reason))


ENDS: list[tuple[str, Any]] = []


@pytest.fixture
def node(start: Any) -> Any:
    ENDS.clear()
    tree = Supervisor("one_for_one", [Worker("a", Lab), Worker("b", Lab)], intensity=10_000)
    return start(Application("lab", tree))


def seen(node: Any, name: str = "a") -> list[Any]:
    return list(node.get_state(name)["seen"])


def test_a_call_has_its_reply_and_a_cast_its_effect(node: Any) -> None:
    assert node.call("a", 1) == 1
    node.cast("a", 2)
    assert node.call("a", 3) == 3
    assert seen(node) == [1, 2, 3]


@pytest.mark.parametrize("kind", CRASHES)
def test_any_exception_is_a_crash_of_that_server_only(node: Any, kind: Any) -> None:
    def fail(_self: Any, _state: Any) -> Any:
        raise kind("on purpose")

    node.call("b", "kept")
    with pytest.raises(Crashed) as caught:
        node.call("a", fail)
    assert isinstance(caught.value.reason, kind)
    assert node.whereis("a") == 2
    assert seen(node, "b") == ["kept"]


def test_a_bad_return_is_a_crash_that_shows_it(node: Any) -> None:
    with pytest.raises(Crashed) as caught:
        node.call("a", lambda _self, _state: "nonsense")
    assert isinstance(caught.value.reason, BadReturn)
    assert "nonsense" in str(caught.value.reason)


TIMER = StartTimer("late", 60, "late")


@pytest.mark.parametrize("output", [TIMER, [TIMER], (TIMER, TIMER)], ids=["one", "list", "tuple"])
@pytest.mark.parametrize("more", [(), ([],)], ids=["pair", "triple"])
def test_actions_in_the_place_of_the_output_are_a_crash(node: Any, output: Any, more: Any) -> None:
    with pytest.raises(Crashed, match=r"actions are the third: \(state, output, actions\)"):
        node.call("a", lambda _self, state: (state, output, *more))
    node.cast("a", lambda _self, state: (state, output, *more))
    until(node, lambda: node.whereis("a") == 3)
    assert node.call("a", lambda _self, state: (state, [TIMER, "kept"])) == [TIMER, "kept"]


@pytest.mark.parametrize("journal", [False, True])
def test_a_client_does_not_hear_an_action(serve: Any, tmp_path: Any, journal: bool) -> None:
    class Wrong(GenServer[int, bytes, Any]):
        def init(self, args: Any) -> int:
            return 0

        def step(self, command: bytes, state: int) -> Any:
            return state + 1, TIMER if command == b"bad!" else b"%04d" % state

    node = serve(Wrong, Fixed(4), worker={"journal": journal}, loop={"data": tmp_path})
    with dial(node) as client:
        client.sendall(b"okaybad!okay")
        answers = receive(client, 12)
    assert answers[:4] + answers[8:] == (b"00000001" if journal else b"00000000")


def test_an_output_that_cannot_be_encoded_is_a_crash(serve: Any) -> None:
    class Wrong(GenServer[int, bytes, Any]):
        def init(self, args: Any) -> int:
            return 0

        def step(self, command: bytes, state: int) -> Any:
            return state + 1, object() if command == b"bad!" else b"%04d" % state

    node = serve(Wrong, Fixed(4))
    with dial(node) as client:
        client.sendall(b"okayokaybad!okay")
        answers = receive(client, 16)
    assert answers[:8] == b"00000001"
    assert answers[12:] == b"0000"  # a fresh state: what failed was not committed
    (report,) = node.host.crashes
    assert isinstance(report.reason, EncodeError)


def test_unknown_names_are_answered_at_once(node: Any) -> None:
    with pytest.raises(NoProc, match="nobody"):
        node.call("nobody", 1)
    node.cast("nobody", 1)
    assert node.stats()["loop"]["casts_lost"] == 1


def test_a_timeout_ends_the_wait_and_not_the_request(node: Any) -> None:
    def later(self: Any, state: Any) -> Any:
        state["caller"] = self.context.caller
        return state, NO_REPLY

    with pytest.raises(Timeout):
        node.call("a", later, timeout=0.01)
    until(node, lambda: node.loop.dispatcher.whereis("a").callers_count == 0)
    node.info("a", ("answer", "too late"))
    assert node.call("a", "alive") == "alive"


def test_a_reply_can_come_later_and_only_the_first_counts(node: Any) -> None:
    def later(self: Any, state: Any) -> Any:
        state["caller"] = self.context.caller
        return state, NO_REPLY, Info("a", ("answer", "first"))

    assert node.call("a", later) == "first"
    node.info("a", ("answer", "second"))
    assert node.call("a", "alive") == "alive"


def test_replies_of_a_connection_keep_their_order(serve: Any) -> None:
    class Slow(GenServer[Any, bytes, Any]):
        def step(self, command: bytes, state: Any) -> Any:
            if command == b"slow":
                timer = StartTimer("t", 0.01, self.context.caller)
                return state, NO_REPLY, timer
            return state, command

        def handle_info(self, message: Any, state: Any) -> Any:
            return state, None, Reply(message, b"finally")

    with dial(serve(Slow, Lines())) as client:
        client.sendall(b"slow\none\ntwo\n")
        assert receive(client, 16) == b"finally\none\ntwo\n"


def test_callers_hear_of_a_crash_at_once(node: Any) -> None:
    def later(self: Any, state: Any) -> Any:
        state["caller"] = self.context.caller
        return state, NO_REPLY

    def fail(_self: Any, _state: Any) -> Any:
        raise ValueError("on purpose")

    results: list[BaseException] = []

    def wait() -> None:
        try:
            node.call("a", later, timeout=None)
        except Crashed as error:
            results.append(error)

    threads = [threading.Thread(target=wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    until(node, lambda: node.loop.dispatcher.whereis("a").callers_count == 5)
    with pytest.raises(Crashed):
        node.call("a", fail)
    for thread in threads:
        thread.join(10)
    assert len(results) == 5


def test_stop_with_a_reply_terminates_first(node: Any) -> None:
    def stop(_self: Any, state: Any) -> Any:
        return state, "bye", Stop("normal")

    assert node.call("a", stop) == "bye"
    assert ENDS == [("a", "normal")]
    assert node.whereis("a") == 2  # permanent

    def stop_silently(_self: Any, state: Any) -> Any:
        return state, NO_REPLY, Stop("shutdown")

    with pytest.raises((Stopped, Timeout)):
        node.call("a", stop_silently, timeout=0.5)


def test_continue_runs_before_anything_that_waits(node: Any) -> None:
    def go_on(_self: Any, state: Any) -> Any:
        return state, "ok", [Info("a", "waiting"), Continue(1)]

    assert node.call("a", go_on) == "ok"
    until(node, lambda: len(seen(node)) == 2)
    assert seen(node) == [("continue", 1), "waiting"]


def test_calls_between_servers_are_actions(node: Any) -> None:
    def ask(_self: Any, state: Any) -> Any:
        requests = [Call("b", "hi", tag=1), Call("nobody", "hi", tag=2), Call("a", "hi", tag=3)]
        return state, "asked", [*requests, Cast("b", "cast")]

    assert node.call("a", ask) == "asked"
    until(node, lambda: len(seen(node)) == 3)
    found = {m.tag: m for m in seen(node)}
    assert found[1] == CallReply(1, "b", "hi")
    assert isinstance(found[2], CallFailed)
    assert isinstance(found[2].error, NoProc)
    assert isinstance(found[3].error, CallingSelf)
    assert seen(node, "b") == ["hi", "cast"]


def test_a_call_from_inside_a_callback_is_refused_with_the_mend(node: Any) -> None:
    with pytest.raises(Crashed) as caught:
        node.call("a", lambda _self, state: (state, node.call("b", 1)))
    assert isinstance(caught.value.reason, CalledInCallback)
    assert "return the action Call('b', ...)" in str(caught.value.reason)


def test_a_timer_fires_once_and_a_cancelled_or_replaced_one_never(node: Any) -> None:
    def arm(_self: Any, state: Any) -> Any:
        timers = [StartTimer("x", 0.001, "old"), StartTimer("x", 0.002, "new")]
        return state, None, [*timers, StartTimer("y", 0.001, "gone"), CancelTimer("y")]

    node.call("a", arm)
    node.call("b", lambda _self, state: (state, None, StartTimer("end", 0.05, "end")))
    until(node, lambda: seen(node, "b") == ["end"])
    assert seen(node) == ["new"]


def test_an_idle_timeout_is_cancelled_by_any_input(node: Any) -> None:
    def wait(_self: Any, state: Any) -> Any:
        return state, None, IdleTimeout(0.02)

    node.call("a", wait)
    node.call("a", "input")
    node.call("b", wait)
    until(node, lambda: seen(node, "b") == [TIMEOUT])
    assert seen(node) == ["input"]


def test_a_hundred_thousand_timers_fire_in_order(node: Any) -> None:
    count = 100_000

    def arm(_self: Any, state: Any) -> Any:
        return state, None, [StartTimer(i, i % 50 / 1000, (i % 50, i)) for i in range(count)]

    node.call("a", arm, timeout=60)
    until(node, lambda: len(node.get_state("a")["seen"]) == count)
    fired = seen(node)
    assert fired == sorted(fired)


def test_blocking_functions_run_on_threads(node: Any) -> None:
    def work(_self: Any, state: Any) -> Any:
        return state, None, [Run(threading.get_ident, tag=1), Run(int, "x", tag=2)]

    node.call("a", work)
    until(node, lambda: len(seen(node)) == 2)
    found = {m.tag: m for m in seen(node)}
    assert isinstance(found[1], RunDone)
    assert found[1].value != node.loop.thread
    assert isinstance(found[2], RunFailed)


def test_asyncio_code_awaits_calls(node: Any) -> None:
    def never(self: Any, state: Any) -> Any:
        state["caller"] = self.context.caller
        return state, NO_REPLY

    async def main() -> None:
        assert await asyncio.gather(*(node.acall("a", i) for i in range(100))) == [*range(100)]
        with pytest.raises(NoProc):
            await node.acall("nobody", 1)
        with pytest.raises(Timeout):
            await node.acall("a", never, timeout=0.01)
        task = asyncio.create_task(node.acall("a", never))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    until(node, lambda: node.loop.dispatcher.whereis("a").callers_count == 0)


def test_fifty_threads_lose_no_call(node: Any) -> None:
    def hammer(number: int) -> None:
        for index in range(100):
            assert node.call("a", (number, index)) == (number, index)

    threads = [threading.Thread(target=hammer, args=(n,)) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(seen(node)) == 5000
    for number in range(50):
        assert [i for n, i in seen(node) if n == number] == [*range(100)]


@pytest.mark.parametrize("overflow", ["reject", "drop_oldest", "block"])
def test_a_full_mailbox_follows_its_policy(start: Any, overflow: Any) -> None:
    tree = Supervisor("one_for_one", [Worker("a", Lab), Worker("b", Lab, mailbox=4,
                                                              overflow=overflow)])  # fmt: skip
    node = start(Application("full", tree))

    def flood(_self: Any, state: Any) -> Any:
        return state, None, [Cast("b", number) for number in range(10)]

    node.call("a", flood)
    expected = {"reject": [0, 1, 2, 3], "drop_oldest": [6, 7, 8, 9], "block": [*range(10)]}
    until(node, lambda: seen(node, "b") == expected[overflow])
    assert node.stats()["loop"]["overloaded"] == (0 if overflow == "block" else 6)


def test_a_full_mailbox_rejects_calls_with_overloaded(start: Any) -> None:
    tree = Supervisor(
        "one_for_one", [Worker("a", Lab), Worker("b", Lab, mailbox=1, overflow="reject")]
    )
    node = start(Application("full", tree))

    def flood(_self: Any, state: Any) -> Any:
        return state, None, [Call("b", number, tag=number) for number in range(3)]

    node.call("a", flood)
    until(node, lambda: len(seen(node)) == 3)
    errors = [m.error for m in seen(node) if isinstance(m, CallFailed)]
    assert [type(error) for error in errors] == [Overloaded, Overloaded]


def test_a_hot_server_does_not_starve_the_cold(start: Any) -> None:
    workers = [Worker("hot", Lab, mailbox=100_000), *(Worker(f"c{i}", Lab) for i in range(200))]
    node = start(Application("fair", Supervisor("one_for_one", workers)))
    order: list[str] = []

    def note(self: Any, state: Any) -> Any:
        order.append(self.context.name)
        return state, None

    def flood(_self: Any, state: Any) -> Any:
        hot = [Cast("hot", note) for _ in range(5000)]
        return state, None, [*hot, *(Cast(f"c{i}", note) for i in range(200))]

    node.call("c0", flood)
    until(node, lambda: len(order) == 5200)
    last_cold = max(i for i, name in enumerate(order) if name != "hot")
    assert last_cold < 300  # one turn of the hot one, then everybody else


def test_keyboard_interrupt_passes_through(source: str) -> None:
    from pybehave.runtime.node import Node

    node = Node(Application("x", Supervisor("one_for_one", [Worker("a", Lab)])), backend=source)
    node.boot()

    def interrupt(_self: Any, _state: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        node.call("a", interrupt)
    assert node.call("a", "alive") == "alive"
    assert node.whereis("a") == 1
    node.stop()


def test_undecodable_input_is_answered_and_counted(serve: Any) -> None:
    node = serve(Lab, Lines(encoding="utf-8"))
    with dial(node) as client:
        client.sendall(b"\xff\xfe\nfine\n")
        lines = receive(client, 20)
        while lines.count(b"\n") < 2:
            lines += client.recv(100)
    assert lines.splitlines()[0].startswith(b"error:")
    assert lines.splitlines()[1] == b"fine"
    assert node.whereis("s") == 1
    assert node.stats()["loop"]["decode_errors"] == 1
