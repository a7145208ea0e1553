"""otp.md 1.6 and rules 2, 3: a restart that fails is tried again through a queued event."""

import pytest

from pybehave.errors import AlreadyPresent, Restarting
from pybehave.runtime.events import IntensityReached, StartError
from tests.builders import Boom, Run, running, supervisor, workers


def failing(strategy: str, names: str, fails: str, times: int = 1, intensity: int = 4) -> Run:
    """A tree where "b" crashed and the restart of `fails` has failed once."""
    run = running(strategy, names, intensity=intensity)
    run.host.fail_init(fails, times)
    run.host.crash("b")
    return run


def test_S1_6_a_start_that_keeps_failing_is_tried_as_often_as_the_intensity_says() -> None:
    run = running("one_for_one", "a b", intensity=4)
    run.host.fail_init("a", 99)
    run.host.crash("a")
    assert run.host.run_deferred() == 4
    assert run.host.take() == "term a, " + "initfail a, " * 4 + "term b"
    assert run.host.reported() == ["ChildTerminated a", *["StartError a"] * 4, *END]


END = ["IntensityReached a", "Escalated root"]


def test_rule_2_a_retry_is_an_event_at_the_end_of_the_queue_never_a_loop() -> None:
    run = failing("one_for_one", "a b", "b", times=3)
    assert run.host.take() == "term b, initfail b"
    assert len(run.host.deferred) == 1
    run.host.run_deferred(times=1)
    assert run.host.take() == "initfail b"
    assert len(run.host.deferred) == 1


def test_rule_2_other_children_are_handled_between_two_tries() -> None:
    run = failing("one_for_one", "a b", "b", times=2)
    run.host.crash("a")
    run.host.run_deferred()
    assert run.host.take() == "term b, initfail b, term a, init a, initfail b, init b"
    assert len(run.tree.supervisor("root").state.attempts) == 4


def test_S1_6_one_for_all_stops_what_had_started_and_starts_all_again() -> None:
    run = failing("one_for_all", "a b c d", "c")
    assert run.host.take() == "term b, term d, term c, term a, init a, init b, initfail c"
    run.host.run_deferred()
    assert run.host.take() == "term b, term a, init a, init b, init c, init d"


def test_S1_6_rest_for_one_retries_from_the_failed_child_on() -> None:
    run = failing("rest_for_one", "a b c d", "c")
    assert run.host.take() == "term b, term d, term c, init b, initfail c"
    run.host.run_deferred()
    assert run.host.take() == "init c, init d"


def test_S1_6_stopping_does_not_wait_for_a_retry() -> None:
    run = failing("one_for_one", "a b", "b", times=99)
    run.tree.stop()
    assert run.tree.is_ended
    run.host.run_deferred()
    assert run.host.take() == "term b, initfail b, term a"


def test_S1_6_which_children_says_restarting() -> None:
    run = failing("one_for_all", "a b c", "b")
    listed = [(info.id, info.status, info.ref) for info in run.tree.which_children("root")]
    assert listed[:2] == [("c", "stopped", None), ("b", "restarting", None)]
    assert listed[2][:2] == ("a", "running")


def test_S1_6_requests_meet_a_child_that_is_restarting() -> None:
    run = failing("one_for_one", "a b", "b")
    with pytest.raises(AlreadyPresent):
        run.tree.start_child("root", workers("b")[0]).result()
    for request in (run.tree.restart_child, run.tree.delete_child):
        with pytest.raises(Restarting):
            request("root", "b").result()


def test_S1_6_terminate_child_cancels_the_retry_and_keeps_the_spec() -> None:
    run = failing("one_for_one", "a b", "b")
    run.tree.terminate_child("root", "b").result()
    run.host.run_deferred()
    assert run.host.take() == "term b, initfail b"
    assert run.tree.which_children("root")[0].status == "stopped"


def test_R7_a_group_restart_in_between_makes_the_queued_retry_void() -> None:
    run = failing("one_for_all", "a b c", "b")
    run.host.crash("a")
    run.host.take()
    run.host.run_deferred()
    assert run.host.take() == ""
    assert len(run.tree.supervisor("root").state.attempts) == 2


def test_S1_6_a_retry_after_the_supervisor_itself_was_restarted_is_void() -> None:
    run = running("one_for_all", "x", supervisor("one_for_one", "a b", intensity=4))
    run.host.fail_init("b")
    run.host.crash("b")
    run.host.crash("x")
    run.host.take()
    run.host.run_deferred()
    assert run.host.take() == ""


def test_S1_6_a_nested_supervisor_that_does_not_start_is_retried_as_a_whole() -> None:
    run = running("one_for_one", "a", supervisor("one_for_one", "b c", intensity=0), intensity=2)
    run.host.fail_init("c")
    run.host.crash("b")
    assert run.host.take() == "term b, term c, init b, initfail c, term b"
    run.host.run_deferred()
    assert run.host.take() == "init b, init c"
    assert run.host.reported(StartError) == ["StartError c", "StartError supervisor-2"]


def test_S1_6_a_nested_start_that_is_rolled_back_slowly_is_retried_afterwards() -> None:
    run = running("one_for_one", "a", supervisor("one_for_one", "b c", intensity=0), intensity=2)
    run.host.slow.add("b")
    run.host.fail_init("c")
    run.host.crash("c")
    run.host.finish("b")
    assert run.host.take() == "term c, term b ..., term b done, init b, initfail c, term b ..."
    assert run.tree.supervisor("root").phase.value == "working"
    run.host.finish("b")
    run.host.run_deferred()
    assert run.host.take() == "term b done, init b, init c"


def test_rule_3_the_charge_comes_before_the_try() -> None:
    run = failing("one_for_one", "b", "b", times=1, intensity=1)
    run.host.run_deferred()
    assert run.host.take() == "term b, initfail b"
    assert run.ended == ["shutdown"]


def test_giving_up_on_a_retry_reports_why_the_start_failed() -> None:
    run = failing("one_for_one", "b", "b", times=1, intensity=1)
    run.host.run_deferred()
    event = next(e for e in run.host.events if isinstance(e, IntensityReached))
    assert isinstance(event.reason, Boom)


def test_an_ignored_restart_leaves_the_child_stopped_and_is_no_failure() -> None:
    run = running("one_for_one", "a b")
    run.host.ignore_init("a")
    run.host.crash("a")
    assert run.host.take() == "term a, ignore a"
    assert run.tree.which_children("root")[1].status == "stopped"
    assert not run.host.deferred
