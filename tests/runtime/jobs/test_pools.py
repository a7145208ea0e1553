"""Worker pools on a running node: threads and processes, on every source; simulated ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Listener, Pool, Supervisor, Worker
from pybehave.actions import Cancel, Run, RunDone
from pybehave.errors import (
    JobCancelled,
    JobTimedOut,
    NoProc,
    PoolOverloaded,
    Rejected,
    Stopped,
    WorkerDied,
)
from pybehave.protocols import Http
from pybehave.runtime.jobs import processes
from pybehave.testing.simulate import DIES, Simulator
from tests.conftest import dial, receive_all
from tests.runtime import work
from tests.runtime.work import until


class Asker(GenServer[list[Any], Any, Any]):
    """Returns the actions it is told to, and keeps what comes of them."""

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        return state, None, command

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        state.append(message)
        return state, None


def app(*pools: Any, **fields: Any) -> Application:
    return Application(
        "t", Supervisor("one_for_one", [*pools, Worker("a", Asker, **fields)], intensity=100)
    )


def ask(node: Any, *actions: Any) -> None:
    node.call("a", list(actions))


def told(node: Any) -> list[Any]:
    return list(node.get_state("a"))


def outcome(node: Any, *actions: Any) -> Any:
    """Carry the actions out; the one message that comes of them."""
    before = len(told(node))
    ask(node, *actions)
    until(lambda: len(told(node)) > before)
    return told(node)[before]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What jobs on threads wait for; open at the end."""
    work.GATES["gate"] = threading.Event()
    yield work.GATES["gate"]
    work.GATES["gate"].set()


KINDS = pytest.mark.parametrize("kind", ["thread", "process"])


@KINDS
def test_a_job_brings_its_result(start: Any, kind: Any) -> None:
    node = start(app(Pool("p", kind=kind)))
    done = outcome(node, Run(work.add, 1, 2, tag="t", pool="p"))
    assert done == RunDone("t", 3)
    failed = outcome(node, Run(work.add, 1, "x", tag="t", pool="p"))
    assert isinstance(failed.error, TypeError)
    assert node.stats()["pools"]["p"]["done"] == 1
    assert node.stats()["pools"]["p"]["raised"] == 1
    assert node.call("p", "stats")["hands"]["idle"] == 1


def test_jobs_run_in_other_processes(start: Any) -> None:
    node = start(app(Pool("p", kind="process")))
    assert outcome(node, Run(work.own_pid, pool="p")).value != os.getpid()


@pytest.mark.parametrize("which", ["error", "exit", "value"])
def test_what_cannot_be_sent_is_told_as_text(start: Any, which: str) -> None:
    node = start(app(Pool("p", kind="process", size=(0, 1))))
    failed = outcome(node, Run(work.odd, which, pool="p"))
    if which == "error":
        assert type(failed.error) is processes.JobRaised
        assert str(failed.error) == "Odd: 1 2"
        assert "in odd" in failed.error.__notes__[0]
    elif which == "exit":
        assert isinstance(failed.error, SystemExit)
    else:
        assert "odd.<locals>" in str(failed.error)  # in pickle's words, which change
    assert outcome(node, Run(work.add, 1, 1, pool="p")).value == 2
    assert node.stats()["pools"]["p"]["started"] == 1


def test_a_function_without_a_name_cannot_go_to_a_process(start: Any) -> None:
    node = start(app(Pool("p", kind="process")))
    failed = outcome(node, Run(lambda: 1, pool="p"))
    assert "at the top of a module" in str(failed.error)


@pytest.mark.parametrize(("how", "said"), [("segfault", "signal SIGSEGV"), ("3", "exit status 3")])
def test_a_process_that_dies_fails_its_job_alone(start: Any, how: str, said: str) -> None:
    node = start(app(Pool("p", kind="process", size=(1, 1))))
    failed = outcome(node, Run(work.crash, how, tag=1, pool="p"))
    assert isinstance(failed.error, WorkerDied)
    assert failed.error.how == said
    assert outcome(node, Run(work.add, 1, 1, pool="p")).value == 2
    assert node.whereis("p") == 1, "the pool itself did not crash"


