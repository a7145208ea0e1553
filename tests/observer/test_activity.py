"""Two looks at a node become rates, subtrees are summed, and the shape of the tree is judged."""

from __future__ import annotations

from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.errors import Crashed
from pybehave.observer.activity import RESTARTS_MIN, SERVERS_MAX, Activity, activity
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import SMALL


class Fragile(GenServer[Any, Any, Any]):
    def init(self, args: Any) -> Any:
        return []

    def step(self, command: Any, state: Any) -> Any:
        if command == "break":
            raise ValueError("a deliberate bug")
        return state, command


def world(**fields: Any) -> Simulator:
    deep = Supervisor("one_for_one", [Worker("c", Fragile)], id="deep", intensity=100)
    below = Supervisor("one_for_one", [Worker("b", Fragile), deep], id="below", intensity=100)
    tree = Supervisor("one_for_one", [Worker("a", Fragile, **fields), below], intensity=1000)
    return Simulator(1, Application("t", tree), disk=SimDisk(), journal_options=SMALL)


def look(sim: Simulator) -> dict[str, Any]:
    return activity(sim.node, sim.node.health())


def fail(sim: Simulator, name: str, times: int) -> None:
    for _ in range(times):
        with pytest.raises(Crashed):
            sim.node.call(name, "break")


def between(sim: Simulator, work: Any, seconds: float = 2.0) -> Activity:
    before = look(sim)
    work()
    sim.run(seconds)
    return Activity.between(before, look(sim))


def test_rates_are_by_the_second_the_busiest_server_first() -> None:
    with world() as sim:
        sim.node.call("a", "x")

        def work() -> None:
            for name, count in (("a", 4), ("b", 10)):
                for _ in range(count):
                    sim.node.call(name, "x")

        found = between(sim, work)
        rates = [(server.path, round(server.rate, 6)) for server in found.servers]
        assert rates == [("root/below/b", 5.0), ("root/a", 2.0), ("root/below/deep/c", 0.0)]
        assert (found.name, found.source, found.health, found.commits) == ("t", "sim", "ok", None)
        assert found.busy is not None and 0 <= found.busy <= 1


def test_what_a_server_did_before_its_restart_is_not_counted_twice() -> None:
    with world() as sim:
        for _ in range(50):
            sim.node.call("a", "x")

        def work() -> None:
            fail(sim, "a", 1)
            sim.node.call("a", "x")

        server = between(sim, work).servers[0]
        assert (server.path, server.rate, server.restarts) == ("root/a", 0.5, 1)


def test_restarts_are_summed_over_subtrees() -> None:
    with world() as sim:
        fail(sim, "a", 1)
        fail(sim, "b", 2)
        fail(sim, "c", 3)
        found = between(sim, lambda: None)
        subtrees = [(each.path, each.restarts) for each in found.subtrees]
        assert subtrees == [("root", 6), ("root/below", 5), ("root/below/deep", 3)]
        assert found.crashes == 6


def test_commits_are_told_where_there_is_a_journal() -> None:
    with world(journal=True) as sim:

        def work() -> None:
            for _ in range(3):
                sim.node.call("a", "x")

        found = between(sim, work)
        assert found.records is not None and found.records >= 1.5
        assert found.commits is not None and found.commits >= 0.5
        assert found.commit_ms is not None and found.commit_ms >= 0


@pytest.mark.parametrize(
    ("crashes", "warned"),
    [
        ({"a": RESTARTS_MIN - 1}, False),
        ({"a": RESTARTS_MIN}, True),
        ({"a": RESTARTS_MIN, "b": RESTARTS_MIN + 1}, False),
        ({"c": 50}, False),
    ],
)
def test_a_child_of_the_root_that_is_restarted_most_is_warned_of(
    crashes: dict[str, int], warned: bool
) -> None:
    with world() as sim:
        for name, times in crashes.items():
            fail(sim, name, times)
        warning = between(sim, lambda: None).warning
        assert bool(warning) == warned
        if warned:
            assert warning.startswith(f"'a' is restarted most ({RESTARTS_MIN} times) and stands")


def test_a_supervisor_below_the_root_that_is_restarted_most_is_warned_of() -> None:
    below = Supervisor("one_for_one", [Worker("b", Fragile)], id="below", intensity=0)
    tree = Supervisor("one_for_one", [below], intensity=1000)
    with Simulator(1, Application("t", tree)) as sim:
        fail(sim, "b", RESTARTS_MIN)
        assert between(sim, lambda: None).warning.startswith("'below' is restarted most")


def test_no_time_between_two_looks_is_no_rate() -> None:
    with world() as sim:
        found = Activity.between(look(sim), look(sim))
        assert (found.busy, found.commands) == (None, 0.0)
        assert {server.rate for server in found.servers} == {0.0}


@pytest.mark.parametrize(
    ("count", "shown", "is_cut"),
    [
        (SERVERS_MAX - 1, SERVERS_MAX - 1, False),
        (SERVERS_MAX, SERVERS_MAX, False),
        (SERVERS_MAX + 1, SERVERS_MAX, True),
    ],
)
def test_a_look_is_bounded(count: int, shown: int, is_cut: bool) -> None:
    tree = Supervisor("one_for_one", [Worker(f"w{n}", Fragile) for n in range(count)])
    with Simulator(1, Application("t", tree)) as sim:
        found = look(sim)
        assert (len(found["servers"]), found["is_cut"]) == (shown, is_cut)
