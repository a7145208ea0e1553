"""otp.md 1.9: children made from a template."""

import pytest

from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.supervisor import Supervisor
from pybehave.errors import (
    AlreadyPresent,
    AlreadyStarted,
    NotFound,
    SimpleOneForOne,
    SpecError,
    StartFailed,
)
from tests.builders import Idle, Run, running, supervisor, workers


def family(**fields: object) -> Run:
    return running("simple_one_for_one", *workers("s", args=("shared",)), intensity=9, **fields)


def test_S1_9_there_is_no_child_at_start_and_each_has_its_own_arguments() -> None:
    run = family()
    assert run.host.registered == {}
    one = run.tree.start_child("root", [1, 2]).result()
    other = run.tree.start_child("root", [], "named").result()
    assert (one.name, one.state) == ("s-1", ("shared", 1, 2))
    assert (other.name, other.state) == ("named", ("shared",))


def test_S1_9_a_restarted_child_keeps_its_arguments_and_leaves_the_others_alone() -> None:
    run = family()
    one = run.tree.start_child("root", [1]).result()
    run.tree.start_child("root", [2])
    run.host.crash("s-1")
    assert run.host.names["s-1"].state == ("shared", 1)
    assert run.host.names["s-1"] is not one
    assert run.host.take() == "init s-1, init s-2, term s-1, init s-1"


def test_S1_9_terminate_child_takes_a_name_or_a_reference_also_one_that_has_ended() -> None:
    run = family()
    one, two = (run.tree.start_child("root", []).result() for _ in range(2))
    run.tree.terminate_child("root", one).result()
    run.tree.terminate_child("root", one).result()
    run.tree.terminate_child("root", "s-2").result()
    assert run.tree.which_children("root") == []
    with pytest.raises(NotFound):
        run.tree.terminate_child("root", "s-2").result()
    assert run.tree.terminate_child("root", two).result() is None


def test_S1_9_a_reference_of_somebody_else_is_not_found() -> None:
    run = running("one_for_one", "a", supervisor("simple_one_for_one", "s", id="family"))
    with pytest.raises(NotFound):
        run.tree.terminate_child("family", run.host.names["a"]).result()
    assert run.host.registered == {"a": 1}


def test_S1_9_an_ended_reference_of_a_retried_child_ends_the_attempts() -> None:
    run = family()
    one = run.tree.start_child("root", []).result()
    run.host.fail_init("s-1", 9)
    run.host.crash("s-1")
    assert run.tree.count_children("root") == (1, 0, 0, 1)
    run.tree.terminate_child("root", one).result()
    assert run.host.run_deferred() == 1
    assert run.tree.count_children("root") == (1, 0, 0, 0)


def test_S1_9_restart_child_and_delete_child_are_refused() -> None:
    run = family()
    run.tree.start_child("root", [])
    for request in (run.tree.restart_child, run.tree.delete_child):
        with pytest.raises(SimpleOneForOne, match="start_child"):
            request("root", "s-1").result()


def test_S1_9_get_childspec_of_the_template_needs_no_child() -> None:
    run = family()
    template = run.tree.get_childspec("root", "s")
    run.tree.start_child("root", [1])
    assert run.tree.get_childspec("root", "s-1") is run.tree.get_childspec("root", "s") is template
    with pytest.raises(NotFound):
        run.tree.get_childspec("root", "s-2")


def test_S1_9_a_start_that_fails_stores_nothing_and_a_taken_name_is_refused() -> None:
    run = family()
    run.host.fail_init("a")
    with pytest.raises(StartFailed):
        run.tree.start_child("root", [], "a").result()
    run.tree.start_child("root", [], "a").result()
    with pytest.raises(AlreadyStarted):
        run.tree.start_child("root", [], "a").result()
    run.host.fail_init("a", 9)
    run.host.crash("a")
    with pytest.raises(AlreadyPresent):
        run.tree.start_child("root", [], "a").result()


def test_S1_9_an_init_that_ignores_leaves_nothing_behind() -> None:
    run = family()
    run.host.ignore_init("s-1")
    assert run.tree.start_child("root", []).result() is None
    assert run.tree.count_children("root") == (1, 0, 0, 0)


def test_S1_9_all_stop_together_within_one_time() -> None:
    run = running("one_for_one", supervisor("simple_one_for_one", "s", id="family"))
    run.host.slow |= {"s-1", "s-2", "s-3"}
    for _ in range(3):
        run.tree.start_child("family", [])
    stopped: list[object] = []
    run.tree.stop(done=stopped.append)
    assert set(run.host.stopping) == {"s-1", "s-2", "s-3"}
    assert {timeout for timeout, _ in run.host.stopping.values()} == {5.0}
    for name in ("s-2", "s-1", "s-3"):
        assert stopped == []
        run.host.finish(name)
    assert run.tree.is_ended
    assert stopped == ["shutdown"]


def test_a_family_that_is_killed_while_it_stops_is_waited_for_no_more() -> None:
    inner = supervisor("simple_one_for_one", "s", id="family", shutdown="brutal_kill")
    outer = supervisor("one_for_all", inner, "a", id="outer")
    run = running("one_for_one", outer)
    run.tree.start_child("family", [])
    run.host.slow.add("s-1")
    run.host.crash("a")
    assert run.host.take() == "init s-1, term a, kill s-1, init a"


def test_one_that_ends_while_all_stop_is_no_failure_of_its_own() -> None:
    run = family()
    for _ in range(2):
        run.tree.start_child("root", [])
    run.host.hooks["term s-2"] = lambda: run.host.crash("s-1")
    run.tree.stop()
    assert run.host.take() == "init s-1, init s-2, term s-2, term s-1"
    assert run.tree.is_ended


@pytest.mark.parametrize("children", [[], workers("a b"), [supervisor("one_for_one", "a")]])
def test_a_template_is_exactly_one_worker(children: list[Worker]) -> None:
    with pytest.raises(SpecError, match="exactly one Worker"):
        Supervisor("simple_one_for_one", children)


def test_what_start_child_may_be_given_depends_on_the_strategy() -> None:
    run = running("one_for_one", "a", supervisor("simple_one_for_one", "s", id="family"))
    for supervisor_id, what, name, sentence in (
        ("root", [1], None, "not a child specification"),
        ("root", workers("b")[0], "c", "own name"),
        ("family", workers("b")[0], None, "a list of further args"),
        ("family", [], "a/b", "without"),
    ):
        with pytest.raises(SpecError, match=sentence):
            run.tree.start_child(supervisor_id, what, name).result()
    assert run.host.registered == {"a": 1}


def test_args_that_are_no_list_cannot_be_added_to() -> None:
    run = running("simple_one_for_one", Worker("s", Idle, {"port": 1}))
    assert run.tree.start_child("root", []).result().state == {"port": 1}
    with pytest.raises(SpecError, match="template: args="):
        run.tree.start_child("root", [2]).result()


def test_a_journaled_child_needs_a_name() -> None:
    run = running("simple_one_for_one", Worker("s", Idle, journal=True))
    with pytest.raises(SpecError, match="a name for a journaled child"):
        run.tree.start_child("root", []).result()
    assert run.tree.start_child("root", [], "s-a").result().worker.name == "s-a"
