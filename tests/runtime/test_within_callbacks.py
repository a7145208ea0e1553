"""What a callback cannot wait for is refused at once, with what to do instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.errors import CalledInCallback, Crashed
from pybehave.runtime.node import Node
from pybehave.testing import Simulator


class Doer(GenServer[None, Callable[[], Any], Any]):
    """Calls what it is given, within its step."""

    def step(self, command: Callable[[], Any], state: None) -> tuple[None, Any]:
        return state, command()


@pytest.fixture
def app() -> Application:
    children = [Worker("doer", Doer), Worker("other", Doer)]
    return Application("app", Supervisor("one_for_one", children, intensity=9))


def refusal(node: Node, command: Callable[[], Any]) -> str:
    """The sentence that a step hears, when it does what cannot be."""
    with pytest.raises(Crashed) as crashed:
        node.call("doer", command)
    assert isinstance(crashed.value.reason, CalledInCallback)
    return str(crashed.value.reason)


def test_a_step_does_not_wait_for_a_future(app: Application, source: str) -> None:
    with app.start(backend=source) as node:
        said = refusal(node, lambda: node.send_request("other", int).result())
        assert "server 'doer' called 'other'" in said
        assert "return the action Call('other', ...)" in said
        assert "called 'other'" in refusal(node, lambda: node.monitor("other").result(60))
        assert "called 'other'" in refusal(node, lambda: node.monitor("other").exception(9))


def test_a_step_may_look_at_a_future(app: Application, source: str) -> None:
    with app.start(backend=source) as node:
        kept = []

        def ask() -> None:
            kept.append(node.send_request("other", lambda: 5))
            with pytest.raises(TimeoutError):
                kept[0].result(timeout=0)

        node.call("doer", ask)
        assert kept[0].result(30) == 5
        assert node.call("doer", kept[0].result) == 5


def test_the_thread_that_turns_the_loop_waits_for_no_future(app: Application) -> None:
    with Simulator(1, app) as sim:
        later = sim.node.monitor("other")
        with pytest.raises(CalledInCallback, match=r"own thread called 'other'.*done\(\)"):
            later.result(60)
        sim.node.terminate_child("root", "other")
        sim.run_until(later.done)
        assert later.result().name == "other"


def test_a_step_asks_for_a_stop_and_does_not_wait_for_it(app: Application, source: str) -> None:
    with app.start(backend=source) as node:
        assert "use request_stop()" in refusal(node, node.stop)
        assert node.call("other", lambda: "still here") == "still here"
        node.call("doer", node.request_stop)
    assert node.exit_status == 0


class AtOnce(GenServer[None, Any, Any]):
    """Calls what it is given, in its init and in its terminate."""

    def init(self, args: dict[str, Callable[[], Any]]) -> None:
        self.at_the_end = args.get("terminate", int)
        args.get("init", int)()

    def terminate(self, reason: object, state: None) -> None:
        self.at_the_end()


@pytest.mark.parametrize(
    ("where", "is_driven"), [("init", False), ("init", True), ("terminate", False)]
)
def test_no_callback_waits_for_the_end_of_its_own_node(
    where: str, is_driven: bool, source: str
) -> None:
    heard: list[str] = []

    def stop() -> None:
        with pytest.raises(CalledInCallback) as refused:
            node.stop()
        heard.append(str(refused.value))
        node.request_stop()

    children = [Worker("early", AtOnce, {where: stop}), Worker("late", Doer)]
    node = Node(Application("app", Supervisor("one_for_one", children)), backend=source)
    if is_driven:
        node.boot()
    else:
        node.start()
    assert node.stop() == 0
    assert [said[said.index("use ") :] for said in heard] == [
        "use request_stop(), which does not wait"
    ]


@pytest.mark.parametrize(
    "wanted",
    [
        lambda node: node.sys.suspend("other"),
        lambda node: node.sys.replace_state("other", str),
        lambda node: node.forget("other", stop=True),
        lambda node: node.releases.upgrade(node.app, from_version="1"),
    ],
)
def test_what_no_action_does_is_for_another_thread(
    app: Application, wanted: Callable[[Node], object]
) -> None:
    with app.start() as node:
        said = refusal(node, lambda: wanted(node))
        assert "do it from another thread" in said
        assert "Call(" not in said


def test_many_calls_within_a_step_name_the_server(app: Application) -> None:
    with app.start() as node:
        said = refusal(node, lambda: node.call_many("other", [int, int]))
        assert "A callback of server 'doer' called 'other'" in said
