"""The running tree where OTP has nothing to say: interrupts, late completions, text, order."""

from collections import deque

import pytest

from pybehave.runtime.tree.tree import Answer
from tests.builders import Boom, Run, running, supervisor, workers


def test_a_running_tree_prints() -> None:
    run = running("one_for_one", "a b", supervisor("rest_for_one", "c", id="inner"), intensity=9)
    run.host.crash("a")
    run.tree.terminate_child("root", "b")
    assert run.tree.dump().splitlines() == [
        "root  one_for_one  9 in 5 s",
        "├── a  Idle  shutdown 5 s  running  incarnation 4  restarts 1",
        "├── b  Idle  shutdown 5 s  stopped",
        "└── inner  rest_for_one  1 in 5 s  running",
        "    └── c  Idle  shutdown 5 s  running  incarnation 3",
    ]


def test_a_supervisor_without_children_starts_and_stops() -> None:
    run = running("one_for_all", supervisor("one_for_one"))
    reasons: list[object] = []
    run.tree.stop(done=reasons.append)
    assert reasons == ["shutdown"]


def test_starting_twice_is_refused() -> None:
    run = running("one_for_one", "a")
    with pytest.raises(AssertionError, match="runs already"):
        run.tree.start()


def test_an_end_that_is_told_twice_counts_once() -> None:
    run = running("one_for_one", "a", intensity=1)
    ref = run.host.names.pop("a")
    run.tree.worker_ended(ref, Boom())
    run.tree.worker_ended(ref, Boom())
    assert run.host.take() == "init a"


def test_A3_10_an_init_may_raise_whatever_it_likes() -> None:
    for error in (
        SystemExit(1),
        RecursionError(),
        MemoryError(),
        AssertionError(),
        GeneratorExit(),
    ):
        run = running("one_for_one", "a", intensity=2)
        run.host.init_results["a"] = deque([error])
        run.host.crash("a")
        run.host.run_deferred()
        assert run.host.take() == "term a, initfail a, init a"


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("moment", ["init b", "init d", "term c"])
def test_a_keyboard_interrupt_passes_and_a_stop_still_stops_everything(moment: str) -> None:
    run = running("one_for_all", "a b", supervisor("one_for_one", "c d"), "e")
    run.host.hooks[moment] = interrupt
    with pytest.raises(KeyboardInterrupt):
        run.host.crash("e")
    del run.host.hooks[moment]
    reasons: list[object] = []
    run.tree.stop(done=reasons.append)
    assert reasons == ["shutdown"]
    assert run.host.registered == {}


@pytest.mark.parametrize("moment", ["init a", "init d"])
def test_a_keyboard_interrupt_during_the_first_start_leaves_what_a_stop_can_stop(
    moment: str,
) -> None:
    run = Run(supervisor("one_for_one", "a", supervisor("one_for_one", "c d"), "e"))
    run.host.hooks[moment] = interrupt
    with pytest.raises(KeyboardInterrupt):
        run.tree.start()
    run.tree.stop()
    assert run.host.registered == {}
    assert run.tree.is_ended


def test_after_an_interrupt_the_tree_goes_on_with_the_next_event() -> None:
    run = running("one_for_all", "a b c")
    run.host.hooks["init b"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        run.host.crash("a")
    del run.host.hooks["init b"]
    run.tree.start_child("root", workers("d")[0])
    assert set(run.host.registered) == {"a", "c", "d"}


def test_T2_a_crash_that_a_hook_brings_about_is_handled_afterwards() -> None:
    run = running("one_for_one", "a", supervisor("one_for_all", "b c"), intensity=5)
    run.host.hooks["init c"] = lambda: run.host.crash("a")
    run.host.crash("b")
    assert run.host.take() == "term b, term c, init b, term a, init c, init a"


def test_an_observer_may_ask_for_something() -> None:
    run = running("one_for_one", "a b")
    answers: list[Answer[object]] = []

    def emit(event: object) -> None:
        if not answers:
            answers.append(run.tree.terminate_child("root", "b"))

    run.host.emit = emit  # type: ignore[method-assign]
    run.host.crash("a")
    assert answers[0].result() is None
    assert run.host.take() == "term a, init a, term b"


def test_a_done_that_comes_after_a_brutal_kill_is_ignored() -> None:
    inner = supervisor("one_for_one", "b c", shutdown="brutal_kill", id="inner")
    run = running("one_for_all", "a", inner)
    run.host.slow.add("c")
    run.tree.terminate_child("inner", "c")
    _, late = run.host.stopping["c"]
    run.host.crash("a")
    reported = len(run.host.events)
    late("shutdown")
    assert len(run.host.events) == reported
    assert run.host.take() == ("term c ..., term a, kill c, kill b, init a, init b, init c")
    assert run.host.registered.keys() == {"a", "b", "c"}


def test_a_crashed_worker_that_still_cleans_up_is_handled_when_it_has() -> None:
    run = running("one_for_all", "a b")
    run.host.slow.add("a")
    run.host.crash("a")
    assert run.host.take() == "term a ..."
    run.host.finish("a")
    assert run.host.take() == "term a done, term b, init a, init b"


def test_a_group_that_stops_a_worker_that_is_ending_waits_for_it_and_is_charged_once() -> None:
    run = running("one_for_all", "a b", intensity=1)
    run.host.slow.add("a")
    run.host.crash("a")
    run.host.crash("b")
    assert run.host.take() == "term a ..., term b"
    run.host.finish("a", Boom("a"))
    assert run.host.take() == "term a done, init a, init b"
    assert run.host.reported() == ["ChildTerminated b", "ShutdownError a"]


def test_T1_the_tree_knows_exactly_the_workers_that_run() -> None:
    run = running("rest_for_one", "a", supervisor("one_for_one", "b c"), "d", intensity=9)
    for name in ("b", "a", "d", "c"):
        run.host.crash(name)
        assert set(run.tree.workers) == set(run.host.names.values())


def test_callbacks_of_an_answer_may_ask_again() -> None:
    run = running("one_for_one", "a")
    run.tree.terminate_child("root", "a").then(lambda _: run.tree.restart_child("root", "a"))
    assert run.host.take() == "term a, init a"


def test_a_thousand_crashes_leave_nothing_behind() -> None:
    run = running("one_for_one", "a", supervisor("one_for_one", "b", intensity=0), intensity=10_000)
    for _ in range(500):
        run.host.crash("a")
        run.host.crash("b")
    tree = run.tree
    assert (len(tree.workers), len(tree.supervisors), len(run.host.deferred)) == (2, 2, 0)
    assert tree.which_children("root")[1].restarts == 500
