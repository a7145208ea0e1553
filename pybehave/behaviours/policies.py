"""Which recovery policies a worker names, and which of them a failure selects.

Three forms: a policy; a ladder of them, for a server that keeps failing; and, by what was raised,
a mapping from exception classes to policies or ladders. Nobody knows in general what a failure says
of the state (A1-c22): a message that was wrong is passed over, a state that was found to be corrupt
is taken back. So whoever wrote the server narrows the case by the class of the exception.

Invariants
  (P1) Of the classes that a mapping names, the one nearest in the exception's own order of
       resolution counts: the most derived one. Without any it is "last_good".

Does not know: how often a server has failed (durable/policies.py), how a policy is carried out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from pybehave.behaviours.rules import Rule, is_count
from pybehave.types import Policy, RecoverySpec, Rollback

Ladder: TypeAlias = tuple[Policy, ...]
Row: TypeAlias = type[BaseException] | None
"""Which line of a mapping; None = no line is for it, or there is no mapping."""

WORDS: Final = ("last_good", "clean", "stop")
DEFAULT: Final[Ladder] = ("last_good",)


def row_of(recovery: RecoverySpec, reason: object) -> Row:
    """Return the line of a worker's recovery that an exception selects (P1).

    Args:
        recovery: The worker's.
        reason: What was raised.
    """
    if isinstance(recovery, Mapping):
        for kind in type(reason).__mro__:
            if kind in recovery:
                return kind
    return None


def ladder_of(recovery: RecoverySpec, row: Row) -> Ladder:
    """Return the policies of a line, in the order in which they are tried.

    Args:
        recovery: The worker's.
        row: What `row_of` has returned; an upgrade may have changed the lines since.
    """
    if not isinstance(recovery, Mapping):
        return _as_ladder(recovery)
    return DEFAULT if row is None or row not in recovery else _as_ladder(recovery[row])


def policies_in(recovery: RecoverySpec) -> Ladder:
    """Return all policies that a worker names."""
    if not isinstance(recovery, Mapping):
        return _as_ladder(recovery)
    return tuple(policy for each in recovery.values() for policy in _as_ladder(each))


def _as_ladder(policies: Policy | Ladder) -> Ladder:
    return policies if isinstance(policies, tuple) else (policies,)


def _is_recovery(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return _is_ladder(value)
    return bool(value) and all(
        isinstance(kind, type) and issubclass(kind, BaseException) and _is_ladder(each)
        for kind, each in value.items()
    )


def _is_ladder(value: Any) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(_is_policy(each) for each in value)
    return _is_policy(value)


def _is_policy(value: Any) -> bool:
    if isinstance(value, Rollback):
        return is_count(value.count) and value.count >= 1
    return isinstance(value, str) and value in WORDS


RECOVERY_RULE: Final = Rule(
    _is_recovery,
    '"last_good", "clean", "stop", Rollback(n), a tuple of them, or a mapping from exception '
    "classes to these",
)
