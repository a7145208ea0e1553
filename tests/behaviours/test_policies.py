"""Which policy a failure selects, without a server."""

import pickle
from typing import Any

import pytest

from pybehave import GenServer, Rollback, Worker
from pybehave.behaviours.policies import ladder_of, policies_in, row_of
from pybehave.errors import SpecError
from pybehave.runtime.durable.policies import CALM_NS, Policies

LINES = {
    LookupError: "clean",
    KeyError: (Rollback(1), "stop"),
    Exception: "last_good",
}


class Both(ValueError, KeyError):
    """Of two families: the order of its bases counts."""


def worker(recovery: Any) -> Worker[Any, Any]:
    return Worker("w", GenServer, journal=True, recovery=recovery)


@pytest.mark.parametrize(
    ("error", "row"),
    [
        (KeyError("k"), KeyError),
        (IndexError("i"), LookupError),
        (LookupError("l"), LookupError),
        (Both("b"), KeyError),
        (ValueError("v"), Exception),
        (KeyboardInterrupt(), None),
        ("shutdown", None),
    ],
)
def test_P1_the_most_derived_class_counts(error: object, row: Any) -> None:
    assert row_of(LINES, error) is row


def test_P1_the_order_of_the_lines_does_not_matter() -> None:
    turned = dict(reversed(LINES.items()))
    assert [row_of(turned, kind()) for kind in (KeyError, IndexError, Both)] == [
        row_of(LINES, kind()) for kind in (KeyError, IndexError, Both)
    ]


def test_a_ladder_is_what_a_line_holds() -> None:
    assert ladder_of(LINES, KeyError) == (Rollback(1), "stop")
    assert ladder_of(LINES, LookupError) == ("clean",)
    assert ladder_of(LINES, None) == ("last_good",)
    assert ladder_of("clean", None) == ("clean",)
    assert set(policies_in(LINES)) == {"clean", Rollback(1), "stop", "last_good"}


def test_a_line_that_an_upgrade_has_removed_is_none() -> None:
    assert ladder_of({KeyError: "stop"}, LookupError) == ("last_good",)
    assert ladder_of("clean", LookupError) == ("clean",)


def test_each_line_has_a_ladder_of_its_own() -> None:
    policies, one = Policies(), worker({KeyError: ("last_good", "stop"), ValueError: ("clean",)})
    seen = []
    for error in (KeyError(), ValueError(), KeyError(), ValueError(), OSError()):
        policies.failed(one, error, 1)
        seen.append(policies.of(one))
    assert seen == ["last_good", "clean", "stop", "clean", "last_good"]


@pytest.mark.parametrize(("after_ns", "policy"), [(CALM_NS, "stop"), (CALM_NS + 1, "last_good")])
def test_a_calm_while_begins_a_ladder_anew(after_ns: int, policy: str) -> None:
    policies, one = Policies(), worker({KeyError: ("last_good", "stop")})
    policies.failed(one, KeyError(), 7)
    policies.failed(one, KeyError(), 7 + after_ns)
    assert policies.of(one) == policy


@pytest.mark.parametrize(
    "recovery",
    [
        {},
        {ValueError: "skip"},
        {ValueError: ()},
        {ValueError: {KeyError: "clean"}},
        {"ValueError": "clean"},
        {int: "clean"},
        {ValueError: "clean", KeyError("k"): "stop"},
    ],
)
def test_what_is_no_mapping_of_policies_is_refused(recovery: Any) -> None:
    with pytest.raises(SpecError, match="or a mapping from exception classes to these"):
        worker(recovery)


def test_a_worker_keeps_what_it_was_given() -> None:
    lines: dict[Any, Any] = dict(LINES)
    one = worker(lines)
    lines.clear()
    assert one.recovery == LINES
    assert pickle.loads(pickle.dumps(one.recovery)) == LINES
