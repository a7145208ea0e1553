"""Seed 002, Jobim: its transcripts; a process id's last number is the incarnation here.

The REPL has number 1 and the supervisor 2, so the clients begin with 3. Where Jobim differs from
OTP (at the limit it restarts the failed child once more, only to stop it), OTP's way is expected.
"""

from typing import Any

import pytest

from pybehave.actions import NO_REPLY
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.gen_server import GenServer
from pybehave.behaviours.supervisor import Supervisor
from pybehave.errors import NoProc
from tests.builders import Run


class Died(Exception):
    pass


class ExceptionTestServer(GenServer[list[Any], str, str]):
    def init(self, args: Any) -> list[Any]:
        return []

    def handle_call(self, request: str, caller: Any, state: list[Any]) -> Any:
        if request == "exception":
            raise Died(f"I DIED! {self.context.name}")
        return [], "alive"

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        return state, NO_REPLY


class Repl:
    """What the seed types: start-supervisor, registered-names, trigger-exception, ping-client."""

    def __init__(self, strategy: str) -> None:
        clients = [Worker(f"test-client-{n}", ExceptionTestServer) for n in (1, 2, 3)]
        spec = Supervisor(strategy, clients, intensity=1, period=20.0)  # type: ignore[arg-type]
        self.run = Run(spec)
        self.host = self.run.host
        self.host.incarnations = 2
        self.run.start()

    def registered_names(self) -> dict[str, int]:
        return self.host.registered

    def trigger_exception(self, n: int) -> None:
        running = self.host.names[f"test-client-{n}"]
        with pytest.raises(Died) as caught:
            running.instance.handle_call("exception", None, running.state)
        self.host.crash(f"test-client-{n}", caught.value)

    def ping(self, n: int) -> str:
        return str(self.host.call(f"test-client-{n}", "ping"))


def names(one: int, two: int, three: int) -> dict[str, int]:
    return {"test-client-1": one, "test-client-2": two, "test-client-3": three}


@pytest.mark.parametrize(
    ("strategy", "before", "after"),
    [
        ("one_for_one", names(3, 4, 5), names(3, 6, 5)),
        ("one_for_all", names(3, 4, 5), names(6, 7, 8)),
        ("rest_for_one", names(3, 4, 5), names(3, 6, 7)),
    ],
)
def test_A2_3_a_strategy_changes_the_incarnations_it_should(
    strategy: str, before: dict[str, int], after: dict[str, int]
) -> None:
    repl = Repl(strategy)
    assert repl.registered_names() == before
    repl.trigger_exception(2)
    assert repl.registered_names() == after
    assert repl.ping(2) == "alive"


def test_A2_3_at_the_limit_all_children_are_terminated_and_the_registry_is_empty() -> None:
    repl = Repl("one_for_one")
    repl.trigger_exception(2)
    assert repl.registered_names() == names(3, 6, 5)
    repl.host.take()
    repl.trigger_exception(2)
    assert repl.registered_names() == {}
    assert repl.host.take() == "term test-client-2, term test-client-3, term test-client-1"
    assert "IntensityReached test-client-2" in repl.host.reported()
    assert repl.run.ended == ["shutdown"]


def test_A2_3_the_log_of_one_for_all_stops_in_reverse() -> None:
    repl = Repl("one_for_all")
    repl.trigger_exception(2)
    stops = "term test-client-2, term test-client-3, term test-client-1"
    assert repl.host.take().startswith(stops)


def test_A2_3_two_failures_within_twenty_seconds_are_too_many_after_them_they_are_not() -> None:
    repl = Repl("one_for_one")
    repl.trigger_exception(2)
    repl.host.advance(20.5)
    repl.trigger_exception(2)
    assert repl.registered_names() == names(3, 7, 5)


def test_A2_4_a_server_that_is_not_restarted_is_no_longer_registered() -> None:
    """The seed's first transcript: make-test-client, ping-client, trigger-exception."""
    client = Worker("test-client-0", ExceptionTestServer, restart="temporary")
    run = Run(Supervisor("one_for_one", [client])).start()
    assert run.host.registered == {"test-client-0": 1}
    assert run.host.call("test-client-0", "ping") == "alive"
    run.host.crash("test-client-0")
    assert run.host.registered == {}
    with pytest.raises(NoProc):
        run.host.call("test-client-0", "ping")
