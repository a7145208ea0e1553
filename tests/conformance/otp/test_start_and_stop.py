"""otp.md 1.2: start and stop of supervisors."""

from typing import Any

import pytest

from pybehave.errors import SpecError, StartFailed
from pybehave.runtime.events import ChildStopped, ShutdownError, StartError
from pybehave.types import Shutdown
from tests.builders import Boom, Run, running, supervisor, workers

NESTED = ("a", supervisor("rest_for_one", "b c", supervisor("one_for_all", "d"), "e"), "f")


def test_S1_2_children_start_depth_first_from_left_to_right() -> None:
    run = Run(supervisor("one_for_one", *NESTED))
    run.tree.start()
    assert run.host.take() == "init a, init b, init c, init d, init e, init f"


def test_S1_2_a_supervisor_stops_in_exact_reverse() -> None:
    run = running("one_for_one", *NESTED)
    reasons: list[object] = []
    run.tree.stop(Shutdown("moved"), reasons.append)
    assert run.host.take() == "term f, term e, term d, term c, term b, term a"
    assert reasons == [Shutdown("moved")]
    assert run.tree.is_ended


def test_S1_2_a_failed_start_is_rolled_back_and_not_retried() -> None:
    run = Run(supervisor("one_for_one", *NESTED))
    run.host.fail_init("e")
    with pytest.raises(StartFailed) as caught:
        run.tree.start()
    assert run.host.take() == (
        "init a, init b, init c, init d, initfail e, term d, term c, term b, term a"
    )
    assert not run.host.deferred
    assert run.tree.is_ended
    assert caught.value.path == "root/supervisor-2"
    assert isinstance(caught.value.reason, StartFailed)
    assert caught.value.reason.path == "root/supervisor-2/e"
    assert isinstance(caught.value.root_cause, Boom)


def test_S1_2_a_failed_start_can_be_tried_again_from_nothing() -> None:
    run = Run(supervisor("one_for_one", "a b"))
    run.host.fail_init("b")
    with pytest.raises(StartFailed):
        run.tree.start()
    run.host.take()
    run.tree.start()
    assert run.host.take() == "init a, init b"
    assert run.ended == []


def test_S1_2_a_child_that_ignores_stays_stopped_in_the_list() -> None:
    children = [*workers("a"), *workers("b", restart="temporary"), *workers("c")]
    run = Run(supervisor("one_for_one", *children))
    run.host.ignore_init("a")
    run.host.ignore_init("b")
    run.tree.start()
    assert run.host.take() == "ignore a, ignore b, init c"
    assert [info.id for info in run.tree.which_children("root")] == ["c", "a"]
    count = run.tree.count_children("root")
    assert (count.specs, count.active, count.workers) == (2, 1, 2)
    assert run.tree.restart_child("root", "a").result() is not None


def test_S1_2_brutal_kill_calls_no_terminate() -> None:
    run = running("one_for_one", "a", *workers("b", shutdown="brutal_kill"))
    run.tree.stop()
    assert run.host.take() == "kill b, term a"
    assert run.host.reported() == []


@pytest.mark.parametrize(("shutdown", "timeout"), [(0, 0), (2.5, 2.5), ("infinity", None)])
def test_S1_2_a_child_has_its_own_time_to_stop(shutdown: Any, timeout: float | None) -> None:
    run = running("one_for_one", *workers("a", shutdown=shutdown))
    run.host.slow.add("a")
    run.tree.stop()
    assert run.host.stopping["a"][0] == timeout


def test_S1_2_children_stop_one_after_the_other() -> None:
    run = running("one_for_one", "a b c")
    run.host.slow |= {"a", "b", "c"}
    reasons: list[object] = []
    run.tree.stop(done=reasons.append)
    for name in ("c", "b", "a"):
        assert list(run.host.stopping) == [name]
        assert reasons == []
        run.host.finish(name)
    assert reasons == ["shutdown"]


