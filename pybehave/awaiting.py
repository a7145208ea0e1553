"""Several effects and one continuation: what a server waits for, as a value in its own state.

    waiting, actions = await_all({"stock": Call("stock", item), "price": Run(look_up, item)}, tag=7)

A callback never waits: it asks, and the answers come as infos, one by one. A server that can go on
only when all of them are there, or with whichever comes first, keeps an `Awaiting` in its state and
gives it each info. What the state is by then is seen where it goes on, for it is an input like any
other (docs/guide/actions.md).

Invariants
  (W1) An Awaiting is immutable plain data: a journal keeps it with the state, and a replay comes to
       the same one.
  (W2) Each effect is answered once; an answer to anything else changes nothing, nor does one that
       comes when it is done.

Does not know: who carries effects out, time. An effect that may hang has a `timeout` of its own.
Source: A3-37; the awaiting of futures in languages that have coroutines, made visible.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, final

from msgspec import structs

from pybehave.actions import (
    Call,
    CallFailed,
    CallReply,
    Cancel,
    Connect,
    Connected,
    ConnectFailed,
    Run,
    RunDone,
    RunFailed,
)
from pybehave.errors import show

Effect: TypeAlias = Call | Run | Connect
"""What is answered by one info that has its tag."""

Done: TypeAlias = CallReply | RunDone | Connected
Failed: TypeAlias = CallFailed | RunFailed | ConnectFailed


@final
@dataclass(frozen=True, slots=True)
class Awaiting:
    """Effects that are under way, and what has come of them; made by `await_all`, `await_any`.

    Attributes:
        tag: What all of them have in common; the tag of one of them is `(tag, key)`.
        until: "all": done when each has answered; "any": when one has succeeded, or all failed.
        missing: The keys of those that have not answered.
        answers: The infos that have come, by key, in their order.
    """

    tag: Any
    until: Literal["all", "any"]
    missing: tuple[Any, ...]
    answers: dict[Any, Done | Failed]

    def take(self, info: object) -> Awaiting:
        """Return what is waited for after an info; this very value if it is about something else.

        Args:
            info: Whatever handle_info got, or the content of a machine's "info".
        """
        if not isinstance(info, Done | Failed):
            return self
        tag = info.tag
        if type(tag) is not tuple or len(tag) != 2 or tag[0] != self.tag:
            return self
        key = tag[1]
        if self.is_done or key not in self.missing:
            return self  # (W2)
        missing = tuple(other for other in self.missing if other != key)
        return replace(self, missing=missing, answers={**self.answers, key: info})

    @property
    def is_done(self) -> bool:
        """Whether the server can go on."""
        return not self.missing or (self.until == "any" and len(self.values) > 0)

    @property
    def values(self) -> dict[Any, Any]:
        """What those that have succeeded gave, by key: a reply, a result, a connection."""
        return {
            key: info.connection if isinstance(info, Connected) else info.value
            for key, info in self.answers.items()
            if isinstance(info, Done)
        }

    @property
    def errors(self) -> dict[Any, BaseException]:
        """What those that have failed failed of, by key."""
        return {key: info.error for key, info in self.answers.items() if isinstance(info, Failed)}

    @property
    def cancels(self) -> list[Cancel]:
        """Actions that give up the jobs (`Run`) that have not answered; a `Call` answers anyway."""
        return [Cancel((self.tag, key)) for key in self.missing]


def await_all(effects: Mapping[Any, Effect], *, tag: Any) -> tuple[Awaiting, list[Effect]]:
    """Ask for several things and go on when each has answered, well or badly.

    Args:
        effects: By keys of your own, in the order in which they are carried out; their own tags do
            not matter. With a journal, keys and tag are plain values.
        tag: Tells this Awaiting from others of the server that are under way.

    Returns:
        What to keep in the state, and the actions to return beside it.

    Raises:
        TypeError: It is no mapping, or one is no Call, Run or Connect.
        ValueError: There are none.
    """
    return _await("all", effects, tag)


def await_any(effects: Mapping[Any, Effect], *, tag: Any) -> tuple[Awaiting, list[Effect]]:
    """Ask for several things and go on with the first that succeeds, or when all have failed.

    What the others answer later is about nothing that is waited for (`take` returns the same).

    Args, Returns, Raises: As `await_all`.
    """
    return _await("any", effects, tag)


def _await(
    until: Literal["all", "any"], effects: Mapping[Any, Effect], tag: Any
) -> tuple[Awaiting, list[Effect]]:
    if not isinstance(effects, Mapping):
        raise TypeError(f"await_{until}: effects is a dict of them by keys, not {show(effects)}")
    if not effects:
        raise ValueError(f"await_{until}: there is no effect to wait for")
    actions = [_tagged(effect, (tag, key), until) for key, effect in effects.items()]
    return Awaiting(tag, until, tuple(effects), {}), actions


def _tagged(effect: Effect, tag: Any, until: str) -> Effect:
    """The same effect under another tag."""
    if isinstance(effect, Run):
        return Run(
            effect.function,
            *effect.args,
            tag=tag,
            pool=effect.pool,
            timeout=effect.timeout,
            idempotent=effect.idempotent,
        )
    if isinstance(effect, Call | Connect):
        return structs.replace(effect, tag=tag)
    raise TypeError(f"await_{until}: an effect is a Call, a Run or a Connect, not {show(effect)}")
