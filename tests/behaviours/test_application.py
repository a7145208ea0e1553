"""An application is data: a tree, listeners bound to its workers, a name and a version."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, get_type_hints

import pytest

from pybehave import GenServer, Supervisor, family
from pybehave.behaviours.application import Application, Callbacks
from pybehave.errors import SpecError
from pybehave.listener import Listener
from pybehave.protocols import Lines, Resp
from pybehave.runtime.node import Node
from tests.builders import supervisor

TREE = supervisor("one_for_one", "kv1", supervisor("one_for_one", "kv2"))


def test_an_application_holds_what_it_was_given() -> None:
    listener = Listener("tcp://:0", Resp(), to="kv2")
    app = Application("kv", TREE, listeners=[listener], version="1.2")
    assert (app.name, app.tree, app.listeners, app.version) == ("kv", TREE, (listener,), "1.2")


def test_a_listener_to_nobody_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(SpecError, match="to='kv9' is no worker of the tree; use one of: kv1, kv2"):
        Application("kv", TREE, listeners=[Listener("tcp://:0", Resp(), to="kv9")])


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", ""), ("name", None), ("version", 1), ("tree", None), ("listeners", ["tcp://:1"])],
)
def test_a_wrong_field_is_named(field: str, value: Any) -> None:
    fields: dict[str, Any] = {"name": "kv", "tree": TREE, field: value}
    with pytest.raises(SpecError, match=f"{field}="):
        Application(**fields)


def test_a_listener_needs_a_worker_beside_a_family() -> None:
    tree = Supervisor("one_for_one", [family("user-*", GenServer)])
    with pytest.raises(SpecError, match="to='user-1' is no worker of the tree; add one"):
        Application("site", tree, listeners=[Listener("tcp://127.0.0.1:0", Lines(), to="user-1")])


def test_a_type_checker_knows_all_that_a_started_node_can_do() -> None:
    def declared(function: Callable[..., Any], name: str) -> Any:
        return get_type_hints(function, localns={"Node": Node})[name]

    assert declared(Application.start, "return") is Node
    assert declared(Application.running, "return") == AbstractAsyncContextManager[Node]
    hooks = (Callbacks.start_phase, Callbacks.prep_stop, Callbacks.stop, Callbacks.config_change)
    assert {declared(hook, "node") for hook in hooks} == {Node}
