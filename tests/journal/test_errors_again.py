"""What the journal keeps of an exception: its class, and the text that it had."""

from __future__ import annotations

import pytest

from pybehave._uring.values import Values
from pybehave.errors import Crashed


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
