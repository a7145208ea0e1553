"""What the journal keeps of an exception: its class, the text that it had, and of pybehave's own
what else they say; and that a step sees no more of it than the replay will.
"""

from __future__ import annotations

from typing import Any

import pytest

from pybehave import Application, GenServer, Shutdown, Supervisor, Worker
from pybehave._uring.values import Values
from pybehave.actions import Call, Run
from pybehave.errors import Crashed, InputTypeMismatch, PybehaveError, Rejected, Stopped, Timeout
from pybehave.journal.recovery import Options
from pybehave.testing import Simulator
from pybehave.testing.disk import SimDisk


class OwnError(Exception):
    """A class that no journal knows."""


def unicode_error() -> UnicodeDecodeError:
    return UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


@pytest.mark.parametrize(
    "error", [KeyError("k"), unicode_error(), OSError(2, "gone", "f"), KeyError()]
)
def test_an_exception_has_the_same_text_again(error: Exception) -> None:
    values = Values()
    data = values.encode(error)
    again = values.decode(data)
    assert isinstance(again, type(error))
    assert str(again) == str(error)
    assert values.encode(again) == data


def test_an_exception_that_takes_more_than_a_text_can_be_read() -> None:
    values = Values()
    again = values.decode(values.encode(ExceptionGroup("group", [ValueError("boom")])))
    assert str(again) == "builtins.ExceptionGroup: group (1 sub-exception)"


@pytest.mark.parametrize("reason", [ValueError("boom"), OwnError("boom"), "killed"])
def test_a_crash_has_the_same_text_again(reason: object) -> None:
    crash = Crashed("kv1", "kv1-1-1", reason)
    values = Values()
    data = values.encode(crash)
    again = values.decode(data)
    assert type(again) is Crashed
    assert str(again) == str(crash)
    assert values.encode(again) == data


@pytest.mark.parametrize(
    "error",
    [
        Timeout("kv1", 1.5),
        Rejected("kv1", {"too": ["much"]}),
        InputTypeMismatch("kv1", 7, (str,)),
        Crashed("kv1", "kv1-1-1", Timeout("kv2", 2.0)),
    ],
)
def test_an_exception_of_ours_says_what_it_said(error: PybehaveError) -> None:
    values = Values()
    data = values.encode(error)
    again = values.decode(data)
    assert (type(again), str(again)) == (type(error), str(error))
    assert values.encode(again) == data
    for name, value in vars(error).items():
        if not isinstance(value, tuple | BaseException):  # classes have no form
            assert getattr(again, name) == value


def test_a_clean_reason_with_a_term_is_kept() -> None:
    values = Values()
    again = values.decode(values.encode(Stopped("kv1", Shutdown(("moved", 3)))))
    assert again.reason == Shutdown(("moved", 3))


def test_what_has_no_form_is_left_out() -> None:
    values = Values()
    again = values.decode(values.encode(Rejected("kv1", object)))
    assert again.server == "kv1" and not hasattr(again, "reason")


def break_it() -> None:
    raise OwnError("x")


class Picky(GenServer[Any, Any, Any]):
    """Refuses some, runs into others."""

    def init(self, args: Any) -> int:
        return 0

    def validate(self, command: int, state: int) -> str | None:
        return "below zero" if command < 0 else None

    def step(self, command: int, state: int) -> tuple[int, int]:
        return state + command, 1 // command


class Asking(GenServer[Any, Any, Any]):
    """Keeps all that it can see of what went wrong."""

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        action = Run(break_it, tag=command) if command == "run" else Call("picky", command, tag=0)
        return state, None, action

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        error = message.error
        kinds = [kind.__name__ for kind in type(error).__mro__]
        seen = [*kinds, str(error), sorted(vars(error)), getattr(error, "reason", None) is None]
        return [*state, *seen, str(error.__cause__)], None


def world(seed: int, disk: SimDisk) -> Simulator:
    workers = [Worker("picky", Picky, journal=True), Worker("asking", Asking, journal=True)]
    app = Application("t", Supervisor("one_for_one", workers, intensity=1000))
    return Simulator(seed, app, disk=disk, journal_options=Options(segment_bytes=1 << 20))


def test_a_step_sees_of_an_exception_what_the_replay_will() -> None:
    disk = SimDisk(1)
    with world(1, disk) as before:
        for command in (-1, 0, "run"):
            before.node.call("asking", command)
            before.run(5.0)
        seen = before.node.get_state("asking")
        disk = disk.copy()
    assert [each for each in seen if each in ("Rejected", "Crashed", "JournaledError")] == [
        "Rejected",
        "Crashed",
        "JournaledError",
    ]
    with world(2, disk) as after:
        after.run(1.0)
        assert after.node.get_state("asking") == seen
