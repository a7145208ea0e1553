"""Servers that are found by a key in a registry of the user's own (`GenServer.via`, `Via`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Via, Worker
from pybehave.actions import Ignore
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
