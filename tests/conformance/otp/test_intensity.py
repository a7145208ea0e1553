"""otp.md 1.5: the window on several levels, what is charged and what is not, giving up."""

import pytest

from tests.builders import Run, running, supervisor, workers


def test_S1_5_giving_up_does_not_start_the_child_again_and_stops_the_rest_in_reverse() -> None:
    run = running("one_for_one", "a b c", intensity=0)
    run.host.crash("b")
    assert run.host.take() == "term b, term c, term a"
    assert run.host.reported() == ["ChildTerminated b", "IntensityReached b", "Escalated root"]
    assert run.ended == ["shutdown"]
    assert run.tree.ended_because == "give_up"


def test_A0_18_the_sixth_failure_within_the_period_ends_the_supervisor() -> None:
    run = running("one_for_one", "a", intensity=5, period=10)
    for _ in range(5):
        run.host.crash("a")
        run.host.advance(2)
    assert run.ended == []
    run.host.crash("a")
    assert run.ended == ["shutdown"]


def test_S1_5_failures_further_apart_than_the_period_never_end_it() -> None:
    run = running("one_for_one", "a", intensity=1, period=5)
    for _ in range(50):
        run.host.crash("a")
        run.host.advance(5.001)
    assert run.ended == []


def test_S1_5_levels_multiply() -> None:
    run = running("one_for_one", supervisor("one_for_one", "a"))
    for failure in range(1, 5):
        assert run.ended == []
        run.host.crash("a")
        assert failure == 4 or "a" in run.host.names
    assert run.ended == ["shutdown"]


def test_S1_5_a_restarted_supervisor_starts_with_an_empty_window() -> None:
    run = running("one_for_one", supervisor("one_for_one", "a", intensity=1), intensity=9)
    run.host.crash("a")
    run.host.crash("a")
    assert len(run.tree.supervisor("supervisor-1").state.attempts) == 0
    run.host.crash("a")
    assert len(run.tree.supervisor("root").state.attempts) == 1


def test_S1_5_what_is_not_charged() -> None:
    run = running("one_for_all", "a b", intensity=0)
    tree = run.tree
    tree.start_child("root", workers("c")[0])
    tree.terminate_child("root", "c")
    run.host.fail_init("c")
    tree.restart_child("root", "c")
    tree.restart_child("root", "c")
    run.host.fail_init("d")
    tree.start_child("root", workers("d")[0])
    assert run.ended == []
    assert len(tree.supervisor("root").state.attempts) == 0


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_S1_5_a_group_is_one_charge(strategy: str) -> None:
    run = running(strategy, "a b c d", intensity=1)
    run.host.crash("a")
    assert run.ended == []
    assert len(run.tree.supervisor("root").state.attempts) == 1


def test_A0_8_giving_up_meets_the_parents_strategy() -> None:
    inner = supervisor("one_for_one", "b c", intensity=0)
    run = running("rest_for_one", "a", inner, "d")
    run.host.crash("c")
    assert run.host.take() == "term c, term b, term d, init b, init c, init d"


def test_the_root_may_start_again_after_it_gave_up() -> None:
    run = running("one_for_one", "a", intensity=0)
    run.host.crash("a")
    run.tree.start()
    assert run.host.registered == {"a": 2}
    assert run.tree.ended_because is None


def test_S1_5_a_supervisor_that_gives_up_slowly_can_be_stopped_meanwhile() -> None:
    run = running("one_for_one", "a", supervisor("one_for_one", "b c", intensity=0), "d")
    run.host.slow.add("b")
    run.host.crash("c")
    reasons: list[object] = []
    run.tree.stop(done=reasons.append)
    assert run.host.take() == "term c, term b ..., term d"
    run.host.finish("b")
    assert run.host.take() == "term b done, term a"
    assert reasons == ["shutdown"]
    assert run.ended == []


def test_a_tree_that_ended_has_no_supervisors() -> None:
    run = Run(supervisor("one_for_one", supervisor("one_for_one", "a", intensity=0), intensity=0))
    run.start()
    run.host.crash("a")
    assert run.tree.supervisors == {}
    assert len(run.tree.workers) == 0
    assert run.tree.dump() == "root  stopped"
