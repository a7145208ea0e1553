"""otp.md 1.3 and 1.4 and rules 1, 5, 6: what a failure does to the tree, as a trace."""

from typing import Any

import pytest

from pybehave.runtime.events import ChildTerminated
from tests.builders import Boom, running, supervisor, workers


@pytest.mark.parametrize(
    ("strategy", "trace"),
    [
        ("one_for_one", "term b, init b"),
        ("one_for_all", "term b, term d, term c, term a, init a, init b, init c, init d"),
        ("rest_for_one", "term b, term d, term c, init b, init c, init d"),
    ],
)
def test_rule_1_the_failed_childs_own_terminate_comes_first(strategy: str, trace: str) -> None:
    run = running(strategy, "a b c d")
    run.host.crash("b")
    assert run.host.take() == trace


@pytest.mark.parametrize("reason", ["normal", "shutdown", "boom"])
def test_S1_3_permanent_is_restarted_and_reported_whatever_the_reason(reason: str) -> None:
    run = running("one_for_one", "a")
    run.host.crash("a", reason)
    assert run.host.take() == "term a, init a"
    assert run.host.reported() == ["ChildTerminated a"]


@pytest.mark.parametrize("reason", ["normal", "shutdown"])
def test_S1_3_transient_stays_stopped_after_a_clean_end(reason: str) -> None:
    run = running("one_for_all", "a", *workers("b", restart="transient"), intensity=0)
    run.host.crash("b", reason)
    assert run.host.take() == "term b"
    assert run.host.reported() == []
    assert run.tree.which_children("root")[0].status == "stopped"


def test_S1_3_transient_is_restarted_after_an_abnormal_end() -> None:
    run = running("one_for_all", "a", *workers("b", restart="transient"))
    run.host.crash("b")
    assert run.host.take() == "term b, term a, init a, init b"


@pytest.mark.parametrize(("reason", "reported"), [("normal", []), ("boom", ["ChildTerminated b"])])
def test_S1_3_temporary_is_forgotten_and_never_triggers_the_strategy(
    reason: str, reported: list[str]
) -> None:
    run = running("one_for_all", "a", *workers("b", restart="temporary"), intensity=0)
    run.host.crash("b", reason)
    assert run.host.take() == "term b"
    assert run.host.reported() == reported
    assert [info.id for info in run.tree.which_children("root")] == ["a"]


def test_S1_4_a_sibling_supervisor_stops_and_starts_as_a_whole_subtree() -> None:
    inner = supervisor("one_for_one", "b", supervisor("one_for_one", "c"))
    run = running("rest_for_one", "a", inner, "d")
    run.host.crash("a")
    assert run.host.take() == ("term a, term d, term c, term b, init a, init b, init c, init d")


def test_S1_4_a_strategy_acts_on_its_own_supervisor_only() -> None:
    run = running("one_for_all", "a", supervisor("one_for_all", "b c"), "d")
    before = run.host.registered
    run.host.crash("c")
    assert run.host.take() == "term c, term b, init b, init c"
    assert {name: run.host.registered[name] for name in "ad"} == {n: before[n] for n in "ad"}


def test_rule_6_a_group_resurrects_and_forgets() -> None:
    children: list[Any] = [
        *workers("a"),
        *workers("b", restart="transient"),
        *workers("c", restart="temporary"),
        *workers("d e"),
    ]
    run = running("one_for_all", *children)
    run.host.crash("b", "normal")
    run.tree.terminate_child("root", "d")
    run.host.take()
    run.host.crash("e")
    assert run.host.take() == ("term e, term c, term a, init a, init b, init d, init e")


def test_S1_4_the_second_failure_in_a_group_is_no_failure_of_its_own() -> None:
    """While c takes its time to stop, b crashes: one charge, and the group survives."""
    run = running("one_for_all", "a b c d", intensity=1)
    run.host.slow.add("c")
    run.host.crash("d")
    run.host.crash("b")
    run.host.finish("c")
    assert run.host.take() == (
        "term d, term c ..., term b, term c done, term a, init a, init b, init c, init d"
    )
    assert run.host.reported() == ["ChildTerminated d", "ShutdownError b"]
    assert len(run.tree.supervisor("root").state.attempts) == 1


def test_S1_4_a_second_failure_outside_the_range_is_handled_after_the_group() -> None:
    run = running("rest_for_one", "a b c", intensity=2)
    run.host.slow.add("c")
    run.host.crash("b")
    run.host.crash("a")
    run.host.slow.clear()
    run.host.finish("c")
    assert run.host.take() == (
        "term b, term c ..., term a, term c done, init b, init c, "
        "term c, term b, init a, init b, init c"
    )
    assert len(run.tree.supervisor("root").state.attempts) == 2


def test_S1_4_two_failures_under_one_for_one_are_two_charges() -> None:
    run = running("one_for_one", "a b", intensity=1)
    run.host.crash("a")
    run.host.crash("b")
    assert run.tree.ended_because == "give_up"


@pytest.mark.parametrize(
    ("how", "order"),
    [
        ("restart_child", "init a, init b, init c, init d"),
        ("start_child", "init a, init c, init d, init b"),
    ],
)
def test_S1_4_restart_child_keeps_the_place_and_delete_and_start_gives_it_up(
    how: str, order: str
) -> None:
    run = running("one_for_all", "a b c d")
    run.tree.terminate_child("root", "b")
    if how == "restart_child":
        run.tree.restart_child("root", "b")
    else:
        run.tree.delete_child("root", "b")
        run.tree.start_child("root", workers("b")[0])
    run.host.take()
    run.host.crash("a")
    assert run.host.take().endswith(order)


@pytest.mark.parametrize(("restart", "comes_back"), [("transient", False), ("permanent", True)])
def test_rule_5_a_supervisor_that_gave_up_ended_cleanly(restart: str, comes_back: bool) -> None:
    run = running("one_for_one", "a", supervisor("one_for_one", "b", restart=restart, intensity=0))
    run.host.crash("b")
    assert run.host.take() == ("term b, init b" if comes_back else "term b")
    reported = ["ChildTerminated b", "IntensityReached b", "Escalated supervisor-2"]
    reported += ["ChildTerminated supervisor-2"] if comes_back else []
    assert run.host.reported() == reported


def test_a_crash_reports_the_exception_with_its_traceback() -> None:
    run = running("one_for_one", "a")
    run.host.crash("a")
    event = next(e for e in run.host.events if isinstance(e, ChildTerminated))
    assert isinstance(event.reason, Boom)
    assert (event.supervisor, event.restart, event.verdict) == ("root", "permanent", "restart")
