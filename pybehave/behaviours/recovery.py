"""What a server's `init` is told of the time before, when it has a parameter of that name.

Theory. Whoever starts a journaled server again has a candidate for its state: the last good one.
Mostly that is right; sometimes only the server can say whether it is. So an `init(args, recovery)`
is asked each time there is something to go on from, and what it returns counts. The choice is
journaled, so a replay repeats the choice and does not ask whether it would be made again.

What is in a `Recovery` comes from the journal alone, so that `init` finds the same in a replay.

Does not know: how a state is found, how a choice is kept (durable/recoveries.py).
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Generic, final
from weakref import WeakSet

from pybehave.errors import SpecError, show_reason
from pybehave.types import Policy, State

_UNCHANGING = frozenset({type(None), bool, int, float, str, bytes})
logger = logging.getLogger("pybehave")
_warned: WeakSet[type] = WeakSet()
KINDS = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@final
@dataclass(frozen=True, slots=True)
class Failure:
    """The input on which a server failed.

    Attributes:
        lsn: Its number in the journal; its dead letter has the same.
        message: The input, as the callback got it.
        error: Class and text of what was raised, as "builtins.ValueError: no"; "" when the
            process ended before anybody could say.
    """

    lsn: int
    message: Any
    error: str


@final
@dataclass(frozen=True, slots=True)
class Recovery(Generic[State]):
    """What there is to go on from.

    Attributes:
        state: The last good one: before the input it failed on, and before those that the policy
            `Rollback` has taken back. It may be changed in place and returned. Of a GenStatem
            this is (state, data).
        policy: What holds for this start: the worker's `recovery`, or the one of its ladder whose
            turn it is. Without a failure it is "last_good".
        failure: The input it failed on; None when it has only been stopped and started.
        timers: The names of its timers that run; they go on, unless cancelled.
    """

    state: State
    policy: Policy
    failure: Failure | None = None
    timers: frozenset[Any] = frozenset()

    def of(self, state: Any) -> Recovery[Any]:
        """Return the same with its state in another form."""
        return replace(self, state=state)


def takes_recovery(instance: object) -> bool:
    """Say whether a server's init has a parameter `recovery`.

    Args:
        instance: The server.
    """
    init = getattr(type(instance), "init", None)
    return init is not None and _takes_it(init)


@lru_cache(maxsize=1024)  # an application has fewer classes; a start asks several times
def _takes_it(init: Callable[..., Any]) -> bool:
    found = inspect.signature(init).parameters.get("recovery")
    return found is not None and found.kind in KINDS


def check_init(kind: type) -> None:
    """Refuse an init that wants more than it is given.

    Args:
        kind: The server's class.

    Raises:
        SpecError: It has another parameter behind `args`, without a default.
    """
    init: Callable[..., Any] = kind.init  # type: ignore[attr-defined]
    parameters = list(inspect.signature(init).parameters.values())
    for each in parameters[2:]:  # self, args
        is_needed = each.kind in KINDS and each.default is inspect.Parameter.empty
        if is_needed and each.name != "recovery":
            raise SpecError(
                kind.__name__,
                f"init has a parameter {each.name!r}, and is given nothing for it; it is "
                f"init(self, args) or init(self, args, recovery=None)",
            )


def own_state(of: type, args: Any) -> Any:
    """Return args as a first state that steps of a class may change in place: a copy.

    The specification's args are for each start, and for each server of a family (OTP copies them
    at each start). What cannot be copied is left as it is, and the log says so, once a class.
    """
    if type(args) in _UNCHANGING:
        return args
    try:
        return copy.deepcopy(args)
    except Exception as error:  # noqa: BLE001 -- whatever its own copying does
        if of not in _warned:
            _warned.add(of)
            logger.warning(
                "%s has no init, and its args cannot be copied (%s): what steps change in them is "
                "what the next start begins with; give it an init",
                of.__name__,
                show_reason(error),
            )
        return args


def call_init(instance: Any, args: Any, recovery: Recovery[Any] | None = None) -> Any:
    """Call a server's init with what it takes.

    Args:
        instance: The server.
        args: What the worker's specification holds.
        recovery: What there is to go on from; None = nothing.
    """
    init = getattr(type(instance), "init", None)
    if init is not None and _takes_it(init):
        return instance.init(args, recovery=recovery)  # by its name: others may stand before it
    return instance.init(args)