def test_S1_2_a_child_killed_after_its_time_is_reported_and_the_stop_goes_on() -> None:
    run = running("one_for_one", "a b")
    run.host.slow.add("b")
    run.tree.stop()
    run.host.finish("b", "killed")
    assert run.host.take() == "term b ..., term b done, term a"
    assert run.host.reported() == ["ShutdownError b"]
    assert run.tree.is_ended


def test_A0_21_a_terminate_that_raises_is_reported_and_blocks_nobody() -> None:
    run = running("one_for_all", "a b c")
    run.host.terminate_results["b"] = Boom("in terminate")
    run.host.crash("c")
    assert run.host.take() == "term c, term b, term a, init a, init b, init c"
    assert run.host.reported() == ["ChildTerminated c", "ShutdownError b"]
    assert len(run.tree.supervisor("root").state.attempts) == 1


@pytest.mark.parametrize(
    ("restart", "reason", "event"),
    [
        ("permanent", "normal", ShutdownError),
        ("permanent", Shutdown(1), ShutdownError),
        ("transient", "normal", ChildStopped),
        ("temporary", Shutdown(1), ChildStopped),
    ],
)
def test_S1_2_another_clean_answer_to_a_stop_is_an_error_of_permanent_children(
    restart: str, reason: object, event: Any
) -> None:
    run = running("one_for_one", *workers("a", restart=restart))
    run.host.terminate_results["a"] = reason
    run.tree.stop()
    assert run.host.reported(event) == [f"{event.__name__} a"]


def test_S1_1_nothing_starts_when_the_specification_is_wrong() -> None:
    with pytest.raises(SpecError):
        running("one_for_one", "a a")


def test_a_supervisor_with_a_time_limit_kills_what_is_left_when_it_has_passed() -> None:
    inner = supervisor("one_for_one", "b c d", shutdown=2.0)
    run = running("one_for_one", "a", inner)
    run.host.slow |= {"c", "d"}
    run.tree.stop()
    assert run.host.stopping["d"][0] == 2.0
    run.host.advance(1.5)
    run.host.finish("d")
    assert run.host.stopping["c"][0] == 0.5
    run.host.advance(0.5)
    run.host.finish("c", "killed")
    assert run.host.take().endswith("kill b, term a")
    assert run.host.reported() == [
        "ShutdownError c",
        "ShutdownError b",
        "ShutdownError supervisor-2",
    ]


def test_a_supervisor_that_is_killed_brutally_kills_all_below_in_reverse() -> None:
    inner = supervisor("one_for_one", "b", supervisor("one_for_one", "c"), shutdown="brutal_kill")
    run = running("one_for_one", "a", inner)
    run.tree.stop()
    assert run.host.take() == "kill c, kill b, term a"
    assert run.host.reported() == []


def test_a_stop_of_what_is_not_running_is_over_at_once() -> None:
    run = running("one_for_one", "a")
    reasons: list[object] = []
    run.tree.stop("shutdown", reasons.append)
    run.tree.stop("again", reasons.append)
    assert reasons == ["shutdown", "again"]
    assert run.ended == []


def test_two_stops_at_once_are_both_answered() -> None:
    run = running("one_for_one", "a")
    run.host.slow.add("a")
    reasons: list[object] = []
    run.tree.stop("one", reasons.append)
    run.tree.stop("two", reasons.append)
    run.host.finish("a")
    assert reasons == ["one", "two"]


def test_a_roll_back_that_takes_time_ends_the_tree_later() -> None:
    run = Run(supervisor("one_for_one", "a", supervisor("one_for_one", "b c")))
    run.host.slow |= {"a", "b"}
    run.host.fail_init("c")
    with pytest.raises(StartFailed):
        run.tree.start()
    assert not run.tree.is_ended
    run.host.finish("b")
    run.host.finish("a")
    assert run.tree.is_ended
    assert [type(reason) for reason in run.ended] == [StartFailed]
    assert run.host.reported(StartError) == ["StartError c", "StartError supervisor-2"]
