"""otp.md 1.8: requests about single children, on a running tree."""

import pytest

from pybehave.errors import (
    AlreadyPresent,
    AlreadyStarted,
    NotFound,
    Running,
    SpecError,
    StartFailed,
    Stopped,
)
from pybehave.runtime.tree.tree import Answer
from tests.builders import Boom, running, supervisor, workers


def test_S1_8_start_child_adds_at_the_end() -> None:
    run = running("one_for_one", "a b")
    ref = run.tree.start_child("root", workers("c")[0]).result()
    assert ref is run.host.names["c"]
    assert [info.id for info in run.tree.which_children("root")] == ["c", "b", "a"]


def test_S1_8_start_child_with_a_taken_id() -> None:
    run = running("one_for_one", "a b")
    with pytest.raises(AlreadyStarted) as caught:
        run.tree.start_child("root", workers("a")[0]).result()
    assert caught.value.ref is run.host.names["a"]
    run.tree.terminate_child("root", "a").result()
    with pytest.raises(AlreadyPresent):
        run.tree.start_child("root", workers("a")[0]).result()


def test_S2_start_child_with_a_taken_name_starts_nothing() -> None:
    run = running("one_for_one", "a", supervisor("one_for_one", "b"))
    with pytest.raises(AlreadyStarted):
        run.tree.start_child("root", workers("x", name="b")[0]).result()
    assert run.tree.count_children("root").specs == 2


def test_S1_8_a_start_that_fails_stores_nothing() -> None:
    run = running("one_for_one", "a")
    run.host.fail_init("b")
    with pytest.raises(StartFailed) as caught:
        run.tree.start_child("root", workers("b")[0]).result()
    assert isinstance(caught.value.root_cause, Boom)
    assert run.tree.count_children("root").specs == 1
    assert run.tree.start_child("root", workers("b")[0]).result()


def test_S1_8_a_whole_subtree_can_be_started_and_stopped() -> None:
    run = running("one_for_one", "a")
    inner = supervisor("rest_for_one", "b c", id="inner")
    assert run.tree.start_child("root", inner).result() == "root/inner"
    run.host.crash("b")
    run.tree.terminate_child("root", "inner").result()
    assert run.host.take() == "init b, init c, term b, term c, init b, init c, term c, term b"


def test_a_subtree_that_does_not_start_stores_nothing_and_leaves_nothing_running() -> None:
    run = running("one_for_one", "a")
    run.host.fail_init("c")
    run.host.slow.add("b")
    answer = run.tree.start_child("root", supervisor("rest_for_one", "b c", id="inner"))
    assert not answer.is_done
    run.host.finish("b")
    assert isinstance(answer.error, StartFailed)
    assert run.host.registered == {"a": 1}
    assert list(run.tree.supervisors) == ["root"]


def test_a_supervisor_that_is_added_later_needs_an_id() -> None:
    run = running("one_for_one", "a")
    with pytest.raises(SpecError, match="id=None"):
        run.tree.start_child("root", supervisor("one_for_one", "b")).result()


def test_S1_8_terminate_child_keeps_the_spec_unless_temporary() -> None:
    run = running("one_for_one", "a", *workers("t", restart="temporary"))
    for name in ("a", "a", "t"):
        assert run.tree.terminate_child("root", name).result() is None
    assert [(info.id, info.status) for info in run.tree.which_children("root")] == [
        ("a", "stopped")
    ]
    with pytest.raises(NotFound):
        run.tree.terminate_child("root", "t").result()


def test_S1_8_restart_child_keeps_the_place_and_fails_without_charge() -> None:
    run = running("one_for_one", "a b", intensity=0)
    with pytest.raises(Running):
        run.tree.restart_child("root", "a").result()
    run.tree.terminate_child("root", "a").result()
    run.host.fail_init("a")
    with pytest.raises(StartFailed):
        run.tree.restart_child("root", "a").result()
    assert run.tree.which_children("root")[1].status == "stopped"
    assert run.tree.restart_child("root", "a").result() is run.host.names["a"]
    assert [info.id for info in run.tree.which_children("root")] == ["b", "a"]


