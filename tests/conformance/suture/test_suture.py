"""Suture v4, its promises and the names of its tests (features.md, section E), on a running tree.

What Suture says of one supervisor holds here for trees, and with OTP's strategies.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from pybehave import Application, Backoff, DoNotRestart, Supervisor, TerminateTree
from pybehave.behaviours.child_spec import Worker
from pybehave.errors import NotFound, Stopped
from pybehave.runtime.events import (
    ChildTerminated,
    Escalated,
    RestartDelayed,
    SupervisorPaused,
    SupervisorResumed,
)
from pybehave.runtime.node import Node
from pybehave.testing.simulate import Simulator
from tests.builders import Boom, Idle, Run, running, supervisor, workers

PAUSE = Backoff(15, 15, jitter="none")
SLOW = Backoff(1, 8, jitter="none")


def suture(names: str = "a b", *, intensity: int = 2, **fields: Any) -> Run:
    fields = {"decay": 30.0, "backoff": PAUSE, "resume_every": 0.0, **fields}
    return running("one_for_one", names, intensity=intensity, **fields)


# --- a supervisor's pause ------------------------------------------------------


def test_E5_one_failure_too_many_pauses_restarts_and_the_others_run_on() -> None:
    run = suture()
    for _ in range(3):
        run.host.crash("a")
    assert run.host.take() == "term a, init a, term a, init a, term a"
    assert run.tree.count_children("root").active == 1
    assert run.host.reported(SupervisorPaused) == ["SupervisorPaused a"]
    assert not run.ended


def test_E5_a_failure_during_the_pause_waits_and_does_not_make_it_longer() -> None:
    run = suture(intensity=0)
    run.host.crash("a")
    run.host.advance(14)
    run.host.crash("b")
    assert run.host.take() == "term a, term b"
    assert run.host.reported(RestartDelayed) == ["RestartDelayed b"]
    run.host.advance(1)
    assert run.host.take() == "init a, init b"


def test_E6_after_the_pause_the_count_is_new_and_the_starts_were_not_charged() -> None:
    run = suture("a b c", intensity=1)
    for name in "aabc":
        run.host.crash(name)
    run.host.advance(15)
    assert run.host.registered.keys() == {"a", "b", "c"}
    assert run.tree.supervisor("root").state.budget.failures(run.host.time) == 0
    run.host.crash("a")
    assert run.host.registered.keys() == {"a", "b", "c"}


def test_E6_those_that_waited_start_one_after_the_other() -> None:
    run = suture("a b c", intensity=0, resume_every=2.0)
    for name in "abc":
        run.host.crash(name)
    run.host.take()
    seen = []
    for seconds in (15, 1.9, 0.1, 2):
        run.host.advance(seconds)
        seen.append(run.host.take())
    assert seen == ["init a", "", "init b", "init c"]
    (resumed,) = (event for event in run.host.events if isinstance(event, SupervisorResumed))
    assert resumed.waiting == 3


def test_pauses_in_a_row_grow_and_a_healthy_run_forgets_them() -> None:
    run = suture("a", intensity=0, backoff=Backoff(1, 100, factor=10, jitter="none"))
    for seconds in (1, 10, 100):
        run.host.crash("a")
        run.host.advance(seconds)
    run.host.advance(60)
    run.host.crash("a")
    paused = [event for event in run.host.events if isinstance(event, SupervisorPaused)]
    assert [event.seconds for event in paused] == [1, 10, 100, 1]


def test_requests_are_carried_out_during_a_pause_and_overtake_it() -> None:
    run = suture(intensity=0)
    run.host.crash("a")
    run.host.crash("b")
    run.tree.terminate_child("root", "a").result()
    run.tree.restart_child("root", "a").result()
    run.tree.terminate_child("root", "b").result()
    run.host.take()
    run.host.advance(20)
    assert run.host.take() == ""
    assert run.host.registered.keys() == {"a"}


def test_a_group_is_restarted_as_a_group_after_the_pause() -> None:
    run = running("one_for_all", "a b", intensity=0, backoff=PAUSE)
    run.host.crash("a")
    assert run.host.take() == "term a"
    run.host.advance(15)
    assert run.host.take() == "term b, init a, init b"


def test_a_tree_that_stops_during_a_pause_starts_nothing_afterwards() -> None:
    run = suture(intensity=0)
    run.host.crash("a")
    run.tree.stop()
    run.host.advance(20)
    assert run.host.take() == "term a, term b"


def test_a_start_that_fails_after_the_pause_is_charged_and_pauses_again() -> None:
    run = suture("a", intensity=0)
    run.host.fail_init("a", 1)
    run.host.crash("a")
    run.host.advance(15)
    run.host.run_deferred()
    assert run.host.reported(SupervisorPaused) == ["SupervisorPaused a"] * 2
    run.host.advance(15)
    assert run.host.take() == "term a, initfail a, init a"


def test_E17_an_end_says_how_many_count_and_how_many_may() -> None:
    run = suture(intensity=2, decay=10.0)
    for seconds in (0, 0, 10, 0):
        run.host.advance(seconds)
        run.host.crash("a")
    ended = [event for event in run.host.events if isinstance(event, ChildTerminated)]
    assert [event.failures for event in ended] == [0, 1, 1, 2]
    assert {event.threshold for event in ended} == {2}


def test_E15_a_list_says_how_long_each_runs_and_waits() -> None:
    run = running("one_for_one", *workers("a", backoff=SLOW), *workers("b c"), intensity=100)
    run.host.advance(7)
    run.host.crash("b")
    run.host.crash("a")
    run.host.advance(0.5)
    run.tree.terminate_child("root", "c").result()
    children = {info.id: info for info in run.tree.which_children("root")}
    assert [children[name].uptime for name in "abc"] == [None, 0, None]
    assert [children[name].restarts_in for name in "abc"] == [0.5, None, None]
    run.host.advance(3)
    assert run.tree.which_child("root", "a").uptime == 2
    assert run.tree.which_child("root", "a").restarts_in is None


def test_E15_servers_and_supervisors_say_how_long_they_run() -> None:
    """On virtual time, that of a real node's loop being no test's to make pass."""
    inner = Supervisor("one_for_one", [Worker("b", Idle)], id="inner")
    app = Application("t", Supervisor("one_for_one", [Worker("a", Idle), inner], id="root"))
    with Simulator(1, app) as world:
        world.run(5)
        found = {info.id: info.uptime for info in world.node.which_children("root")}
        assert found["a"] in (4, 5) and found["inner"] in (4, 5)
        world.node.terminate_child("root", "a")
        world.node.restart_child("root", "a")
        assert world.node.which_child("root", "a").uptime == 0


def test_E15_whoever_waits_for_the_end_of_a_pause_says_how_long() -> None:
    run = suture(intensity=0)
    run.host.crash("a")
    run.host.advance(5)
    assert run.tree.which_child("root", "a").restarts_in == 10


# --- a child's back-off --------------------------------------------------------


def test_each_child_backs_off_by_itself() -> None:
    run = running("one_for_one", *workers("a b", backoff=SLOW), intensity=100)
    run.host.crash("a")
    run.host.advance(1)
    run.host.crash("a")
    run.host.crash("b")
    run.host.advance(1)
    assert run.host.take() == "term a, init a, term a, term b, init b"
    run.host.advance(1)
    assert run.host.take() == "init a"


def test_a_start_that_fails_backs_off_as_a_crash_does() -> None:
    run = running("one_for_one", *workers("a", backoff=SLOW), intensity=100)
    run.host.fail_init("a", 2)
    run.host.crash("a")
    waits = []
    for seconds in (1, 2, 4):
        run.host.advance(seconds)
        waits.append(run.host.take())
    assert waits == ["term a, initfail a", "initfail a", "init a"]
    assert not run.host.deferred


def test_jitter_is_drawn_from_the_host() -> None:
    run = running("one_for_one", *workers("a", backoff=Backoff(2, 8)))
    run.host.luck = 0.5
    run.host.crash("a")
    (delayed,) = (event for event in run.host.events if isinstance(event, RestartDelayed))
    assert delayed.seconds == 2.5


def test_the_budget_is_charged_when_the_attempt_is_made() -> None:
    run = running("one_for_one", *workers("a", backoff=SLOW), intensity=0)
    run.host.crash("a")
    assert not run.ended
    run.host.advance(1)
    assert run.ended == ["shutdown"]


def test_terminate_child_ends_the_waiting_and_restart_child_says_that_it_waits() -> None:
    run = running("one_for_one", *workers("a", backoff=SLOW), intensity=9)
    run.host.crash("a")
    assert run.tree.which_children("root")[0].status == "restarting"
    run.tree.terminate_child("root", "a").result()
    run.host.take()
    run.host.advance(5)
    assert run.host.take() == ""


# --- orders --------------------------------------------------------------------


@pytest.mark.parametrize("restart", ["permanent", "transient"])
def test_do_not_restart_leaves_the_child_stopped_and_its_siblings_alone(restart: Any) -> None:
    run = running("one_for_all", *workers("a b", restart=restart), intensity=0)
    run.host.crash("a", DoNotRestart("all done"))
    assert run.host.take() == "term a"
    assert run.tree.which_children("root")[1].status == "stopped"
    assert run.host.reported(ChildTerminated) == ["ChildTerminated a"]


def test_do_not_restart_from_an_init_ends_the_attempts() -> None:
    run = running("one_for_one", "a", intensity=9)
    run.host.init_results["a"] = deque([DoNotRestart("no license")])
    run.host.crash("a")
    assert run.host.run_deferred() == 0
    assert run.tree.which_children("root")[0].status == "stopped"


def test_E11_terminate_tree_ends_every_supervisor_up_to_the_root() -> None:
    inner = supervisor("one_for_one", "b c", id="inner")
    run = running("one_for_one", "a", inner, "d", intensity=9)
    run.host.crash("c", TerminateTree("the disk is gone"))
    assert run.host.take() == "term c, term b, term d, term a"
    assert run.tree.ended_because == "terminate"
    assert run.host.reported(Escalated) == ["Escalated inner", "Escalated root"]
    assert isinstance(run.ended[0], TerminateTree)


def test_E11_an_order_of_the_scope_supervisor_goes_no_further() -> None:
    inner = supervisor("one_for_one", "b c", id="inner")
    run = running("one_for_one", "a", inner, "d", intensity=9)
    error = ValueError("wrapped")
    error.__cause__ = TerminateTree("no link", scope="supervisor")
    run.host.crash("b", error)
    assert run.host.take() == "term b, term c"
    assert run.host.registered.keys() == {"a", "d"}
    assert run.tree.which_children("root")[1].status == "stopped"


def test_an_order_from_an_init_during_a_restart_is_obeyed() -> None:
    run = running("one_for_all", "a b c", intensity=9)
    run.host.init_results["b"] = deque([TerminateTree("no link")])
    run.host.crash("c")
    assert run.host.take() == "term c, term b, term a, init a, initfail b, term a"
    assert run.tree.ended_because == "terminate"


# --- removing and waiting ------------------------------------------------------


def test_E14_remove_stops_and_forgets_in_one_step() -> None:
    run = running("one_for_one", "a b")
    run.host.slow.add("a")
    answer = run.tree.remove_child("root", "a")
    behind = run.tree.restart_child("root", "a")
    assert not answer.is_done
    run.host.finish("a")
    assert answer.result() is None
    assert isinstance(behind.error, NotFound)
    assert [info.id for info in run.tree.which_children("root")] == ["b"]


def test_E14_removing_what_is_removed_or_another_supervisors_is_not_found() -> None:
    run = running("one_for_one", "a", supervisor("one_for_one", "b", id="inner"))
    run.tree.remove_child("root", "a").result()
    for child in ("a", "b", run.host.names["b"]):
        with pytest.raises(NotFound):
            run.tree.remove_child("root", child).result()
    assert run.host.registered.keys() == {"b"}


def test_E14_a_supervisor_that_ends_answers_those_who_wait_for_a_removal() -> None:
    run = running("one_for_one", "b", supervisor("one_for_one", "a", id="inner"))
    run.host.slow.add("a")
    run.tree.terminate_child("root", "inner")
    answer = run.tree.remove_child("inner", "a")
    run.host.finish("a")
    assert isinstance(answer.error, Stopped)


def test_a_removed_child_under_a_pause_does_not_come_back() -> None:
    run = suture(intensity=0)
    run.host.crash("a")
    run.tree.remove_child("root", "a").result()
    run.host.advance(20)
    assert run.host.registered.keys() == {"b"}


def test_issue_35_a_hundred_supervisors_stop_at_once() -> None:
    inner = [
        supervisor("one_for_one", Worker(f"w{n}", Idle), id=f"s{n}", backoff=PAUSE, intensity=0)
        for n in range(100)
    ]
    run = running("one_for_one", *inner)
    for number in range(0, 100, 2):
        run.host.crash(f"w{number}", Boom())
    run.tree.stop()
    run.host.advance(20)
    assert run.tree.is_ended
    assert run.host.registered == {}


def test_E_9_an_exception_that_is_passed_through_ends_the_program() -> None:
    run = suture("a b", pass_through=True)
    error = Boom("a")
    run.host.crash("a", error)
    assert run.host.passed == [error]
    assert run.host.take() == "term a"  # and nothing is started again
    run.host.crash("b", "no exception")
    assert run.host.take() == "term b, init b"


@pytest.mark.parametrize("on_a_thread", [True, False])
def test_E_9_a_node_raises_what_is_passed_through(source: str, on_a_thread: bool) -> None:
    class Wrong(Idle):
        def step(self, command: Any, state: Any) -> Any:
            raise Boom(command)

    tree = Supervisor("one_for_one", [Worker("a", Wrong), Worker("b", Idle)], pass_through=True)
    app = Application("fragile", tree)
    if on_a_thread:
        with pytest.raises(Boom, match="mistake"), app.start(backend=source) as node:
            node.cast("a", "mistake")
            node.monitor("b").result(10)
    else:
        node = Node(app, backend=source)
        with pytest.raises(Boom, match="mistake"):
            node.run(lambda node: node.cast("a", "mistake"))
    assert node.exit_status == 1
