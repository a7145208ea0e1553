"""Process groups on a node: joining, leaving, ending, restarts, the journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.actions import CastGroup, Join, Leave
from pybehave.errors import Crashed
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator

Start = Callable[..., Any]


class Member(GenServer[Any, Any, Any]):
    """Is in the group that its args name; collects what it hears."""

    def init(self, args: Any) -> Any:
        return ([], Join(args)) if args else []

    def step(self, command: Any, state: Any) -> Any:
        match command:
            case "heard":
                return state, list(state)
            case "crash":
                raise ValueError("asked to")
            case ("join", group):
                return state, None, Join(group)
            case ("leave", group):
                return state, None, Leave(group)
            case ("tell", group, what):
                return state, None, CastGroup(group, what)
        state.append(command)
        return state, None


def app(*, journal: bool = False, group: str | None = "room") -> Application:
    workers = [Worker(name, Member, group, journal=journal) for name in "abc"]
    return Application("groups", Supervisor("one_for_one", workers, intensity=100))


def test_a_message_to_a_group_goes_to_its_members_in_the_order_of_joining(start: Start) -> None:
    node = start(app())
    assert (node.groups.names(), node.groups.members("room")) == (["room"], ["a", "b", "c"])
    node.call("b", ("leave", "room"))
    node.call("b", ("join", "room"))
    node.call("b", ("join", "room"))
    assert node.groups.members("room") == ["a", "c", "b"]
    assert node.groups.cast("room", "hello") == 3
    node.call("a", ("tell", "room", "all"))
    assert [node.call(name, "heard") for name in "abc"] == [["hello", "all"]] * 3


def test_members_leave_when_they_end_and_join_again_in_init(start: Start) -> None:
    node = start(app())
    with pytest.raises(Crashed):
        node.call("a", "crash")
    assert node.groups.members("room") == ["b", "c", "a"]
    node.terminate_child("root", "b")
    assert node.groups.members("room") == ["c", "a"]
    assert node.groups.cast("room", 1) == 2


def test_a_group_without_members_is_none_and_hears_nothing(start: Start) -> None:
    node = start(app(group=None))
    node.call("a", ("leave", "room"))
    node.call("a", ("tell", "room", 1))
    assert (node.groups.names(), node.groups.cast("room", 1)) == ([], 0)


def test_a_server_may_be_in_several_groups_and_leaves_all_of_them_at_its_end(start: Start) -> None:
    node = start(app(group=None))
    for group in ("x", "y"):
        node.call("a", ("join", group))
    assert node.groups.names() == ["x", "y"]
    with pytest.raises(Crashed):
        node.call("a", "crash")
    assert node.groups.names() == []


def test_a_journaled_member_joins_again_at_every_start() -> None:
    disk = SimDisk()
    for rounds in (1, 2):
        with Simulator(rounds, app(journal=True), disk=disk) as world:
            with pytest.raises(Crashed):
                world.node.call("a", "crash")
            assert sorted(world.node.groups.members("room")) == ["a", "b", "c"]
            world.node.call("b", ("tell", "room", rounds))
            world.run(1)
            heard = [world.node.call(name, "heard") for name in "abc"]
            assert heard == [list(range(1, rounds + 1))] * 3


@pytest.mark.parametrize("group", [None, "", 7])
def test_a_group_is_a_name(group: Any) -> None:
    for action in (Join, Leave, lambda each: CastGroup(each, 1)):
        with pytest.raises(TypeError, match="group is a name"):
            action(group)
