"""otp.md 1.10, and restarts on purpose (features.md R8): neither is a failure."""

import pytest

from pybehave.behaviours.child_spec import Worker
from pybehave.errors import NotFound, SpecError, StartFailed
from tests.builders import Idle, running, supervisor, workers


def test_S1_10_nothing_starts_or_stops_new_children_are_stopped_missing_ones_stay_behind() -> None:
    run = running("one_for_one", "a b c")
    assert run.tree.reconfigure("root", supervisor("one_for_all", "d b a")).result() == ["d"]
    assert run.host.take() == ""
    children = [(info.id, info.status) for info in run.tree.which_children("root")]
    assert children == [("c", "running"), ("a", "running"), ("b", "running"), ("d", "stopped")]


def test_S1_10_the_new_flags_hold_at_once() -> None:
    run = running("one_for_one", "a b", intensity=0)
    run.tree.reconfigure("root", supervisor("one_for_all", "a b", intensity=5)).result()
    run.host.crash("b")
    assert run.host.take() == "term b, term a, init a, init b"


def test_S1_10_a_child_gets_its_new_specification_when_it_starts_again() -> None:
    run = running("one_for_one", Worker("a", Idle, 1))
    run.tree.reconfigure("root", supervisor("one_for_one", Worker("a", Idle, 2))).result()
    assert run.host.names["a"].state == 1
    run.host.crash("a")
    assert run.host.names["a"].state == 2


def test_S1_10_what_was_charged_stays_charged() -> None:
    run = running("one_for_one", "a", intensity=3)
    run.host.crash("a")
    run.host.crash("a")
    run.tree.reconfigure("root", supervisor("one_for_one", "a", intensity=1)).result()
    run.host.crash("a")
    assert run.ended == ["shutdown"]


def test_S1_10_a_supervisor_keeps_its_new_specification_through_its_own_restart() -> None:
    inner = supervisor("one_for_one", "a", id="inner", intensity=0)
    run = running("one_for_one", inner, intensity=5)
    changed = supervisor("one_for_one", "a b", id="inner", intensity=0)
    run.tree.reconfigure("inner", changed).result()
    run.host.crash("a")
    assert run.host.take() == "term a, init a, init b"


def test_S1_10_how_a_supervisor_is_treated_itself_is_its_parents_matter() -> None:
    inner = supervisor("one_for_one", "a", id="inner", intensity=0, restart="temporary")
    run = running("one_for_one", inner, intensity=5)
    run.tree.reconfigure("inner", supervisor("one_for_one", "a", intensity=0)).result()
    run.host.crash("a")
    assert run.tree.which_children("root") == []


def test_S1_10_a_refused_change_leaves_everything_as_it_was() -> None:
    flags = {"restart": "transient", "significant": True}
    run = running("one_for_one", "a", *workers("s", **flags), auto_shutdown="any_significant")
    before = run.tree.which_children("root")
    template = supervisor("simple_one_for_one", "a")
    nested = supervisor("one_for_one", supervisor("one_for_one", "b", id="a"), "s")
    for spec in (supervisor("one_for_one", "a"), template, nested, "no specification"):
        with pytest.raises(SpecError):
            run.tree.reconfigure("root", spec).result()  # type: ignore[arg-type]
    assert run.tree.which_children("root") == before
    assert run.tree.supervisor("root").state.spec.auto_shutdown == "any_significant"


def test_S1_10_made_children_keep_their_arguments_and_get_the_new_template() -> None:
    run = running("simple_one_for_one", Worker("s", Idle, restart="temporary"))
    run.tree.start_child("root", [7])
    run.tree.reconfigure("root", supervisor("simple_one_for_one", "s")).result()
    run.host.crash("s-1")
    assert run.host.names["s-1"].state == (7,)


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_R8_a_restart_on_purpose_is_no_failure_and_leaves_siblings_alone(strategy: str) -> None:
    inner = supervisor("one_for_all", "b c", id="inner")
    run = running(strategy, "a", inner, "d", intensity=0)
    assert run.tree.restart("root", "inner").result() == "root/inner"
    assert run.host.take() == "term c, term b, init b, init c"
    assert run.tree.restart("root", "a").result() is run.host.names["a"]
    assert not run.tree.supervisor("root").state.attempts
    assert run.tree.which_children("root")[2].restarts == 0


def test_R8_a_restart_on_purpose_starts_what_is_stopped_and_overtakes_a_retry() -> None:
    run = running("one_for_one", "a b")
    run.tree.terminate_child("root", "a").result()
    run.tree.restart("root", "a").result()
    run.host.fail_init("b")
    run.host.crash("b")
    run.tree.restart("root", "b").result()
    run.host.take()
    assert run.host.run_deferred() == 1
    assert run.host.take() == ""


def test_R8_a_restart_on_purpose_that_fails_leaves_the_child_stopped() -> None:
    run = running("one_for_one", "a")
    run.host.fail_init("a")
    with pytest.raises(StartFailed):
        run.tree.restart("root", "a").result()
    assert run.tree.which_children("root")[0].status == "stopped"
    with pytest.raises(NotFound):
        run.tree.restart("root", "b").result()


def test_R8_temporary_and_made_children_are_started_again_too() -> None:
    run = running("one_for_one", *workers("t", restart="temporary"))
    run.tree.restart("root", "t").result()
    assert run.host.take() == "term t, init t"
    family = running("simple_one_for_one", "s")
    family.tree.start_child("root", [1])
    family.tree.restart("root", "s-1").result()
    assert family.tree.count_children("root") == (1, 1, 0, 1)
