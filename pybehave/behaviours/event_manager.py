"""What an event manager has: its handlers, each in its place, and the ring of events.

The rules by which events go to handlers are gen_event.py's; here is who stands where.

Does not know: messages, what handlers return.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from pybehave.behaviours.event_handler import Batch, EventHandler
from pybehave.behaviours.ring import Ring
from pybehave.events import Key


@final
class Entry:
    """A handler in its place."""

    __slots__ = (
        "after", "given", "handle", "handler", "is_batched", "is_waiting", "key", "missed",
        "owner", "sequence", "shard",
        "state",
    )  # fmt: skip

    def __init__(self, key: Key, handler: EventHandler, sequence: int) -> None:
        self.key = key
        self.handler = handler
        self.is_batched = type(handler).handle_batch is not EventHandler.handle_batch
        self.handle = handler.handle_batch if self.is_batched else handler.handle_event
        self.state: Any = None
        self.sequence = sequence
        self.given = sequence
        self.is_waiting = False
        self.after: list[Entry] = []
        self.shard: tuple[int, int] | None = None
        self.owner: str | None = None
        self.missed = 0

    def copy(self, handler: EventHandler) -> Entry:
        """Return an entry in the same place, with another handler."""
        copy = Entry(self.key, handler, self.sequence)
        for name in ("after", "given", "is_waiting", "missed", "owner", "shard", "state"):
            setattr(copy, name, getattr(self, name))
        return copy

    @property
    def reach(self) -> int:
        """The last event that those before it are done with; without them, any."""
        return min((other.sequence for other in self.after), default=2**63)

    def takes(self, event: Any, sequence: int) -> bool:
        """Whether the event belongs to its shard."""
        if self.shard is None:
            return True
        found = self.handler.shard_of(event)
        return (sequence if found is None else found) % self.shard[1] == self.shard[0]


@final
class Manager:
    """The state of a GenEvent.

    Attributes:
        entries: The handlers, in the order in which they get an event.
        ring: Events that somebody is not done with.
        waiting: sync_notify's callers: sequence and caller.
        refused: Events beyond a full ring, to be published when there is room: event and caller.
        is_flushing: A batch gathers, and its end has been asked for.
        dropped: Events that found no room and nobody who waits.
        batch: What all handlers see of where an event stands.
        bound: The incarnation whose context the handlers have.
    """

    __slots__ = (
        "batch", "bound", "dropped", "entries", "is_flushing", "refused", "ring", "waiting",
    )  # fmt: skip

    def __init__(self, capacity: int) -> None:
        self.entries: list[Entry] = []
        self.ring: Ring[Any] = Ring(capacity)
        self.waiting: list[tuple[int, Any]] = []
        self.refused: list[tuple[Any, Any]] = []
        self.is_flushing = False
        self.dropped = 0
        self.batch = Batch()
        self.bound: object = None

    def copy(self, handler_of: Callable[[Entry], EventHandler]) -> Manager:
        """Return a manager with other handlers in the same places, and the same ring.

        Args:
            handler_of: Gives the handler for an entry.
        """
        copy = Manager(1)  # the ring is replaced
        for name in ("batch", "dropped", "is_flushing", "refused", "ring", "waiting"):
            setattr(copy, name, getattr(self, name))
        places = {id(entry): entry.copy(handler_of(entry)) for entry in self.entries}
        copy.entries = list(places.values())
        for entry in copy.entries:
            entry.after = [places[id(other)] for other in entry.after]
        return copy


def find(manager: Manager, key: Key) -> Entry | None:
    """Return the entry of a handler; None when there is none of that name."""
    for entry in manager.entries:
        if entry.key == key:
            return entry
    return None


def next_of(manager: Manager) -> int:
    """Return the first event that not all handlers are done with. Most managers have none in their
    ring, and are asked a moment after they handed out the last.
    """
    if manager.ring.is_empty:
        return manager.ring.published + 1
    return 1 + min([entry.sequence for entry in manager.entries], default=manager.ring.published)


def takes_at(entries: list[Entry], sequence: int) -> bool | None:
    """Say whether all take that event next, whatever others do: with all behind it (True), or as it
    comes (False); None when they do not.
    """
    done, in_batches = sequence - 1, bool(entries) and entries[0].is_batched
    for entry in entries:
        if entry.sequence != done or entry.is_waiting or entry.is_batched is not in_batches:
            return None
        if entry.after or entry.shard is not None:
            return None
        if in_batches and entry.handler.batch_max is not None:
            return None
    return in_batches


def release(manager: Manager) -> None:
    """Forget the events that all handlers are done with."""
    if not manager.ring.is_empty:
        manager.ring.release([entry.sequence for entry in manager.entries])
