"""P-4: a running server moves to another supervisor; nobody who uses it notices."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Release, Supervisor, Worker, family
from pybehave.actions import NO_REPLY, Reply, StartTimer
from pybehave.errors import (
    AlreadyPresent,
    AlreadyStarted,
    Crashed,
    NoProc,
    NotFound,
    Restarting,
    SpecError,
    Stopped,
    UpgradeRefused,
)
from pybehave.runtime.events import ChildMigrated
from pybehave.testing import SimDisk, Simulator
from tests.builders import Idle, Run, running, supervisor, workers


def move(run: Run, name: str, to: str) -> None:
    run.tree.migrate(run.host.names[name], run.tree.supervisor(to)).result()


def two(left: str, right: str, **flags: Any) -> Run:
    """Supervisors "left" with a, b and "right" with c, d."""
    return running(
        "one_for_one",
        supervisor(left, "a b", id="left", **flags),
        supervisor(right, "c d", id="right", **flags),
    )


# --- the supervisors, on a host that remembers -----------------------------------------------


def test_nothing_stops_and_nothing_starts() -> None:
    run = two("one_for_one", "one_for_one")
    move(run, "a", "right")
    assert run.host.take() == ""
    assert [info.id for info in run.tree.which_children("left")] == ["b"]
    assert [info.id for info in run.tree.which_children("right")] == ["a", "d", "c"]
    (event,) = [event for event in run.host.events if isinstance(event, ChildMigrated)]
    assert str(event) == "root/left/a is root/right's now"
    assert len(run.tree.workers) == 4


@pytest.mark.parametrize(
    ("strategy", "crash", "trace"),
    [
        ("one_for_all", "a", "term a, term d, term c, init c, init d, init a"),
        ("one_for_all", "d", "term d, term a, term c, init c, init d, init a"),
        ("rest_for_one", "d", "term d, term a, init d, init a"),
        ("rest_for_one", "a", "term a, init a"),
        ("one_for_one", "a", "term a, init a"),
    ],
)
def test_the_new_supervisors_strategy_holds(strategy: str, crash: str, trace: str) -> None:
    run = two("one_for_all", strategy)
    move(run, "a", "right")
    run.host.crash(crash)
    assert run.host.take() == trace


def test_the_old_supervisors_strategy_does_not_hold_any_more() -> None:
    run = two("one_for_all", "one_for_one")
    move(run, "a", "right")
    run.host.crash("b")
    assert run.host.take() == "term b, init b"
    run.host.crash("a")
    assert run.host.take() == "term a, init a"


def test_each_failure_is_charged_where_the_child_is() -> None:
    run = two("one_for_one", "one_for_one", intensity=1)
    run.host.crash("a")
    move(run, "a", "right")
    run.host.crash("a")
    assert run.host.reported() == ["ChildTerminated a", "ChildTerminated a"]
    assert run.tree.which_child("right", "a").restarts == 2
    run.host.take()
    run.host.crash("a")  # one too many for "right", which its own supervisor starts again
    assert run.host.take() == "term a, term d, term c, init c, init d, init a"


def test_a_supervisor_that_is_started_again_starts_what_it_has_now() -> None:
    run = two("one_for_one", "one_for_one")
    move(run, "a", "right")
    run.tree.restart("root", "left").result()
    assert run.host.take() == "term b, init b"
    run.tree.restart("root", "right").result()
    assert run.host.take() == "term a, term d, term c, init c, init d, init a"


def test_so_does_one_far_above_on_either_side() -> None:
    def deep(side: str, names: str) -> Supervisor:
        inner = supervisor("one_for_one", names)  # without an id: its place names it
        return supervisor("one_for_one", supervisor("one_for_one", "x" + side), inner, id=side)

    run = running("one_for_one", deep("left", "a b"), deep("right", "c d"))
    move(run, "a", "right/supervisor-2")
    run.tree.restart("root", "left").result()
    assert run.host.take() == "term b, term xleft, init xleft, init b"
    run.tree.restart("root", "right").result()
    assert run.host.take().endswith("init xright, init c, init d, init a")
    move(run, "a", "left/supervisor-1")
    move(run, "xleft", "root")
    run.tree.restart("root", "left").result()
    assert run.host.take() == "term b, term a, init a, init b"


def test_a_child_that_was_added_later_is_one_there_too() -> None:
    run = two("one_for_one", "one_for_one")
    run.tree.start_child("left", Worker("e", Idle)).result()
    move(run, "e", "right")
    run.host.take()
    run.tree.restart("root", "right").result()
    assert "init e" not in run.host.take()


def test_a_made_child_takes_its_name_and_arguments_along() -> None:
    made = supervisor("simple_one_for_one", Worker("t", Idle, [1]), id="made")
    run = running("one_for_one", made, supervisor("one_for_one", "c", id="right"))
    run.tree.start_child("made", [2], "m").result()
    move(run, "m", "right")
    assert run.tree.count_children("made").active == 0
    run.host.take()
    run.host.crash("m")
    assert run.host.take() == "term m, init m"
    assert run.host.names["m"].state == (1, 2)


def test_the_order_of_stops_is_that_of_the_new_lists() -> None:
    run = two("one_for_one", "one_for_one")
    move(run, "a", "right")
    run.tree.stop()
    assert run.host.take() == "term a, term d, term c, term b"


def test_it_waits_until_its_supervisor_has_done_what_it_does() -> None:
    run = two("one_for_one", "one_for_one")
    run.host.slow.add("b")
    run.tree.terminate_child("left", "b")
    answer = run.tree.migrate(run.host.names["a"], run.tree.supervisor("right"))
    assert not answer.is_done
    run.host.finish("b")
    answer.result()
    assert "a" in [info.id for info in run.tree.which_children("right")]


def test_one_that_ends_meanwhile_is_its_old_supervisors_matter() -> None:
    run = two("one_for_one", "one_for_one")
    run.host.slow.add("b")
    run.tree.terminate_child("left", "b")
    answer = run.tree.migrate(run.host.names["a"], run.tree.supervisor("right"))
    run.host.crash("a")
    run.host.finish("b")
    with pytest.raises(NoProc):
        answer.result()
    assert run.tree.which_child("left", "a").status == "running"


def test_one_that_is_told_to_stop_does_not_go_anywhere() -> None:
    run = two("one_for_all", "one_for_one")
    a = run.host.names["a"]
    run.host.slow.add("a")
    run.host.crash("b")  # "a" is being stopped for it
    with pytest.raises(NoProc):
        run.tree.migrate(a, run.tree.supervisor("right")).result()
    run.host.finish("a")
    move(run, "a", "right")  # the next incarnation


def test_a_supervisor_that_is_at_work_takes_it_all_the_same() -> None:
    run = two("one_for_one", "one_for_all")
    run.host.slow.add("c")
    run.host.crash("d")  # "c" is being stopped for it
    move(run, "a", "right")
    run.host.finish("c")
    assert run.host.take() == "term d, term c ..., term c done, init c, init d"
    assert [info.status for info in run.tree.which_children("right")] == ["running"] * 3


def test_to_where_it_is_is_nowhere() -> None:
    run = two("one_for_one", "one_for_one")
    move(run, "a", "left")
    assert [info.id for info in run.tree.which_children("left")] == ["b", "a"]


def refused(run: Run, name: str, to: str, kind: type[Exception]) -> str:
    """The error's sentence; and nothing has changed (G2)."""
    before = run.tree.dump()
    with pytest.raises(kind) as caught:
        move(run, name, to)
    assert run.tree.dump() == before
    return str(caught.value)


