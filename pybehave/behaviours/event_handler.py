"""One handler of an event manager: what a program overrides.

Does not know: managers, and in which order handlers get an event (gen_event.py).
Source: OTP stdlib, gen_event's callback module.
"""

from __future__ import annotations

from typing import Any, ClassVar, final

from pybehave.behaviours.plain import HANDLER_CALLBACKS, check_plain
from pybehave.behaviours.recovery import own_state
from pybehave.types import Context


@final
class Batch:
    """Where an event stands.

    Attributes:
        sequence: Its number: 1 for the manager's first, and growing by one.
        is_last: No further event has gathered behind it: the time to write what was collected.
    """

    __slots__ = ("is_last", "sequence")

    def __init__(self) -> None:
        self.sequence = 0
        self.is_last = True


class EventHandler:
    """One handler: override `handle_event`, and what else is needed.

    A `format_status`, if it has one, shapes what reports of its crashes show, as a server's does;
    else the manager's.

    Attributes:
        context: The manager's: name, time and randomness.
        batch: The sequence of the current event, and whether it ends a batch.
        batch_max: How many events `handle_batch` gets at most in one call; None is all that have
            gathered.
    """

    batch_max: ClassVar[int | None] = None
    context: Context
    batch: Batch

    def __init_subclass__(cls, **words: Any) -> None:
        super().__init_subclass__(**words)
        check_plain(cls, HANDLER_CALLBACKS)

    def init(self, args: Any) -> Any:
        """Return the first state, by default a copy of `args`; raise to refuse.

        Args:
            args: Of `add_handler`; after a swap `(new_args, what the old terminate returned)`.
        """
        return own_state(type(self), args)

    def handle_event(self, event: Any, state: Any) -> Any:
        """Handle an event.

        Returns:
            The new state; or `Handled(state, actions)`, `Later(state, actions)`, `Remove()`,
            `Swap(...)`. None only if the state was None: a forgotten return removes the handler.
        """
        return state

    def handle_batch(self, events: list[Any], state: Any) -> Any:
        """Handle all events that have gathered, in one call; a result as of handle_event.

        A handler that defines this is called here instead of `handle_event`. It may be ahead of
        handlers that take one event at a time; those it comes after are ahead of it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no handle_batch")

    def handle_call(self, request: Any, state: Any) -> Any:
        """Answer `events.call`: `(result, reply)`, where result is what handle_event returns."""
        return state, None

    def handle_info(self, message: Any, state: Any) -> Any:
        """Handle whatever else reaches the manager; a result as of handle_event."""
        return state

    def terminate(self, reason: Any, state: Any) -> Any:
        """Clean up; what it returns is the reply of delete_handler, and is handed on by a swap.

        Args:
            reason: The args of delete or swap; `"remove_handler"`; `("error", exception)`;
                `"stop"`, the manager ends; or `("stop", reason)`, the owner has ended.
            state: The last good one.
        """

    def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
        """Return the state in the shape this version of the code wants; by default as it is.

        Args:
            old_version: The manager's; see GenServer.code_change.
            state: In the old shape.
            extra: From the upgrade's instructions.
        """
        return state

    def shard_of(self, event: Any) -> int | None:
        """Return what decides to which shard an event belongs; None = its sequence."""
        return None
