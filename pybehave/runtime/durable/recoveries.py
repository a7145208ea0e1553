"""What an init that takes a Recovery is offered, and what it has chosen: kept in START records.

Invariants
  (O1) A state counts as the one that was offered only if its encoding has not changed (or the
       server is `pure`, and it is the same object). Any other stands in the START record itself.
  (O2) All of an offer stands in the journal before the START record, or in it: a replay offers the
       same, and takes the choice from the record.
  (O3) A first state that is not large stands in the START record: a replay begins with that,
       whatever args, configuration or a changed constant would let init return by then. Not one
       that has an object in two places: it would be read as two.

Does not know: how the last good state is found (journaling.py), what START is (replay.py).
"""

from __future__ import annotations

import enum
import gc
import logging
from dataclasses import replace
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final, final
from weakref import WeakSet

import msgspec

from pybehave import actions
from pybehave._uring.values import TooLargeError
from pybehave.behaviours.gen_event import GenEvent
from pybehave.behaviours.gen_server import Initial
from pybehave.behaviours.recovery import Failure, Recovery
from pybehave.errors import StateNotKept, show_reason
from pybehave.runtime.durable import asked
from pybehave.types import Policy, Rollback

if TYPE_CHECKING:
    from pybehave._uring.servers import Server
    from pybehave.runtime.durable.replay import Known

KEPT: Final = (
    actions.StartTimer,
    actions.CancelTimer,
    actions.IdleTimeout,
    actions.Continue,
    actions.Demonitor,
    actions.Unlink,
)
ASKING: Final = (actions.Call, actions.Connect, actions.Monitor, actions.Link)
"""Actions of an init that are the server's own, and so part of what it goes on with."""

ASKED: Final = "asked"

FIRST_STATE_BYTES_MAX: Final = 64 * 1024
"""Encoded. A larger one is made again by each replay: 100,000 servers begin with one each."""

ATOMS: Final = (type, enum.Enum, ModuleType, FunctionType, BuiltinFunctionType, MethodType)
"""What is known by its name, or has no form in a journal: what is below is none of the value."""

PLAIN: Final = frozenset({str, int, float, bytes, bool, type(None)})

CHANGEABLE: Final[tuple[Any, ...]] = (None, object.__hash__)
"""How what can be changed is hashed: not at all, or by what it is."""

logger = logging.getLogger("pybehave")
_warned: WeakSet[type] = WeakSet()


@final
class Offer:
    """One start of a journaled server whose init decides.

    Args:
        server: The incarnation in the making; its init has not been called.
        known: What there is to go on from.
        policy: What holds for this start.

    Raises:
        StateNotKept: The state has no encoding, so nobody could say whether init changes it.

    Attributes:
        recovery: What init is given.
    """

    def __init__(self, server: Server, known: Known, policy: Policy) -> None:
        self.recovery: Recovery[Any] = Recovery(
            known.state, policy, known.failure, frozenset(known.due)
        )
        self._server = server
        self._before = None
        if not getattr(server.instance, "pure", False):
            assert known.dump is not None
            self._before = self._encoded(known.dump, known.state)

    def fields(self, initial: Initial) -> dict[str, Any]:
        """Return what the START record says of the choice.

        Args:
            initial: What init has returned.

        Raises:
            StateNotKept: The chosen state has no encoding.
        """
        values = self._server.values
        assert values is not None
        policy, failure = self.recovery.policy, self.recovery.failure
        found: dict[str, Any] = {
            "policy": "last_good",
            "offered": ["rollback", policy.count] if isinstance(policy, Rollback) else policy,
        }
        if failure is not None:
            found["failure"] = values.encode(list_of(failure))
        if self._before is not None or initial.state is not self.recovery.state:
            state = self._encoded(self._server.instance.dump, initial.state)
            if state != self._before:  # (O1)
                found.update(policy="chosen", state=state)
        kept = [pack(action) for action in initial.actions if isinstance(action, KEPT + ASKING)]
        if kept:
            found["actions"] = values.encode(kept)
        return found

    def _encoded(self, dump: Any, state: Any) -> bytes:
        values = self._server.values
        assert values is not None
        try:
            return values.encode(dump(state))
        except Exception as error:  # whatever dump does
            raise StateNotKept(self._server.name, show_reason(error)) from error


def first_state(server: Server, initial: Initial) -> dict[str, Any]:
    """Return what the START record keeps of a state that counts because there is no other (O3).

    Args:
        server: The incarnation in the making.
        initial: What its init has returned.
    """
    values, instance = server.values, server.instance
    assert values is not None
    if isinstance(instance, GenEvent):  # what its handlers' inits set up is in no state
        return {}
    try:
        dumped = instance.dump(initial.state)
        state = values.encode(dumped, FIRST_STATE_BYTES_MAX)
    except Exception as error:  # noqa: BLE001 -- whatever dump does; snapshots will, too
        if not isinstance(error, TooLargeError):
            _warn_once(type(instance), server.name, error)
        return {}
    if len(state) > FIRST_STATE_BYTES_MAX or has_shared(dumped):
        return {}
    return {"state": state}


def has_shared(value: Any) -> bool:
    """Whether an object that can be changed is in a value more than once.

    Args:
        value: Has a form in the journal that is not large, so that walking it ends.
    """
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if type(each) in PLAIN or isinstance(each, ATOMS):
            continue
        if type(each).__hash__ in CHANGEABLE:
            if id(each) in seen:
                return True
            seen.add(id(each))
        waiting += gc.get_referents(each)
    return False


def _warn_once(kind: type, name: str, error: Exception) -> None:
    if kind not in _warned:
        _warned.add(kind)
        logger.warning(
            "server %r: no snapshot will be able to keep its first state: %s", name, error
        )


def offered_by(
    fields: dict[str, Any], state: Any, failure: Failure | None, timers: frozenset[Any]
) -> Recovery[Any]:
    """Return what an init was offered when its START record was made.

    Args:
        fields: Of the record.
        state: The state that the journal had led to.
        failure: What the record says of it.
        timers: The names of the timers that ran.
    """
    policy = fields.get("offered", "last_good")
    if isinstance(policy, list):
        policy = Rollback(policy[1])
    return Recovery(state, policy, failure, timers)


def list_of(failure: Failure) -> list[Any]:
    """Return a failure as plain values; `Failure(*values)` is its other way."""
    return [failure.lsn, failure.message, failure.error]


def pack(action: Any) -> list[Any]:
    """Return an action of KEPT or ASKING as plain values."""
    if isinstance(action, ASKING):
        return [ASKED, *asked.fields_of(action)]
    return [type(action).__name__, *msgspec.structs.astuple(action)]


def unpack(packed: list[Any]) -> Any:
    """Return the action of `pack`."""
    name, *fields = packed
    if name == ASKED:
        return asked.action_of(fields)
    return getattr(actions, name)(*fields)


def error_text(reason: object) -> str:
    """Return the class and the text of what a step raised: "builtins.ValueError: no"."""
    error = reason if isinstance(reason, BaseException) else RuntimeError(repr(reason))
    return f"{type(error).__module__}.{show_reason(error)}"


def told_again(before: Failure | None, rebuilt: Failure | None) -> Failure | None:
    """Return the failure with the input as it was recorded: the step may have changed the object.

    Args:
        before: What was told of it when it happened.
        rebuilt: What the journal says of it.
    """
    if before is None or rebuilt is None or before.lsn != rebuilt.lsn:
        return before
    return replace(before, message=rebuilt.message)