def test_what_cannot_be_is_refused_and_changes_nothing() -> None:
    ends = Worker("e", Idle, restart="transient", significant=True)
    run = running(
        "one_for_one",
        supervisor("one_for_one", ends, "a", id="left", auto_shutdown="any_significant"),
        supervisor("one_for_one", Worker("a", Idle, name="other"), id="right"),
        supervisor("simple_one_for_one", *workers("t"), id="made"),
    )
    assert "runs already" in refused(run, "a", "right", AlreadyStarted)
    run.tree.terminate_child("right", "a").result()
    assert "does not run" in refused(run, "a", "right", AlreadyPresent)
    assert "significant=True" in refused(run, "e", "right", SpecError)
    assert "not made from a template" in refused(run, "a", "made", SpecError)


def test_not_to_one_that_is_about_to_end() -> None:
    run = two("one_for_one", "one_for_one")
    right = run.tree.supervisor("right")
    run.host.slow.add("d")
    run.tree.terminate_child("root", "right")
    with pytest.raises(Stopped):
        run.tree.migrate(run.host.names["a"], right).result()
    assert [info.id for info in run.tree.which_children("left")] == ["b", "a"]


def test_not_to_one_that_is_starting() -> None:
    run = Run(supervisor("one_for_one", supervisor("one_for_one", "a b", id="left")))
    answers: list[Any] = []

    def ask() -> None:
        answers.append(run.tree.migrate(run.host.names["a"], run.tree.supervisor("root")))

    run.host.hooks["init b"] = ask
    run.start()
    assert isinstance(answers[0].error, Restarting)
    assert [info.id for info in run.tree.which_children("left")] == ["b", "a"]


