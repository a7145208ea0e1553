"""Calls that wait for a server's next incarnation, on every source, with and without a journal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, GenStatem, Supervisor, Worker
from pybehave.actions import Call, CallFailed, CallReply, Continue, Reply, Stop
from pybehave.behaviours.backoff import Backoff
from pybehave.errors import Crashed, NoProc, Stopped, Timeout
from pybehave.statem import KeepState
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import until

Start = Callable[..., Any]

LONG = Backoff(first=3600.0, maximum=3600.0, jitter="none")
SHORT = Backoff(first=0.05, maximum=0.05, jitter="none")
LINGER_S = 0.05


class Lab(GenServer[list[Any], Any, Any]):
    """Collects what it is told; some words mean what they say."""

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        match command:
            case "crash":
                raise ValueError("asked to")
            case "stop":
                return state, "stopping", Stop("normal")
            case "crash next":
                return state, None, Continue("crash")
            case "which":
                return state, (self.context.incarnation, list(state))
            case ("ask", server, what, timeout):
                return state, None, Call(server, what, "t", timeout, on_restart="wait")
        return [*state, command], self.context.incarnation

    def handle_continue(self, term: Any, state: list[Any]) -> Any:
        raise ValueError(term)

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        return [*state, message], None


class Lingering(Lab):
    """Its terminate takes a while."""

    def terminate(self, reason: Any, state: list[Any]) -> Any:
        yield LINGER_S


class Machine(GenStatem):
    def init(self, args: Any) -> Any:
        return "up", 0

    def up(self, kind: Any, content: Any, data: int) -> Any:
        if content == "crash":
            raise ValueError("asked to")
        return KeepState(data + 1, Reply(kind[1], (self.context.incarnation, data + 1)))


def app(kind: Any = Lab, strategy: Any = "one_for_one", intensity: int = 100, **words: Any) -> Any:
    workers = [Worker("a", kind, **words), Worker("b", Lab, journal=words.get("journal", False))]
    return Application("patient", Supervisor(strategy, workers, intensity=intensity))


def held(node: Any, pool: ThreadPoolExecutor, *requests: Any, **words: Any) -> list[Future[Any]]:
    """Calls that wait in the mailbox of "a", in their order; the first one is next."""
    node.sys.suspend("a")
    futures = []
    for request in requests:
        futures.append(pool.submit(node.call, "a", request, **words))
        wanted = len(futures)
        until(node, lambda wanted=wanted: node.loop.dispatcher.whereis("a").mailbox_count == wanted)
    return futures


@pytest.fixture
def pool() -> Any:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.mark.parametrize("journal", [False, True])
def test_fail_ends_queued_calls_with_the_crash_and_wait_lets_the_next_one_take_them(
    start: Start, pool: ThreadPoolExecutor, tmp_path: Path, journal: bool
) -> None:
    node = start(app(journal=journal), data=tmp_path if journal else None)
    first, second = held(node, pool, "crash", "lost")
    node.sys.resume("a")
    for future in (first, second):
        with pytest.raises(Crashed, match="asked to"):
            future.result(10)
    began, *waited = held(node, pool, "crash", "x", "y", "which", on_restart="wait")
    node.sys.resume("a")
    with pytest.raises(Crashed):  # it had begun
        began.result(10)
    assert [future.result(10) for future in waited] == [3, 3, (3, ["x", "y"])]


def test_a_waiting_call_goes_on_through_several_crashes(
    start: Start, pool: ThreadPoolExecutor
) -> None:
    node = start(app())
    calls = held(node, pool, "crash", "x", "crash", "y", on_restart="wait")
    node.sys.resume("a")
    assert [str(type(future.exception(10)).__name__) for future in calls] == [
        "Crashed", "NoneType", "Crashed", "NoneType",
    ]  # fmt: skip
    assert [calls[1].result(), calls[3].result()] == [2, 3]


def test_it_waits_through_a_back_off_also_when_it_comes_during_it(
    start: Start, pool: ThreadPoolExecutor
) -> None:
    node = start(app(backoff=SHORT))
    began, waits = held(node, pool, "crash", "x", on_restart="wait")
    node.sys.resume("a")
    with pytest.raises(Crashed):
        began.result(10)
    assert node.call("a", "during", on_restart="wait", timeout=10) == 2
    assert waits.result(10) == 2
    assert node.call("a", "which") == (2, ["x", "during"])


def test_its_timeout_bounds_the_wait_and_then_the_request_is_not_carried_out(
    start: Start, pool: ThreadPoolExecutor
) -> None:
    node = start(app(backoff=LONG))
    began, waits = held(node, pool, "crash", "x", on_restart="wait", timeout=0.3)
    node.sys.resume("a")
    assert isinstance(began.exception(10), Crashed | Timeout)
    with pytest.raises(Timeout):
        waits.result(10)
    with pytest.raises(Timeout):
        node.call("a", "y", timeout=0.01, on_restart="wait")
    with pytest.raises(NoProc):
        node.call("a", "y")
    node.restart("root", "a")
    assert node.call("a", "which") == (2, [])


def test_who_waits_hears_the_reason_when_nothing_will_be_started(
    start: Start, pool: ThreadPoolExecutor
) -> None:
    node = start(app(restart="temporary"))
    _, waits = held(node, pool, "crash", "x", on_restart="wait", timeout=None)
    node.sys.resume("a")
    with pytest.raises(Crashed, match="asked to"):
        waits.result(10)
    with pytest.raises(NoProc):
        node.call("a", "x", on_restart="wait", timeout=None)
    with pytest.raises(NoProc):
        node.call("nobody", "x", on_restart="wait", timeout=None)


@pytest.mark.parametrize("restart", ["permanent", "transient"])
def test_a_normal_stop_is_a_restart_or_the_end_as_its_restart_type_says(
    start: Start, pool: ThreadPoolExecutor, restart: Any
) -> None:
    node = start(app(restart=restart))
    stops, waits = held(node, pool, "stop", "x", on_restart="wait", timeout=None)
    node.sys.resume("a")
    assert stops.result(10) == "stopping"
    if restart == "permanent":
        assert waits.result(10) == 2
    else:
        with pytest.raises(Stopped):
            waits.result(10)


def test_terminate_child_and_a_node_that_stops_end_the_wait(
    start: Start, pool: ThreadPoolExecutor
) -> None:
    node = start(app(backoff=LONG))
    began, waits = held(node, pool, "crash", "x", on_restart="wait", timeout=None)
    node.sys.resume("a")
    assert isinstance(began.exception(10), Crashed)
    node.terminate_child("root", "a")
    assert isinstance(waits.exception(10), Crashed)
    node.restart("root", "a")
    began, waits = held(node, pool, "crash", "x", on_restart="wait", timeout=None)
    node.sys.resume("a")
    assert isinstance(began.exception(10), Crashed)
    node.stop(drain=False)
    assert isinstance(waits.exception(10), Crashed)


def test_a_supervisor_that_gives_up_and_is_restarted_answers_who_waits(
    start: Start, pool: ThreadPoolExecutor
) -> None:
    inner = Supervisor("one_for_one", [Worker("a", Lab)], id="inner", intensity=0)
    node = start(Application("nested", Supervisor("one_for_one", [inner], intensity=3)))
    began, waits = held(node, pool, "crash", "x", on_restart="wait", timeout=None)
    node.sys.resume("a")
    assert isinstance(began.exception(10), Crashed)
    assert waits.result(10) == 2


def test_a_root_that_gives_up_ends_the_wait(start: Start, pool: ThreadPoolExecutor) -> None:
    node = start(app(intensity=0))
    began, waits = held(node, pool, "crash", "x", on_restart="wait", timeout=None)
    node.sys.resume("a")
    assert isinstance(began.exception(10), Crashed)
    assert isinstance(waits.exception(10), Crashed)


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all"])
def test_it_waits_while_terminates_yield(
    start: Start, pool: ThreadPoolExecutor, strategy: Any
) -> None:
    node = start(app(Lingering, strategy=strategy))
    began, waits = held(node, pool, "crash", "x", on_restart="wait")
    node.sys.resume("a")
    assert isinstance(began.exception(10), Crashed)
    assert waits.result(10) == 2


def test_a_request_popped_but_not_begun_keeps_its_place(
    start: Start, pool: ThreadPoolExecutor
) -> None:
    node = start(app())
    calls = held(node, pool, "crash next", "x", "y", "which", on_restart="wait")
    node.sys.resume("a")
    assert calls[3].result(10) == (2, ["x", "y"])


def test_machines_tasks_and_refs_wait_too(start: Start, pool: ThreadPoolExecutor) -> None:
    node = start(app(Machine))
    began, waits = held(node, pool, "crash", "x", on_restart="wait")
    node.sys.resume("a")
    assert isinstance(began.exception(10), Crashed)
    assert waits.result(10) == (2, 1)

    async def ask() -> Any:
        node.sys.suspend("a")
        crash = asyncio.ensure_future(node.acall("a", "crash"))
        await asyncio.sleep(0)  # it is posted, before the next one
        task = asyncio.ensure_future(node.acall("a", "y", on_restart="wait"))
        await asyncio.sleep(0)
        node.sys.resume("a")
        with pytest.raises(Crashed):
            await crash
        return await task

    assert asyncio.run(ask()) == (3, 1)
    ref = Worker("a", Machine).ref
    assert ref.call(node, "z", on_restart="wait") == (3, 2)


def test_other_words_are_refused_before_anything_is_sent(start: Start) -> None:
    node = start(app())
    for call in (node.call, node.acall):
        with pytest.raises(ValueError, match='use "fail" or "wait"'):
            call("a", "x", on_restart="retry")
    with pytest.raises(ValueError, match='"fail" or "wait"'):
        Call("a", "x", on_restart="retry")  # type: ignore[arg-type]
    assert node.call("a", "which") == (1, [])


# --- servers that call, in virtual time ---


def world(seed: int, **words: Any) -> Simulator:
    disk = SimDisk(seed) if words.get("journal") else None
    return Simulator(seed, app(**words), disk=disk)


@pytest.mark.parametrize("journal", [False, True])
def test_a_servers_call_waits_through_a_back_off_or_until_its_timeout(journal: bool) -> None:
    backoff = Backoff(first=10.0, maximum=10.0, jitter="none")
    with world(3, journal=journal, backoff=backoff) as sim:
        node = sim.node
        with pytest.raises(Crashed):
            node.call("a", "crash")
        node.call("b", ("ask", "a", "x", 60.0))
        node.call("b", ("ask", "a", "y", 5.0))
        sim.run_until(lambda: len(node.get_state("b")) == 2)
        late, answered = node.get_state("b")
        assert isinstance(late, CallFailed)
        assert isinstance(late.error, Timeout)
        assert answered == CallReply("t", "a", 2)
        assert node.call("a", "which") == (2, ["x"])


@pytest.mark.parametrize("journal", [False, True])
def test_a_servers_call_is_told_when_its_receiver_never_comes_back(journal: bool) -> None:
    with world(4, journal=journal, restart="transient", backoff=LONG) as sim:
        node = sim.node
        with pytest.raises(Crashed):
            node.call("a", "crash")
        node.call("b", ("ask", "a", "x", None))
        sim.run(1.0)
        assert node.get_state("b") == []
        node.terminate_child("root", "a")
        sim.run_until(lambda: node.get_state("b"))
        (failed,) = node.get_state("b")
        assert isinstance(failed, CallFailed)
        assert isinstance(failed.error, NoProc)


def test_idempotent_calls_sent_again_are_as_patient_as_before() -> None:
    call = Call("a", "x", "t", None, idempotent=True, on_restart="wait")
    from pybehave.runtime.durable.asked import action_of, fields_of

    assert action_of(fields_of(call)) == call
    plain = Call("a", "x", "t", None, idempotent=True)
    assert len(fields_of(plain)) == 6  # as journals had it before there was the word
    assert action_of(fields_of(plain)) == plain
