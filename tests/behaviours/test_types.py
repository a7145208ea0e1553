"""Which reasons of ending are clean."""

import pickle

import pytest

from pybehave.types import IGNORED, Shutdown, is_clean


@pytest.mark.parametrize(
    "reason", ["normal", "shutdown", Shutdown(), Shutdown({"moved": 1}), ("shutdown", "as in OTP")]
)
def test_three_kinds_of_reasons_are_clean(reason: object) -> None:
    assert is_clean(reason)


@pytest.mark.parametrize(
    "reason",
    ["killed", "error", "", None, 0, Exception(), [], ("shutdown",), ("shutdown", 1, 2), ("no", 1)],
)
def test_every_other_reason_is_abnormal(reason: object) -> None:
    assert not is_clean(reason)


def test_ignored_is_unique_also_after_pickling() -> None:
    assert pickle.loads(pickle.dumps(IGNORED)) is IGNORED
    assert repr(IGNORED) == "IGNORED"