# --- on a node -------------------------------------------------------------------------------


class Ledger(GenServer[dict[str, Any], Any, Any]):
    """Counts, knows who waits, and has a timer."""

    def init(self, args: Any) -> Any:
        return {"count": 0, "rings": 0, "waits": None}

    def handle_call(self, request: Any, caller: Any, state: dict[str, Any]) -> Any:
        match request:
            case "wait":
                return {**state, "waits": caller}, NO_REPLY, StartTimer("ring", 30.0, "ring")
            case "crash":
                raise ValueError("as it was told to")
            case "get":
                return state, (state["count"], state["rings"])
        return {**state, "count": state["count"] + 1}, state["count"] + 1

    def handle_cast(self, message: Any, state: dict[str, Any]) -> Any:
        return {**state, "count": state["count"] + message}, None

    def handle_info(self, message: Any, state: dict[str, Any]) -> Any:
        return {**state, "rings": state["rings"] + 1}, None, Reply(state["waits"], "rung")


def app(*, journal: bool = False) -> Application:
    groups = [
        supervisor("one_for_all", Worker("x", Ledger, journal=journal), "y", id="l"),
        supervisor("one_for_one", "z", id="r"),
    ]
    return Application("test", Supervisor("one_for_one", groups, intensity=100), version="1")


@pytest.mark.parametrize("journal", [False, True], ids=["memory", "journal"])
def test_no_command_is_lost_or_comes_twice_under_load(
    start: Any, tmp_path: Path, journal: bool
) -> None:
    node = start(app(journal=journal), data=tmp_path)
    heard: list[list[int]] = [[], [], []]
    failed: list[BaseException] = []
    is_over = threading.Event()

    def load(answers: list[int]) -> None:
        try:
            while not is_over.is_set():
                answers.append(node.call("x", "add"))
                node.cast("x", 1)
        except Exception as error:  # noqa: BLE001 -- the test shows it
            failed.append(error)

    clients = [threading.Thread(target=load, args=(each,)) for each in heard]
    for client in clients:
        client.start()
    for turn in range(40):
        while len(heard[0]) < 3 * turn and not failed:
            pass
        node.migrate("x", to="r" if turn % 2 == 0 else "l")
    is_over.set()
    for client in clients:
        client.join()
    assert failed == []
    answers = sorted(heard[0] + heard[1] + heard[2])
    assert len(set(answers)) == len(answers)
    assert node.call("x", "get") == (2 * len(answers), 0)
    assert node.which_child("l", "x").restarts == 0


@pytest.mark.parametrize("journal", [False, True], ids=["memory", "journal"])
def test_timers_callers_monitors_and_incarnation_go_along(journal: bool) -> None:
    disk = SimDisk() if journal else None
    with Simulator(seed=3, app=app(journal=journal), disk=disk) as world:
        node = world.node
        ended = node.monitor("x")
        waiting = node.send_request("x", "wait")
        world.run(10.0)
        before = node.whereis("x")
        node.migrate("x", to="r")
        assert node.whereis("x") is before
        assert node.sys.get_status("x").path == "root/r/x"
        world.run(19.0)
        assert not waiting.done()
        world.run(2.0)
        assert waiting.result(0) == "rung"
        assert not ended.done()
        with pytest.raises(Crashed):
            node.call("x", "crash")
        world.run(1.0)
        assert ended.result(0).name == "x"
        assert node.call("x", "get") == ((0, 1) if journal else (0, 0))
        assert node.which_child("l", "y").restarts == 0


def test_a_journaled_server_goes_on_wherever_the_next_start_has_it(
    start: Any, tmp_path: Path
) -> None:
    node = start(app(journal=True), data=tmp_path)
    node.call("x", "add")
    node.migrate("x", to="r")
    node.call("x", "add")
    node.stop()
    node = start(app(journal=True), data=tmp_path)
    assert node.call("x", "get") == (2, 0)
    assert node.sys.get_status("x").path == "root/l/x"