def test_an_idle_process_that_was_killed_costs_no_job(start: Any) -> None:
    node = start(app(Pool("p", kind="process", size=(1, 1))))
    pid = outcome(node, Run(work.own_pid, pool="p")).value
    os.kill(pid, signal.SIGKILL)
    until(lambda: Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z")
    assert isinstance(outcome(node, Run(work.own_pid, pool="p")), RunDone)


def test_a_pool_grows_to_its_size_and_no_further(start: Any, gate: threading.Event) -> None:
    node = start(app(Pool("p", size=(0, 3), queue=2)))
    ask(node, *(Run(work.wait_at, "gate", i, tag=i, pool="p") for i in range(6)))
    until(lambda: len(told(node)) == 1)
    refused = told(node)[0]
    assert isinstance(refused.error, PoolOverloaded)
    until(lambda: node.stats()["pools"]["p"]["hands"]["busy"] == 3)
    gate.set()
    until(lambda: len(told(node)) == 6)
    assert sorted(m.value for m in told(node)[1:]) == [0, 1, 2, 3, 4]
    assert node.stats()["pools"]["p"]["hands_most"] == 3


def test_workers_that_are_not_needed_end(start: Any) -> None:
    node = start(app(Pool("p", kind="process", size=(0, 1), idle=0.05)))
    pid = outcome(node, Run(work.own_pid, pool="p")).value
    until(lambda: not Path(f"/proc/{pid}").exists())
    assert node.stats()["pools"]["p"]["hands"]["idle"] == 0


@KINDS
def test_a_job_that_runs_is_cancelled_once(
    start: Any, kind: Any, gate: threading.Event, tmp_path: Path
) -> None:
    node = start(app(Pool("p", kind=kind, size=(0, 1))))
    started = tmp_path / "started"
    if kind == "thread":
        ask(node, Run(work.wait_at, "gate", tag="t", pool="p"))
        until(lambda: node.stats()["pools"]["p"]["hands"]["busy"] == 1)
    else:
        ask(node, Run(work.wait_for_file, str(tmp_path / "x"), str(started), tag="t", pool="p"))
        until(lambda: started.exists() and started.read_text())
    failed = outcome(node, Cancel("t"), Cancel("t"), Cancel("unknown"))
    assert isinstance(failed.error, JobCancelled)
    gate.set()
    assert outcome(node, Run(work.add, 1, 1, pool="p")).value == 2
    assert len(told(node)) == 2, "the cancelled job is told once"
    if kind == "process":
        until(lambda: not Path(f"/proc/{started.read_text()}").exists())


def test_a_job_that_waits_is_cancelled_and_does_not_run(
    start: Any, gate: threading.Event, tmp_path: Path
) -> None:
    node = start(app(Pool("p", size=(0, 1))))
    trace = tmp_path / "trace"
    ask(node, Run(work.wait_at, "gate", tag=1, pool="p"), Run(work.note, str(trace), "x", tag=2))
    ask(node, Run(work.note, str(trace), "y", tag=3, pool="p"))
    until(lambda: len(told(node)) == 1)
    assert isinstance(outcome(node, Cancel(3)).error, JobCancelled)
    gate.set()
    until(lambda: len(told(node)) == 3)
    assert trace.read_text() == "x\n"


@KINDS
def test_a_job_that_takes_too_long_fails(
    start: Any, kind: Any, gate: threading.Event, tmp_path: Path
) -> None:
    node = start(app(Pool("p", kind=kind, size=(0, 1))))
    if kind == "thread":
        slow = Run(work.wait_at, "gate", pool="p", timeout=0.05)
    else:
        slow = Run(work.wait_for_file, str(tmp_path / "x"), pool="p", timeout=0.05)
    assert isinstance(outcome(node, slow).error, JobTimedOut)
    assert outcome(node, Run(work.add, 1, 1, pool="p")).value == 2


def test_a_pool_outlives_what_it_does_not_understand(start: Any) -> None:
    listener = Listener("tcp://127.0.0.1:0", Http(), to="p")
    node = start(Application("t", Supervisor("one_for_one", [Pool("p")]), listeners=[listener]))
    for body in (b"{}", b"stats"):
        with dial(node) as client:
            client.sendall(b"POST /p HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert receive_all(client).startswith(b"HTTP/1.1 422 ")
    with pytest.raises(Rejected, match="'stats' alone"):
        node.call("p", "nonsense")
    node.cast("p", "nonsense")
    assert node.call("p", "stats")["taken"] == 0
    assert node.whereis("p") == 1


def test_a_pool_that_nobody_has_is_named(start: Any) -> None:
    failed = outcome(start(app()), Run(work.add, 1, 1, pool="nobody"))
    assert isinstance(failed.error, NoProc)
    assert str(failed.error).startswith("No pool is named ")
    assert failed.error.server == "nobody"


def test_a_pool_named_default_takes_the_jobs_that_name_none(start: Any) -> None:
    node = start(app(Pool("default", kind="process", size=(1, 1))))
    assert outcome(node, Run(work.own_pid)).value != os.getpid()


def test_a_job_that_runs_may_finish_while_the_pool_stops(start: Any, tmp_path: Path) -> None:
    trace, started, go = (tmp_path / name for name in ("trace", "started", "go"))
    node = start(app(Pool("p", kind="process", size=(1, 1), shutdown=60.0)))
    ask(node, Run(work.note_when, str(go), str(started), str(trace), pool="p"))
    until(started.exists)
    stopping = threading.Thread(target=node.stop)
    stopping.start()
    until(lambda: node.whereis("p") is None)
    go.write_text("")
    stopping.join(60)
    assert trace.read_text() == "finished\n"


@pytest.mark.parametrize("shutdown", [0.05, "brutal_kill"])
def test_a_job_that_does_not_end_is_killed_with_its_pool(
    start: Any, shutdown: Any, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    node = start(app(Pool("p", kind="process", size=(0, 1), shutdown=shutdown)))
    ask(node, Run(work.wait_for_file, str(tmp_path / "x"), str(started), pool="p"))
    until(lambda: started.exists() and started.read_text())
    node.terminate_child("root", "p")
    until(lambda: len(told(node)) == 1)
    assert isinstance(told(node)[0].error, Stopped)
    until(lambda: not Path(f"/proc/{started.read_text()}").exists())
    assert isinstance(outcome(node, Run(work.add, 1, 1, pool="p")).error, NoProc)
    node.restart_child("root", "p")
    assert outcome(node, Run(work.add, 1, 1, pool="p")).value == 2


def test_a_pool_whose_processes_cannot_start_crashes(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = start(app(Pool("p", kind="process", size=(0, 1))))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    failed = outcome(node, Run(work.add, 1, 1, pool="p"))
    assert isinstance(failed.error, Stopped)
    assert isinstance(failed.error.reason, WorkerDied)
    until(lambda: node.whereis("p") == 2)


@pytest.mark.parametrize("pool", ["p", None])
def test_a_system_without_threads_fails_the_jobs(
    start: Any, monkeypatch: pytest.MonkeyPatch, pool: str | None
) -> None:
    node = start(app(Pool("p")))
    begin = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name in ("pybehave-p", "pybehave-default"):
            raise RuntimeError("can't start new thread")
        begin(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        failed = outcome(node, Run(work.add, 1, 1, pool=pool))
        assert "can't start new thread" in str(failed.error)
    until(lambda: node.whereis("p"))
    assert outcome(node, Run(work.add, 1, 1, pool=pool)).value == 2


def test_a_tree_with_a_pool_survives_json() -> None:
    tree = Supervisor("one_for_one", [Pool("p", kind="process", size=(1, 2), idle=1.5)])
    assert Supervisor.from_json(tree.to_json()) == tree
    assert "p  PoolServer  shutdown 5 s" in tree.dump()


def test_results_of_a_server_that_has_ended_go_nowhere(start: Any, gate: threading.Event) -> None:
    node = start(app(Pool("p")))
    ask(node, Run(work.wait_at, "gate", pool="p"))
    node.terminate_child("root", "a")
    node.restart_child("root", "a")
    gate.set()
    until(lambda: node.stats()["pools"]["p"]["done"] == 1)
    assert told(node) == []


KILLED = """
import os, signal, sys
from pybehave import Application, Pool, Supervisor, Worker
from pybehave.actions import Run
from tests.runtime import work
from tests.runtime.jobs.test_pools import Asker
from tests.runtime.work import until
from pathlib import Path

app = Application("t", Supervisor("one_for_one", [
    Pool("p", kind="process", size=(2, 2)), Worker("a", Asker)]))
node = app.start(backend=sys.argv[2])
node.call("a", [Run(work.wait_for_file, sys.argv[1] + "/x", sys.argv[1] + "/pid", pool="p")])
until(lambda: Path(sys.argv[1], "pid").exists() and Path(sys.argv[1], "pid").read_text())
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_processes_die_with_a_node_that_is_killed(source: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), source]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    pid = (tmp_path / "pid").read_text()
    until(lambda: not _runs(pid))


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_worker_has_no_descriptor_of_the_node(start: Any) -> None:
    node = start(app(Pool("p", kind="process")))
    pid = outcome(node, Run(work.own_pid, pool="p")).value
    targets = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()}
    assert not [target for target in targets if "io_uring" in target or "eventpoll" in target]
    assert len([target for target in targets if target.startswith("socket")]) == 1


# --- simulated -------------------------------------------------------------------------------


def test_simulated_jobs_take_virtual_time() -> None:
    with Simulator(1, app(Pool("p", size=(0, 2))), work=lambda run: run.args[0]) as world:
        ask(world.node, *(Run(work.add, 10, i, tag=i, pool="p") for i in range(3)))
        began = world.now
        world.run_until(lambda: len(told(world.node)) == 3)
        assert 20.0 <= world.now - began < 21.0, "two at a time"
        assert [message.value for message in told(world.node)] == [10, 11, 12]


def test_simulated_workers_die_and_take_too_long() -> None:
    fates = {"die": DIES, "slow": 100.0}
    with Simulator(1, app(Pool("p")), work=lambda run: fates[run.tag]) as world:
        ask(world.node, Run(len, "", tag="die", pool="p"))
        ask(world.node, Run(len, "", tag="slow", pool="p", timeout=5.0))
        world.run_until(lambda: len(told(world.node)) == 2)
        assert [type(m.error) for m in told(world.node)] == [WorkerDied, JobTimedOut]


@pytest.mark.parametrize("seed", range(20))
def test_simulated_pools_give_the_same_run_again(seed: int) -> None:
    def play() -> tuple[list[Any], int]:
        import random

        dice = random.Random(seed)
        fate = lambda run: DIES if dice.random() < 0.1 else dice.random()  # noqa: E731
        with Simulator(seed, app(Pool("p", size=(0, 3), queue=4)), work=fate) as world:
            for index in range(40):
                ask(world.node, Run(work.add, index, 1, tag=index, pool="p", timeout=0.8))
                if index % 5 == 0:
                    ask(world.node, Cancel(index - 1))
                world.run(dice.random() * 0.3)
            world.run_until(lambda: len(told(world.node)) == 40)
            world.run(10.0)
            found = [(m.tag, type(getattr(m, "error", None))) for m in told(world.node)]
            return found, world.trace_hash

    first = play()
    assert sorted(tag for tag, _ in first[0]) == list(range(40)), "each told once"
    assert play() == first


def test_a_node_without_jobs_has_no_thread_for_them(start: Any, threads: Any) -> None:
    node = start(app(Pool("p", size=(0, 2))))
    assert threads("pybehave-p") == 0
    outcome(node, Run(work.add, 1, 1, pool="p"))
    assert threads("pybehave-p") == 1
