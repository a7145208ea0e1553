"""Servers that are found by a key in a registry of the user's own (`GenServer.via`, `Via`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Via, Worker
from pybehave.actions import (
    Call,
    CallFailed,
    CallReply,
    Cast,
    Demonitor,
    Down,
    Ignore,
    Info,
    Link,
    Monitor,
    Unlink,
)
from pybehave.errors import AlreadyStarted, BadReturn, Crashed, NoProc, StartFailed
from pybehave.testing.simulate import Simulator

Start = Callable[..., Any]


class Table:
    """The smallest registry there can be, and what it was asked to do."""

    def __init__(self) -> None:
        self.names: dict[Any, str] = {}
        self.told: list[str] = []
        self.is_broken = False

    def register_name(self, key: Any, name: str) -> bool:
        self.told.append(f"register {name}")
        return self.names.setdefault(key, name) == name

    def unregister_name(self, key: Any) -> None:
        if self.is_broken:
            raise OSError("the table is gone")
        self.told.append(f"unregister {self.names.pop(key)}")

    def whereis_name(self, key: Any) -> str | None:
        return self.names.get(key)


ORDERS = Table()


class Order(GenServer[list[Any], Any, Any]):
    """Found by ("order", args)."""

    def via(self, args: Any) -> Any:
        number = args[-1] if type(args) is tuple else args
        return Via(ORDERS, ("order", number)) if type(number) is int else number

    def init(self, args: Any) -> Any:
        ORDERS.told.append(f"init {self.context.name}")
        return Ignore() if args == 13 else []

    def step(self, command: Any, state: list[Any]) -> Any:
        return [*state, 1 / command], command

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        return [*state, message], None

    def terminate(self, reason: Any, state: list[Any]) -> None:
        ORDERS.told.append(f"terminate {self.context.name}")


def of(number: int) -> Via:
    return Via(ORDERS, ("order", number))


def shop(*workers: Any, **words: Any) -> Application:
    found = workers or [Worker("a", Order, 1, **words), Worker("b", Order, 2, **words)]
    return Application("shop", Supervisor("one_for_one", found))


@pytest.fixture(autouse=True)
def _clean() -> None:
    ORDERS.__init__()  # type: ignore[misc]


def test_a_key_stands_wherever_a_name_does(start: Start) -> None:
    node = start(shop())
    assert (node.call(of(1), 5), node.send_request(of(2), 4).result(10)) == (5, 4)
    node.cast(of(1), 2)
    node.info(of(1), "hello")
    assert node.multi_call([of(1), of(3), of(2)], 1)[0] == [("a", 1), ("b", 1)]
    assert node.sys.get_state(of(1)) == [0.2, 0.5, "hello", 1.0]
    assert (node.whereis(of(1)), node.whereis(of(3))) == (1, None)
    watched = node.monitor(of(2))
    node.stop_server(of(2), "shutdown")
    assert watched.result(10).name == "b"


def test_a_key_that_leads_nowhere_is_a_name_that_nobody_has(start: Start) -> None:
    node = start(shop())
    with pytest.raises(NoProc, match="order"):
        node.call(of(3), 1)
    node.cast(of(3), 1)
    assert node.multi_call([of(3)], 1) == ([], ["via ('order', 3)"])


def test_a_key_is_there_before_init_and_gone_before_terminate(start: Start) -> None:
    node = start(shop(Worker("a", Order, 1)))
    with pytest.raises(Crashed):
        node.call(of(1), 0)
    assert node.call(of(1), 1) == 1
    node.terminate_child("root", "a")
    life = ["register a", "init a", "unregister a", "terminate a"]
    assert ORDERS.told == life * 2
    assert ORDERS.names == {}


def test_a_server_that_is_killed_leaves_no_key(start: Start) -> None:
    node = start(shop(shutdown="brutal_kill"))
    node.terminate_child("root", "a")
    assert list(ORDERS.names.values()) == ["b"]


def test_a_key_that_is_taken_is_already_started(start: Start) -> None:
    node = start(shop())
    with pytest.raises(AlreadyStarted) as caught:
        node.start_child("root", Worker("c", Order, 1))
    assert caught.value.ref == "a"
    assert ("init c" in ORDERS.told, node.whereis("c"), node.call(of(1), 1)) == (False, None, 1)
    assert node.crashes() == []


def test_an_init_that_ignores_leaves_no_key(start: Start) -> None:
    start(shop(Worker("a", Order, 13)))
    assert ORDERS.told == ["register a", "init a", "unregister a"]


def test_an_init_that_fails_leaves_no_key(start: Start) -> None:
    class Fails(Order):
        def init(self, args: Any) -> Any:
            raise ValueError("no")

    with pytest.raises(StartFailed):
        start(shop(Worker("a", Fails, 1)))
    assert ORDERS.told == ["register a", "unregister a"]


def test_children_of_a_template_have_keys_of_their_own(start: Start) -> None:
    orders = Supervisor("simple_one_for_one", [Worker("order", Order)], id="orders")
    node = start(shop(orders))
    for number in (7, 8):
        node.start_child("orders", [number])
    assert [node.call(of(number), number) for number in (7, 8)] == [7, 8]
    assert ORDERS.names == {("order", 7): "order-1", ("order", 8): "order-2"}


def test_a_journaled_server_has_its_key_again(start: Start, tmp_path: Any) -> None:
    node = start(shop(journal=True), data=tmp_path / "data")
    node.call(of(1), 4)
    node.stop()
    assert ORDERS.names == {}
    node = start(shop(journal=True), data=tmp_path / "data")
    assert node.sys.get_state(of(1)) == [0.25]


def test_in_a_simulation_it_is_the_same() -> None:
    with Simulator(3, shop()) as sim:
        sim.node.cast(of(1), 2)
        sim.run(1)
        assert sim.node.sys.get_state("a") == [0.5]


def test_a_via_that_returns_something_else_is_a_failed_start(start: Start) -> None:
    with pytest.raises(StartFailed) as caught:
        start(shop(Worker("a", Order, "order 7")))
    assert isinstance(caught.value.__cause__, BadReturn)
    assert "return a Via, or None" in str(caught.value.__cause__)


def test_a_server_whose_via_is_none_has_its_name_alone(start: Start) -> None:
    node = start(shop(Worker("a", Order)))
    assert (node.call("a", 1), ORDERS.told) == (1, ["init a"])


def test_a_registry_that_raises_does_not_hold_an_end_up(start: Start) -> None:
    node = start(shop())
    ORDERS.is_broken = True
    node.terminate_child("root", "a")
    assert (node.whereis("a"), node.call("b", 1)) == (None, 1)


def test_a_registry_has_three_functions() -> None:
    with pytest.raises(TypeError, match="has no register_name"):
        Via({}, 1)  # type: ignore[arg-type]


class Clerk(GenServer[list[Any], Any, Any]):
    """Does what it is told; keeps what it hears."""

    def init(self, args: Any) -> list[Any]:
        return []

    def handle_call(self, request: Any, caller: Any, state: list[Any]) -> Any:
        return state, list(state)

    def handle_cast(self, actions: Any, state: list[Any]) -> Any:
        return state, None, actions

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        return [*state, message], None


def office(**words: Any) -> Application:
    found = [Worker("a", Order, 1, restart="temporary"), Worker("clerk", Clerk, **words)]
    return Application("office", Supervisor("one_for_one", found))


def ask_by_key() -> list[Any]:
    return [Call(of(1), 4, "t"), Cast(of(1), 2), Info(of(1), "hello"), Monitor(of(1), "m")]


def check_asked_by_key(node: Any, until: Callable[[Callable[[], object]], object]) -> None:
    node.cast("clerk", ask_by_key())
    until(lambda: node.call("clerk", 0))
    assert node.call("clerk", 0) == [CallReply("t", "a", 4)]
    until(lambda: len(node.sys.get_state("a")) == 3)
    assert node.sys.get_state("a") == [0.25, 0.5, "hello"]
    node.terminate_child("root", "a")
    until(lambda: len(node.call("clerk", 0)) == 2)
    assert node.call("clerk", 0)[1] == Down("a", 1, "shutdown", "m")


def spin(condition: Callable[[], object]) -> None:
    while not condition():
        pass


def test_actions_take_keys(start: Start) -> None:
    check_asked_by_key(start(office()), spin)


def test_actions_take_keys_in_a_simulation() -> None:
    with Simulator(1, office()) as sim:
        check_asked_by_key(sim.node, sim.run_until)


def test_an_action_to_a_key_that_leads_nowhere(start: Start) -> None:
    node = start(office())
    node.cast("clerk", [Cast(of(3), 1), Call(of(3), 1, "t"), Monitor(of(3), "m")])
    spin(lambda: len(node.call("clerk", 0)) == 2)
    failed, down = node.call("clerk", 0)
    assert isinstance(failed.error, NoProc)
    assert (down.name, down.reason) == ("via ('order', 3)", "noproc")


def test_a_link_by_a_key_is_one_to_the_server(start: Start) -> None:
    node = start(office(restart="temporary"))
    node.cast("clerk", Link(of(1)))
    assert node.call("clerk", 0) == []
    with pytest.raises(Crashed):
        node.call("a", 0)
    spin(lambda: node.whereis("clerk") is None)


class Torn(Table):
    """Cannot be read."""

    def whereis_name(self, key: Any) -> str | None:
        raise OSError("the table is gone")


def test_a_table_that_cannot_be_read_leads_an_action_nowhere(start: Start) -> None:
    node, torn = start(office()), Via(Torn(), 1)
    node.cast("clerk", [Cast(torn, 1), Info(torn, 1), Monitor(torn), Cast("a", 2), Call(torn, 1)])
    spin(lambda: len(node.call("clerk", 0)) == 2)
    assert [type(info) for info in node.call("clerk", 0)] == [Down, CallFailed]
    assert (node.whereis("clerk"), node.sys.get_state("a")) == (1, [0.5])


class Keeper(Clerk):
    """Journaled: of what it is told the words alone are kept."""

    def handle_cast(self, word: str, state: list[Any]) -> Any:
        return [*state, word], None, Cast(of(1), 1) if word == "by key" else Cast("a", 1)


def test_a_journaled_server_sends_to_names(start: Start, tmp_path: Path) -> None:
    found = [Worker("a", Order, 1), Worker("keeper", Keeper, journal=True)]
    node = start(Application("t", Supervisor("one_for_one", found)), data=tmp_path / "data")
    node.cast("keeper", "by key")
    spin(lambda: node.whereis("keeper") == 2)
    assert "a journaled server's actions take names" in str(node.crashes()[0].reason)
    node.cast("keeper", "by name")
    spin(lambda: node.sys.get_state("a") == [1.0])
    assert node.call("keeper", 0) == ["by name"]


@pytest.mark.parametrize("action", [Demonitor, Unlink])
def test_what_takes_back_is_told_a_name(action: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match="server is the name of one"):
        action(of(1))