def test_S1_8_delete_child_wants_a_stopped_child() -> None:
    run = running("one_for_one", "a b")
    with pytest.raises(Running):
        run.tree.delete_child("root", "a").result()
    run.tree.terminate_child("root", "a").result()
    run.tree.delete_child("root", "a").result()
    with pytest.raises(NotFound):
        run.tree.delete_child("root", "a").result()


def test_S1_8_get_childspec() -> None:
    run = running("one_for_one", "a")
    assert run.tree.get_childspec("root", "a") == workers("a")[0]
    with pytest.raises(NotFound):
        run.tree.get_childspec("root", "b")


def test_S1_8_dynamic_children_live_as_long_as_their_supervisor() -> None:
    run = running("one_for_one", supervisor("one_for_all", "a b", intensity=1, id="inner"))
    run.tree.start_child("inner", workers("c")[0])
    run.tree.terminate_child("inner", "b")
    run.tree.delete_child("inner", "b")
    run.host.crash("a")
    assert run.host.registered.keys() == {"a", "c"}
    run.host.crash("a")
    assert run.host.registered.keys() == {"a", "b"}


def test_a_supervisor_is_found_by_path_or_by_an_id_that_only_one_has() -> None:
    run = running(
        "one_for_one",
        supervisor("one_for_one", supervisor("one_for_one", "a", id="x"), id="left"),
        supervisor("one_for_one", supervisor("one_for_one", "b", id="x"), id="right"),
    )
    assert run.tree.which_children("root/left/x")[0].id == "a"
    assert run.tree.which_children("right/x")[0].id == "b"
    assert run.tree.which_children("left")[0].id == "x"
    for name in ("x", "a", "", "ight"):
        with pytest.raises(NotFound):
            run.tree.which_children(name)


def test_S1_8_requests_from_inside_a_hook_are_queued_not_nested() -> None:
    run = running("one_for_all", "a b")
    answers: list[Answer[object]] = []
    run.host.hooks["init a"] = lambda: answers.append(
        run.tree.start_child("root", workers(f"x{len(answers)}")[0])
    )
    run.host.crash("b")
    assert run.host.take() == "term b, term a, init a, init b, init x0"
    assert answers[0].result() is run.host.names["x0"]


def test_a_stop_from_inside_an_init_drops_the_rest_of_the_restart() -> None:
    run = running("one_for_all", "a b c")
    run.host.hooks["init a"] = run.tree.stop
    run.host.crash("b")
    assert run.host.take() == "term b, term c, term a, init a, term a"
    assert run.tree.is_ended


def test_requests_wait_while_a_restart_is_under_way() -> None:
    run = running("one_for_all", "a b")
    run.host.slow.add("a")
    run.host.crash("b")
    answer = run.tree.start_child("root", workers("c")[0])
    called: list[Answer[object]] = []
    answer.then(called.append)
    assert not answer.is_done
    with pytest.raises(RuntimeError, match="then"):
        answer.result()
    run.host.finish("a")
    assert called == [answer]
    assert run.host.take() == "term b, term a ..., term a done, init a, init b, init c"


def test_T3_a_request_to_a_supervisor_that_ends_first_is_answered() -> None:
    run = running("one_for_one", supervisor("one_for_all", "a b", intensity=0, id="inner"))
    run.host.slow.add("a")
    run.host.crash("b")
    answer = run.tree.start_child("inner", workers("c")[0])
    run.host.finish("a")
    assert isinstance(answer.error, Stopped)


def test_a_stop_lets_a_request_in_flight_finish_and_answers_it() -> None:
    run = running("one_for_one", "a b")
    run.host.slow.add("b")
    answer = run.tree.terminate_child("root", "b")
    run.tree.stop()
    assert run.host.take() == "term b ..."
    run.host.finish("b")
    assert answer.result() is None
    assert run.host.take() == "term b done, term a"
    assert run.tree.is_ended


def test_terminate_child_of_one_that_has_just_ended_consumes_its_end() -> None:
    run = running("one_for_one", "a b", intensity=0)
    run.host.slow.add("b")
    run.tree.terminate_child("root", "b")
    answer = run.tree.terminate_child("root", "a")
    run.host.crash("a")
    run.host.finish("b")
    assert answer.result() is None
    assert run.host.reported() == ["ShutdownError a"]
    assert run.ended == []
