"""otp.md 1.7: significant children that end end their supervisor."""

import pytest

from tests.builders import Run, running, supervisor, workers


def tree_of(auto: str, restart: str = "transient") -> Run:
    significant = workers("s t", restart=restart, significant=True)
    return running("one_for_one", "a", *significant, "b", auto_shutdown=auto)


@pytest.mark.parametrize(
    ("restart", "reason"),
    [("transient", "normal"), ("transient", "shutdown"), ("temporary", "boom")],
)
def test_S1_7_any_significant_ends_the_supervisor_with_the_first(restart: str, reason: str) -> None:
    run = tree_of("any_significant", restart)
    run.host.crash("s", reason)
    assert run.host.take() == "term s, term b, term t, term a"
    assert (run.ended, run.tree.ended_because) == (["shutdown"], "auto_shutdown")
    assert "IntensityReached s" not in run.host.reported()


def test_S1_7_all_significant_ends_it_with_the_last() -> None:
    run = tree_of("all_significant")
    run.host.crash("t", "normal")
    assert run.ended == []
    run.host.crash("s", "normal")
    assert run.host.take() == "term t, term s, term b, term a"
    assert run.ended == ["shutdown"]


def test_S1_7_one_stopped_through_terminate_child_does_not_count_as_active() -> None:
    run = tree_of("all_significant")
    run.tree.terminate_child("root", "t")
    assert run.ended == []
    run.host.crash("s", "normal")
    assert run.ended == ["shutdown"]


def test_S1_7_an_abnormal_end_of_a_transient_child_is_restarted() -> None:
    run = tree_of("any_significant")
    run.host.crash("s", "boom")
    assert run.host.take() == "term s, init s"


def test_S1_7_terminate_child_ends_nobody_else() -> None:
    run = tree_of("any_significant")
    run.tree.terminate_child("root", "s")
    run.tree.terminate_child("root", "t")
    assert run.ended == []


def test_S1_7_being_stopped_with_a_group_ends_nobody_else() -> None:
    significant = workers("s", restart="transient", significant=True)
    run = running("one_for_all", "a", *significant, auto_shutdown="any_significant")
    run.host.crash("a")
    assert run.host.take() == "term a, term s, init a, init s"


def test_S1_7_the_effect_cascades_through_significant_transient_supervisors() -> None:
    innermost = workers("s", restart="transient", significant=True)
    inner = supervisor(
        "one_for_one",
        *innermost,
        "b",
        auto_shutdown="any_significant",
        restart="transient",
        significant=True,
    )
    run = running("one_for_one", "a", inner, auto_shutdown="any_significant")
    run.host.crash("s", "normal")
    assert run.host.take() == "term s, term b, term a"
    assert run.tree.ended_because == "auto_shutdown"


def test_S1_7_a_permanent_supervisor_is_restarted_and_charged() -> None:
    innermost = workers("s", restart="transient", significant=True)
    inner = supervisor("one_for_one", *innermost, "b", auto_shutdown="any_significant")
    run = running("one_for_one", "a", inner)
    run.host.crash("s", "normal")
    assert run.host.take() == "term s, term b, init s, init b"
    assert len(run.tree.supervisor("root").state.attempts) == 1