def test_to_another_application_of_the_node(start: Any) -> None:
    node = start(app())
    other = Supervisor("one_for_one", [Worker("o", Idle)], id="others")
    node.start_application(Application("other", other))
    node.call("x", "add")
    node.migrate(Worker("x", Ledger).ref, to="others")
    assert node.call("x", "get") == (1, 0)
    node.stop_application("other")
    with pytest.raises(NoProc):
        node.call("x", "get")


def test_it_has_its_place_also_when_its_application_is_started_again(start: Any) -> None:
    """In one it has come to it is started, and not in the one that it was specified in."""

    def part(name: str, *servers: str) -> Supervisor:
        return Supervisor("one_for_one", [Worker(each, Idle) for each in servers], id=name)

    lower = Application("a", Supervisor("one_for_one", [part("sa", "x", "y")]))
    upper = Application("b", Supervisor("one_for_one", [part("sb", "z")]), depends=[lower])
    node = start(upper)
    node.migrate("x", to="root/sb")
    node.migrate("z", to="a/sa")
    node.stop_application("a")
    assert node.whereis("x") is not None and node.whereis("z") is None
    node.start_application(lower)
    assert sorted(child.id for child in node.which_children("a/sa")) == ["y", "z"]
    assert [child.id for child in node.which_children("root/sb")] == ["x"]


def test_a_family_keeps_its_members_and_nobody_else_is_there(start: Any) -> None:
    tree = Supervisor("one_for_one", [family("u-*", Idle, id="users"), *app().tree.children])
    node = start(Application("test", tree))
    node.call("u-1", "hello")
    with pytest.raises(SpecError, match="a member of a family"):
        node.migrate("u-1", to="r")
    with pytest.raises(NoProc):
        node.migrate("nobody", to="r")
    with pytest.raises(NotFound):
        node.migrate("x", to="nowhere")


def test_an_id_of_several_supervisors_is_answered_with_their_paths(start: Any) -> None:
    sides = [
        supervisor("one_for_one", supervisor("one_for_one", id="same"), id=side)
        for side in ("left", "right")
    ]
    node = start(Application("test", Supervisor("one_for_one", sides)))
    with pytest.raises(NotFound, match="2 supervisors are called 'same'; use a path: 'root/left/s"):
        node.which_children("same")
    node.start_application(Application("other", Supervisor("one_for_one", sides[:1])))
    with pytest.raises(NotFound, match=r"3 supervisors are called 'same'.*'other/left/same'"):
        node.count_children("same")
    assert node.which_children("root/left/same") == []


class Tens(Ledger):
    """What follows it: counts by tens."""

    def handle_call(self, request: Any, caller: Any, state: dict[str, Any]) -> Any:
        if request == "add":
            return {**state, "count": state["count"] + 10}, state["count"] + 10
        return super().handle_call(request, caller, state)


def release(left: str, right: str) -> Release:
    """The second version, which has "x" where it is said to be."""
    kinds = {"x": Tens, "y": Idle, "z": Idle}
    groups = [
        Supervisor("one_for_one", [Worker(name, kinds[name]) for name in names.split()], id=side)
        for side, names in (("l", left), ("r", right))
    ]
    tree = Supervisor("one_for_one", groups, intensity=100)
    return Release(Application("test", tree, version="2"), upgrades="1")


def test_a_release_that_has_it_elsewhere_is_refused_and_changes_nothing(start: Any) -> None:
    node = start(app())
    node.migrate("x", to="r")
    with pytest.raises(UpgradeRefused, match=r"'x' was migrated to 'root/r/x'.* 'root/l/x'"):
        node.releases.upgrade(release("x y", "z"))
    assert node.call("x", "add") == 1
    node.migrate("x", to="l")
    node.releases.upgrade(release("x y", "z"))
    assert node.call("x", "add") == 11


def test_a_release_that_has_it_where_it_is_gives_it_its_code(start: Any) -> None:
    node = start(app())
    node.migrate("x", to="r")
    assert node.call("x", "add") == 1
    node.releases.upgrade(release("y", "z x"))
    assert node.call("x", "add") == 11
    with pytest.raises(Crashed):
        node.call("x", "crash")
    assert node.call("x", "add") == 10
    assert node.sys.get_status("x").path == "root/r/x"
