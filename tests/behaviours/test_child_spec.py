"""A worker's specification: defaults of OTP, every field checked, errors that name it."""

from dataclasses import FrozenInstanceError, replace
from functools import partial
from typing import Any

import pytest

from pybehave.behaviours.child_spec import ID_CHARS_MAX, MAILBOX_CAPACITY, Ref, Worker
from pybehave.errors import SpecError
from pybehave.types import OnRestart
from tests.builders import Idle

WRONG = [
    ("id", ""),
    ("id", 7),
    ("id", "a/b"),
    ("id", "x" * (ID_CHARS_MAX + 1)),
    ("server", "not callable"),
    ("server", None),
    ("server", dict),
    ("server", Idle()),
    ("restart", "always"),
    ("restart", ["permanent"]),
    ("shutdown", -1),
    ("shutdown", -0.5),
    ("shutdown", float("inf")),
    ("shutdown", float("nan")),
    ("shutdown", "never"),
    ("shutdown", True),
    ("shutdown", None),
    ("significant", 1),
    ("name", ""),
    ("name", 7),
    ("mailbox", 0),
    ("mailbox", 1.0),
    ("overflow", "drop"),
    ("journal", "yes"),
]


def test_S1_1_defaults_are_those_of_OTP() -> None:
    worker = Worker("kv", Idle)
    assert worker.restart == "permanent"
    assert worker.shutdown == 5.0
    assert worker.significant is False
    assert worker.name == "kv"
    assert worker.mailbox == MAILBOX_CAPACITY
    assert worker.overflow == "block"


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_S1_1_a_wrong_field_is_named_with_its_value_and_the_mend(field: str, value: Any) -> None:
    fields: dict[str, Any] = {"id": "kv", "server": Idle, field: value}
    with pytest.raises(SpecError, match=rf"Worker .*: {field}=.* is not allowed; use "):
        Worker(**fields)


def test_S1_1_the_sentence_reads_as_promised() -> None:
    with pytest.raises(SpecError) as caught:
        Worker("cache", Idle, shutdown=-1)
    assert str(caught.value) == (
        "Worker 'cache': shutdown=-1 is not allowed; "
        'use seconds >= 0, "brutal_kill" or "infinity"'
    )


@pytest.mark.parametrize("shutdown", [0, 0.0, 5, 5.0, "brutal_kill", "infinity"])
def test_S1_1_every_shutdown_that_OTP_knows_is_allowed(shutdown: Any) -> None:
    assert Worker("kv", Idle, shutdown=shutdown).shutdown == shutdown


def test_an_id_may_be_as_long_as_the_limit() -> None:
    assert Worker("x" * ID_CHARS_MAX, Idle).id == "x" * ID_CHARS_MAX


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="shutdwon"):
        Worker("kv", Idle, shutdwon=1)  # type: ignore[call-arg]


def test_C1_a_worker_cannot_be_changed_but_replaced() -> None:
    worker = Worker("kv", Idle)
    with pytest.raises(FrozenInstanceError):
        worker.id = "other"  # type: ignore[misc]
    assert replace(worker, mailbox=2).mailbox == 2
    with pytest.raises(SpecError):
        replace(worker, mailbox=0)


def test_a_factory_may_stand_for_the_class() -> None:
    worker = Worker("kv", partial(Idle))
    assert isinstance(worker.server(), Idle)


class FakeNode:
    def call(
        self,
        server: str,
        request: Any,
        *,
        timeout: float | None = 5.0,
        on_restart: OnRestart = "fail",
    ) -> Any:
        return server, request, timeout

    def cast(self, server: str, message: Any) -> None:
        self.cast_to = server, message


def test_a_ref_calls_by_name() -> None:
    ref = Worker("kv", Idle, name="store").ref
    assert ref == Ref("store")
    assert ref.call(FakeNode(), "get", timeout=1.0) == ("store", "get", 1.0)
    node = FakeNode()
    ref.cast(node, "put")
    assert node.cast_to == ("store", "put")


def test_a_step_function_is_no_worker() -> None:
    def step(command: object, state: object) -> object:
        return state, command

    with pytest.raises(SpecError, match=r"server=.* use a GenServer class, or a function"):
        Worker("a", step)  # type: ignore[arg-type]
    Worker("a", lambda kind=Idle: kind())
