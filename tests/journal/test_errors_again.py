"""What the journal keeps of an exception: its class, and the text that it had."""

from __future__ import annotations

import pytest

from pybehave._uring.values import Values
from pybehave.errors import Crashed


class OwnError(Exception):
    """A class that no journal knows."""


@pytest.mark.parametrize("reason", [ValueError("boom"), OwnError("boom"), "killed"])
def test_a_crash_has_the_same_text_again(reason: object) -> None:
    crash = Crashed("kv1", "kv1-1-1", reason)
    values = Values()
    data = values.encode(crash)
    again = values.decode(data)
    assert type(again) is Crashed
    assert str(again) == str(crash)
    assert values.encode(again) == data
