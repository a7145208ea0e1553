"""Monitors and links: who hears of whose end, once, and who ends with whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pybehave import Application, GenServer, Shutdown, Supervisor, Worker, actions
from pybehave.actions import Demonitor, Down, Exit, Link, Monitor, Stop, Unlink
from tests.power.machine import wait_for


class Boom(Exception):
    pass


class Any1(GenServer[list[Any], Any, Any]):
    """Does as it is told: actions come from outside, infos are kept."""

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        if isinstance(command, BaseException):
            raise command
        if command == "?":
            return state, [*state]
        return state, None, command

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        state.append(message)
        return state, None

    def terminate(self, reason: object, state: list[Any]) -> None:
        ENDED.append((self.context.caller is None, reason))


class Trapping(Any1):
    trap_exit = True


ENDED: list[Any] = []


def app(*, restart: str = "temporary", b: type[Any1] = Any1) -> Application:
    workers = [Worker("a", Any1, restart=restart), Worker("b", b, restart=restart)]
    return Application("t", Supervisor("one_for_one", workers, intensity=100))


def heard(node: Any, count: int = 1, who: str = "b") -> list[Any]:
    wait_for(lambda: len(node.call(who, "?")) >= count, "infos arrive")
    found: list[Any] = node.call(who, "?")
    return found


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ([Stop()], "normal"),
        ([Stop("shutdown")], "shutdown"),
        ([Stop(Shutdown("why"))], Shutdown("why")),
        ([Stop(("odd", 1))], ("odd", 1)),
    ],
)
def test_whoever_monitors_hears_the_reason_once(
    start: Callable[..., Any], how: Any, reason: object
) -> None:
    node = start(app())
    node.call("b", [Monitor("a", tag=7)])
    node.call("a", how)
    assert heard(node) == [Down("a", 1, reason, 7)]
    assert node.whereis("a") is None


def test_a_crash_is_told_with_its_exception_and_the_next_incarnation_is_not_watched(
    start: Callable[..., Any],
) -> None:
    node = start(app(restart="permanent"))
    node.call("b", [Monitor("a"), Monitor("a", "second")])
    error = Boom("x")
    node.cast("a", error)
    assert heard(node, 2) == [Down("a", 1, error, None), Down("a", 1, error, "second")]
    node.cast("a", Boom("y"))
    wait_for(lambda: node.whereis("a") == 3, "it is restarted again")
    assert len(node.call("b", "?")) == 2


def test_a_server_that_is_stopped_or_killed_is_down_too(start: Callable[..., Any]) -> None:
    workers = [Worker("a", Any1), Worker("k", Any1, shutdown="brutal_kill"), Worker("b", Any1)]
    node = start(Application("t", Supervisor("one_for_one", workers)))
    node.call("b", [Monitor("a"), Monitor("k")])
    node.terminate_child("root", "a")
    node.terminate_child("root", "k")
    assert heard(node, 2) == [Down("a", 1, "shutdown"), Down("k", 1, "killed")]


def test_nobody_of_that_name_is_down_at_once(start: Callable[..., Any]) -> None:
    node = start(app())
    node.call("b", [Monitor("nobody", tag="t")])
    assert heard(node) == [Down("nobody", 0, "noproc", "t")]


def test_demonitor_takes_back_what_waits_already(start: Callable[..., Any]) -> None:
    node = start(app())
    node.call("b", [Monitor("nobody"), Monitor("nobody", 1), Demonitor("nobody"), Monitor("a", 2)])
    node.call("b", [Demonitor("a", 2)])
    node.cast("a", [Stop()])
    wait_for(lambda: node.whereis("a") is None, "it ends")
    assert node.call("b", "?") == [Down("nobody", 0, "noproc", 1)]


def test_a_watcher_that_has_ended_hears_nothing_and_leaves_nothing(
    start: Callable[..., Any],
) -> None:
    node = start(app(restart="permanent"))
    node.call("b", [Monitor("a"), Link("a"), Unlink("a")])
    node.cast("b", Boom())
    wait_for(lambda: node.whereis("b") == 2, "it is restarted")
    node.cast("a", Boom())
    wait_for(lambda: node.whereis("a") == 2, "it is restarted")
    assert node.call("b", "?") == []
    monitors = node.host.monitors
    assert monitors._watched == {}
    assert monitors._watching == {}


def test_somebody_outside_can_watch(start: Callable[..., Any]) -> None:
    node = start(app())
    assert node.monitor("nobody").result(10) == Down("nobody", 0, "noproc")
    waiting = node.monitor("a")
    left = node.monitor("b")
    gone = node.monitor("a")
    gone.cancel()
    node.call("a", [Stop()])
    assert waiting.result(10) == Down("a", 1, "normal")
    node.stop()
    assert left.result(10) == Down("b", 1, "shutdown")


def test_who_gives_up_watching_leaves_nothing(start: Callable[..., Any]) -> None:
    node = start(app())
    for _ in range(100):
        assert node.monitor("a").cancel()
    wait_for(lambda: not node.host.monitors._watching, "they are forgotten")
    assert node.host.monitors._watched == {}


def test_an_abnormal_end_takes_the_linked_one_along(start: Callable[..., Any]) -> None:
    node = start(app())
    node.call("b", [Link("a")])
    outside = node.monitor("b")
    error = Boom("x")
    node.cast("a", error)
    assert outside.result(10) == Down("b", 1, error)


def test_a_link_works_both_ways_and_takes_whole_chains(start: Callable[..., Any]) -> None:
    workers = [Worker(name, Any1, restart="temporary") for name in "abcd"]
    node = start(Application("t", Supervisor("one_for_one", workers)))
    for one, other in ("ab", "bc", "ca"):
        node.call(one, [Link(other)])
    ends = [node.monitor(name) for name in "abc"]
    node.call("c", [Stop("shutdown")])
    assert [end.result(10).reason for end in ends] == ["shutdown"] * 3
    assert node.names() == ["d"]


def test_a_normal_end_takes_nobody_along(start: Callable[..., Any]) -> None:
    node = start(app())
    node.call("b", [Link("a")])
    node.call("a", [Stop()])
    assert node.call("b", "?") == []
    assert node.whereis("b") == 1


def test_who_traps_exits_goes_on_and_hears_of_each(start: Callable[..., Any]) -> None:
    node = start(app(restart="permanent", b=Trapping))
    node.call("b", [Link("a"), Link("a"), Link("nobody"), Link("b")])
    assert heard(node) == [Exit("nobody", "noproc")]
    node.call("a", [Stop()])
    assert heard(node, 2)[1:] == [Exit("a", "normal")]
    node.call("b", [Link("a")])
    error = Boom()
    node.cast("a", error)
    assert heard(node, 3)[2:] == [Exit("a", error)]
    assert node.whereis("b") == 1


def test_an_unlinked_one_stays(start: Callable[..., Any]) -> None:
    node = start(app())
    node.call("a", [Link("b")])
    node.call("b", [Unlink("a"), actions.Hibernate()])
    node.cast("a", Boom())
    wait_for(lambda: node.whereis("a") is None, "it ends")
    assert node.call("b", "?") == []


def test_the_supervisor_restarts_who_ended_by_a_link(start: Callable[..., Any]) -> None:
    node = start(app(restart="permanent"))
    node.call("b", [Link("a")])
    node.cast("a", Boom())
    wait_for(lambda: node.whereis("b") == 2 and node.whereis("a") == 2, "both are restarted")
    assert node.stats()["crashes"] == 2


@pytest.mark.parametrize("action", [Monitor, Demonitor, Link, Unlink])
def test_a_name_is_a_text(action: Any) -> None:
    with pytest.raises(TypeError, match=f"{action.__name__}: server is the name of one, not 7"):
        action(7)


class Watching(Trapping):
    """Takes plain inputs, as a journal wants them."""

    def step(self, command: Any, state: list[Any]) -> Any:
        if command == "?":
            return state, [*state]
        return state, None, Monitor("b") if command == "monitor" else Link("b")


class Nameless:
    """A reason that no journal has a form for."""

    def __repr__(self) -> str:
        return "<nameless>"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (Shutdown(("moved", 3)), Shutdown(("moved", 3))),
        (Nameless(), "<nameless>"),
        (Shutdown(Nameless()), "Shutdown(term=<nameless>)"),
    ],
    ids=["clean", "without a form", "a term without a form"],
)
@pytest.mark.parametrize("how", ["monitor", "link"])
def test_a_journaled_server_hears_of_any_reason_and_again_in_a_replay(
    start: Callable[..., Any], tmp_path: Any, how: Any, reason: Any, told: Any
) -> None:
    workers = [
        Worker("a", Watching, journal=True),
        Worker("b", Any1, restart="temporary"),
    ]
    tree = Application("t", Supervisor("one_for_one", workers))
    node = start(tree, data=tmp_path / "data")
    node.call("a", how)
    node.stop_server("b", reason)
    [message] = heard(node, who="a")
    assert message.reason == told
    assert [report.server for report in node.crashes() if report.server == "a"] == []
    node.stop()
    assert start(tree, data=tmp_path / "data").get_state("a")[0] == message
