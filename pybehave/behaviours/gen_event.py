"""The generic event manager: handlers that come and go, and all see the same events.

A manager is a server; its handlers are parts of its state. What is said to it are the messages of
`pybehave.events`. Casts of events gather in the ring and are handed to the handlers as a batch,
when the manager's mailbox has none left or the ring is full; the last event of a batch says so
(`self.batch.is_last`), so that a handler may write or send once for many. A call handles what has
gathered first, so whoever waits sees the effects of all that was sent before.

Order. An event goes to the newest handler first, as in OTP, unless handlers depend on others
(`after`): then a handler comes after those. All handlers see one event before the next, except
those that are slow: a handler that returns `Later` is not done until it is told so; handlers that
come after it wait for it, the others go on, and the ring holds what it has not seen.

Invariants
  (E1) A handler that raises, or returns nothing, is reported and removed; all others still get
       that event.
  (E2) No handler sees an event before those it comes after are done with it.
  (E3) Whoever sent an event with sync_notify is answered when every handler is done with it.
  (E4) The owner of a supervised handler is told exactly once; when the owner ends first, its
       handlers go silently. It is watched as long as it has one.

Does not know: mailboxes, timers, journals.
Source: OTP stdlib, gen_event; for the ring see ring.py. Differs: a name can be there only once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, Literal, TypeAlias

from pybehave import events
from pybehave.actions import NO_REPLY, Action, Demonitor, Down, Exit, Info, Monitor, Reply
from pybehave.behaviours.class_names import class_named
from pybehave.behaviours.event_handler import Batch, EventHandler
from pybehave.behaviours.event_manager import Entry, Manager, find, next_of, release, takes_at
from pybehave.behaviours.gen_server import GenServer
from pybehave.behaviours.handout import (
    EventsIn,
    HandOut,
    Stopped,
    events_in,
    hand_batches,
    hand_out,
    is_misplaced,
)
from pybehave.errors import (
    BadReturn,
    NoProc,
    NotFound,
    PybehaveError,
    RingOverloaded,
    SpecError,
    show,
    show_reason,
)
from pybehave.events import MARK, Handled, Key, Later, Remove, Swap

FLUSH: Final = (MARK, "flush")
OWNER: Final = (MARK, "owner")
"""The tag of the monitors of handlers' owners."""
OK: Final = "ok"
OVERFLOWS: Final = ("block", "reject", "drop_oldest")
HANDLED: Final = "return the new state, or Handled, Later, Remove or Swap of pybehave.events"
ACTING: Final = "return events.Handled(state, actions) to have actions carried out"
ANSWERED: Final = "return (state, reply)"
BEGINS: Final = "a GenEvent begins with a list of events.add_handler(...)"
HandlerCrashed: TypeAlias = Callable[[Any, Entry, str, Any, Exception], None]
"""Gets the manager's context, the handler, its callback, what that was called with, and why."""


class GenEvent(GenServer[Manager, Any, Any]):
    """An event manager. `Worker("bus", GenEvent)`; the worker's args may be a list of
    `events.add_handler(...)` for handlers that are there from the start.

    Attributes:
        capacity: Events in the ring.
        overflow: What happens to an event when a slow handler keeps the ring full. `"block"`: it
            waits, as does who sent it with sync_notify; `"reject"`: sync_notify hears Overloaded, a
            cast is dropped and counted; `"drop_oldest"`: the slow handlers miss the oldest event.
        hand_out: Calls plain handlers; the runtime gives it a faster one.
        hand_batches: Calls plain handlers that take batches; so it does for this.
        events_in: Takes notifications apart; so it does for this.
        make_batch: Makes what handlers see of where an event stands; so it does for this.
    """

    capacity: ClassVar[int] = 1024
    overflow: ClassVar[Literal["block", "reject", "drop_oldest"]] = "block"
    hand_out: HandOut = staticmethod(hand_out)
    hand_batches: HandOut = staticmethod(hand_batches)
    events_in: EventsIn = staticmethod(events_in)
    make_batch: Callable[[], Any] = Batch
    # What the runtime alone can do, and nobody does when a journal is stepped again: report that a
    # handler failed, and say whether a server of a name runs.
    _handler_crashed: HandlerCrashed = staticmethod(lambda *_: None)
    _is_running: Callable[[str], bool] = staticmethod(lambda _: True)
    _handle_together = None  # type: ignore[assignment]  # it is an event like any other

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """A manager with a handle_cast of its own gets its casts one by one."""
        super().__init_subclass__(**kwargs)
        if cls._gate() != (None, None) or cls._passing():
            raise SpecError(
                cls.__name__,
                "an event manager takes whatever events its handlers understand; leave accepts, "
                "ephemeral and validate away, and let handle_event pass over what is not for it",
            )
        if type(cls.capacity) is not int or cls.capacity < 1:
            raise _not_allowed(cls, "capacity", "use an integer of 1 or more")
        if cls.overflow not in OVERFLOWS:
            raise _not_allowed(cls, "overflow", "use " + ", ".join(map(repr, OVERFLOWS)))
        if cls.handle_cast is not GenEvent.handle_cast:
            cls._handle_casts = None  # type: ignore[assignment, method-assign]

    def init(self, args: Any) -> Any:
        """Begin with the handlers in `args`."""
        manager = Manager(self.capacity)
        actions: list[Any] = []
        given = () if args is None else args
        if not isinstance(given, list | tuple) or _is_message(given):
            raise TypeError(f"args={show(args)}: {BEGINS}")
        for message in given:
            if not _is_message(message) or message[1] != "add":
                raise TypeError(f"{show(message)} among the args: {BEGINS}")
            answer = self._add(manager, actions, *message[2:])
            if answer is not OK:
                raise answer
        return (manager, *actions) if actions else manager

    # --- what comes in -------------------------------------------------------------------------

    def handle_call(self, request: Any, caller: Any, manager: Manager) -> Any:
        """A message of `pybehave.events`; anything else is an event, as of sync_notify."""
        actions: list[Any] = []
        if not _is_message(request):
            request = events.sync_notify(request)
        if request[1] in ("sync_notify", "notify"):  # who calls, waits
            output = self._sync_notify(manager, actions, request[2], caller)
        elif request[1] == "notify_many":
            output = self._sync_notify_many(manager, actions, request[2], caller)
        else:
            self._deliver(manager, actions)
            output = self._ask(manager, actions, request)
        self._settle(manager, actions)
        return manager, output, actions

    def handle_cast(self, message: Any, manager: Manager) -> Any:
        """An event, or `done`; anything else is an event, too."""
        event, verb = message, "notify"
        if type(message) is tuple and len(message) > 2 and _is_message(message):
            verb, event = message[1], message[2]
        actions: list[Any] = []
        if verb in ("notify", "sync_notify"):
            if manager.refused or not manager.ring.offer(event):
                self._publish(manager, actions, event, None)
            if manager.is_flushing:
                return manager, None, actions
            manager.is_flushing = True
            actions.append(Info(self.context.name, FLUSH))
        elif verb == "notify_many":
            taken = 0 if manager.refused else manager.ring.offer_all(event)
            for each in event[taken:]:
                self._publish(manager, actions, each, None)
            self._deliver(manager, actions)
            self._settle(manager, actions)
        elif verb == "done":
            self._done(manager, actions, event, message[3])
        else:
            self._ask(manager, actions, message)
        return manager, None, actions

    def _handle_casts(self, messages: list[Any], manager: Manager, is_all: bool) -> Any:
        """Casts as handle_cast would take them: the core gives a manager those that stand one
        behind the other in its mailbox, unless it is journaled or somebody looks on.

        Args:
            messages: The casts.
            manager: The state.
            is_all: Nothing stands behind them, so this is where a batch ends.
        """
        actions: list[Any] = []
        notified = self.events_in(messages, MARK)  # nearly always they are nothing else
        if notified is not None:
            self._gather(manager, actions, notified, is_all)
            return manager, None, actions
        gathered: list[Any] = []
        for message in messages:
            if not _is_message(message) or len(message) < 3:
                gathered.append(message)
            elif message[1] in ("notify", "sync_notify"):
                gathered.append(message[2])
            else:
                self._gather(manager, actions, gathered, False)
                _, _, asked = self.handle_cast(self._restated(message), manager)
                actions += asked
        self._gather(manager, actions, gathered, is_all)
        return manager, None, actions

    def _gather(
        self, manager: Manager, actions: list[Any], gathered: list[Any], is_all: bool
    ) -> None:
        """Publish events, and see to it that the batch they are in comes to an end."""
        if not gathered:
            return
        taken = 0 if manager.refused else manager.ring.offer_all(gathered)
        for event in gathered[taken:]:
            self._publish(manager, actions, event, None)
        gathered.clear()
        if is_all:
            self._deliver(manager, actions)
            self._settle(manager, actions)
        elif not manager.is_flushing:
            manager.is_flushing = True
            actions.append(Info(self.context.name, FLUSH))

    @staticmethod
    def _unfinished(manager: Manager) -> Any:
        """What ends a batch, if one has begun: a system request stands behind all its events."""
        return FLUSH if manager.is_flushing else None

    def _restated(self, message: Any) -> Any:
        """A request as it counts. Whether its owner runs is asked here, before the journal has it,
        for who steps it again cannot ask.
        """
        if type(message) is tuple and len(message) == 7 and _is_message(message):
            owner = message[6]
            if type(owner) is str and not self._is_running(owner):
                return (MARK, "no_owner", owner)
        return message

    def handle_info(self, message: Any, manager: Manager) -> Any:
        """The end of a batch; anything else goes to every handler's handle_info."""
        actions: list[Any] = []
        self._deliver(manager, actions)
        if message is FLUSH or (_is_message(message) and message[1] == FLUSH[1]):
            manager.is_flushing = False
        elif type(message) is Down and _is_message(message.tag) and message.tag[1] == OWNER[1]:
            self._owner_ended(manager, actions, message)
        else:
            self._inform(manager, actions, message)
        self._settle(manager, actions)
        return manager, None, actions

    def terminate(self, reason: Any, state: Manager) -> None:
        """Every handler ends, newest first."""
        for entry in state.entries:
            _terminated(entry, "stop")

    def _last_words(self, state: Manager) -> list[tuple[str, Any]]:
        """What owners are told when the manager has ended (E4)."""
        return [
            (entry.owner, ("event_handler_exit", self.context.name, entry.key, "shutdown"))
            for entry in state.entries
            if entry.owner is not None
        ]

    # --- events --------------------------------------------------------------------------------

    def _sync_notify_many(
        self, manager: Manager, actions: list[Any], sent: list[Any], caller: Any
    ) -> Any:
        """Publish events; the reply is the last one's: behind one that is refused all are."""
        for event in sent[:-1]:
            self._publish(manager, actions, event, None)
        if sent:
            return self._sync_notify(manager, actions, sent[-1], caller)
        self._deliver(manager, actions)
        return OK

    def _sync_notify(self, manager: Manager, actions: list[Any], event: Any, caller: Any) -> Any:
        """Publish an event behind what has gathered; the reply when all are done with it (E3)."""
        if not self._publish(manager, actions, event, caller):
            actions.append(Reply(caller, RingOverloaded(self.context.name, self.capacity)))
            return NO_REPLY
        self._deliver(manager, actions)
        if manager.ring.is_empty and not manager.refused:
            manager.waiting.pop()
            return OK
        return NO_REPLY

    def _publish(self, manager: Manager, actions: list[Any], event: Any, caller: Any) -> bool:
        """Put an event into the ring, or do what the policy says; whether it was taken."""
        ring = manager.ring
        if ring.is_full:
            self._deliver(manager, actions)
        if ring.is_full and self.overflow == "drop_oldest":
            self._skip(manager, ring.first)
        if ring.is_full or manager.refused:
            if self.overflow == "reject":
                manager.dropped += caller is None
                return False
            manager.refused.append((event, caller))
            return True
        sequence = ring.publish(event)
        if caller is not None:
            manager.waiting.append((sequence, caller))
        return True

    def _skip(self, manager: Manager, sequence: int) -> None:
        for entry in manager.entries:
            if entry.sequence < sequence:
                # Of a batch that it works on it has had what comes behind, too.
                entry.sequence = max(sequence, entry.given) if entry.is_waiting else sequence
                entry.is_waiting = False
                entry.missed += 1
        release(manager)

    def _deliver(self, manager: Manager, actions: list[Any]) -> None:
        """Hand out whatever can be handed out, event by event."""
        self._bind(manager)
        ring, batch = manager.ring, manager.batch
        if ring.is_empty and not manager.refused:
            return
        while True:
            sequence = next_of(manager)
            while sequence <= ring.published:
                in_batches = takes_at(manager.entries, sequence)
                if in_batches is not None:
                    hand_out = self.hand_batches if in_batches else self.hand_out
                    events = ring.slice(sequence, ring.published)
                    stopped = hand_out(manager.entries, events, sequence, batch)
                    if stopped is None:
                        ring.release_all()
                        break
                    content = events if in_batches else events[stopped.given - sequence]
                    sequence = stopped.sequence
                    self._take_special(manager, actions, stopped, content)
                batch.sequence = sequence
                batch.is_last = sequence == ring.published
                event = ring.get(sequence)
                for entry in manager.entries[:]:
                    if entry.sequence != sequence - 1 or entry.is_waiting:
                        continue
                    if entry.is_batched:
                        self._hand_all(manager, actions, entry, sequence)
                    else:
                        self._hand(manager, actions, entry, event, sequence)
                # Whoever is behind this one waits for something; the others may all be far ahead.
                done = [e.sequence for e in manager.entries if e.sequence >= sequence]
                sequence = 1 + min(done, default=ring.published)
            release(manager)
            if not manager.refused or ring.is_full:
                return
            while manager.refused and not ring.is_full:
                event, caller = manager.refused.pop(0)
                published = ring.publish(event)
                if caller is not None:
                    manager.waiting.append((published, caller))

    def _take_special(
        self, manager: Manager, actions: list[Any], stopped: Stopped, content: Any
    ) -> None:
        """A plain handler gave more than a state, or raised: the others go on without it."""
        entry = manager.entries[stopped.at]
        callback = "handle_batch" if entry.is_batched else "handle_event"
        if stopped.error is not None:
            self._failed(manager, actions, entry, stopped.error, callback, content)
            return
        entry.given = stopped.given
        self._guarded(manager, actions, entry, _returned(stopped.result), content, callback)
        if not entry.is_waiting:
            entry.sequence = stopped.given

    def _bind(self, manager: Manager) -> None:
        """Handlers see this incarnation's context; a state may come from the one before, or from a
        replay.
        """
        if manager.bound is not self:
            manager.bound, before = self, manager.batch
            manager.batch = self.make_batch()
            manager.batch.sequence, manager.batch.is_last = before.sequence, before.is_last
            for entry in manager.entries:
                entry.handler.context, entry.handler.batch = self.context, manager.batch

    def _hand(
        self, manager: Manager, actions: list[Any], entry: Entry, event: Any, sequence: int
    ) -> None:
        if entry.reach < sequence:
            return  # (E2)
        if entry.shard is not None and not entry.takes(event, sequence):
            entry.sequence = sequence
            return
        entry.given = sequence
        self._guarded(manager, actions, entry, entry.handler.handle_event, event, "handle_event")
        if not entry.is_waiting:
            entry.sequence = sequence

    def _hand_all(self, manager: Manager, actions: list[Any], entry: Entry, sequence: int) -> None:
        """Everything from `sequence` on that may be handed out, at once."""
        last = min(manager.ring.published, entry.reach)
        batch_max = entry.handler.batch_max
        if batch_max is not None:
            last = min(last, sequence - 1 + batch_max)
        found = manager.ring.slice(sequence, last)
        if entry.shard is not None:
            found = [each for at, each in enumerate(found, sequence) if entry.takes(each, at)]
        entry.given = last
        if found:
            batch = entry.handler.handle_batch
            self._guarded(manager, actions, entry, batch, found, "handle_batch")
        if not entry.is_waiting:
            entry.sequence = max(entry.sequence, last)

    def _done(self, manager: Manager, actions: list[Any], key: Key, sequence: int) -> None:
        entry = find(manager, key)
        if entry is not None and entry.is_waiting and entry.sequence < sequence <= entry.given:
            entry.sequence = sequence
            entry.is_waiting = sequence < entry.given
            self._deliver(manager, actions)
        self._settle(manager, actions)

    def _settle(self, manager: Manager, actions: list[Any]) -> None:
        """Answer those whose event everybody is done with (E3)."""
        if not manager.waiting:
            return
        gate = next_of(manager) - 1
        while manager.waiting and manager.waiting[0][0] <= gate:
            actions.append(Reply(manager.waiting.pop(0)[1], OK))

    # --- handlers' results ---------------------------------------------------------------------

    def _inform(self, manager: Manager, actions: list[Any], message: Any) -> None:
        for entry in list(manager.entries):
            callback = entry.handler.handle_info
            self._guarded(manager, actions, entry, callback, message, "handle_info")

    def _guarded(
        self, manager: Manager, actions: list[Any], entry: Entry, callback: Any, content: Any,
        name: str,
    ) -> None:  # fmt: skip
        """Call a handler and take its result (E1)."""
        try:
            result = callback(content, entry.state)
            if result is None and entry.state is not None:
                raise self._bad_return(entry, "", result, HANDLED)
            self._take(manager, actions, entry, result)
        except Exception as error:  # noqa: BLE001 -- whatever it raises is its end, not ours
            self._failed(manager, actions, entry, error, name, content)

    def _take(self, manager: Manager, actions: list[Any], entry: Entry, result: Any) -> None:
        kind = type(result)
        if kind is Handled or kind is Later:
            entry.state = result.state
            entry.is_waiting = kind is Later
            asked = result.actions
            actions.extend(asked if isinstance(asked, list | tuple) else (asked,))
        elif kind is Remove:
            self._remove(manager, actions, entry, "remove_handler", "normal")
        elif kind is Swap:
            self._take_place(manager, actions, entry, result)
        elif is_misplaced(result):
            raise self._bad_return(entry, "", result, ACTING)
        else:
            entry.state = result

    def _take_place(self, manager: Manager, actions: list[Any], entry: Entry, swap: Swap) -> None:
        """Where a handler was is the other one; its failed init is a crash (OTP, do_swap)."""
        key, place, owner = events.key_of(swap.handler), manager.entries.index(entry), entry.owner
        answer = self._swap(manager, actions, entry, swap.args, key, swap.new_args)
        if answer is OK:
            manager.entries.insert(place, manager.entries.pop(0))
            return
        if entry in manager.entries:  # nobody else hears that it was refused
            raise answer
        try:
            other = Entry(key, self._handler(manager, key), 0)
        except Exception:  # noqa: BLE001 -- it was not even found, as the answer says
            other = entry
        self._handler_crashed(self.context, other, "init", swap.new_args, answer)
        if owner is not None:
            self._tell_owner(actions, owner, key, ("error", show_reason(answer)))

    def _bad_return(self, entry: Entry, callback: str, value: Any, allowed: str) -> BadReturn:
        what = f"the handler {show(entry.key)}{callback}"
        return BadReturn(self.context.name, what, value, allowed)

    def _failed(
        self, manager: Manager, actions: list[Any], entry: Entry, error: Exception, callback: str,
        content: Any,
    ) -> None:  # fmt: skip
        self._handler_crashed(self.context, entry, callback, content, error)
        self._remove(manager, actions, entry, ("error", error), ("error", show_reason(error)))

    def _remove(
        self, manager: Manager, actions: list[Any], entry: Entry, reason: Any, told: Any
    ) -> Any:
        """Take a handler away; what its terminate returned, or raised."""
        if entry not in manager.entries:
            return None
        manager.entries.remove(entry)
        for other in manager.entries:
            if entry in other.after:
                other.after.remove(entry)
        if entry.owner is not None:
            self._tell_owner(actions, entry.owner, entry.key, told)
            self._disowned(manager, actions, entry.owner)
        return _terminated(entry, reason)

    # --- owners --------------------------------------------------------------------------------

    def _tell_owner(self, actions: list[Any], owner: str, key: Key, told: Any) -> None:
        actions.append(Info(owner, ("event_handler_exit", self.context.name, key, told)))

    def _owned(self, manager: Manager, actions: list[Any], entry: Entry, owner: str) -> None:
        """A handler has an owner: it is watched from its first one on."""
        entry.owner = owner
        if sum(other.owner == owner for other in manager.entries) == 1:
            actions.append(Monitor(owner, OWNER))

    def _disowned(self, manager: Manager, actions: list[Any], owner: str) -> None:
        """An owner has one handler less."""
        if all(other.owner != owner for other in manager.entries):
            actions.append(Demonitor(owner, OWNER))

    def _owner_ended(self, manager: Manager, actions: list[Any], down: Down) -> None:
        """Its handlers go without a word; the others hear of the end (OTP, gen_event)."""
        if type(down.reason) is str and down.reason == "restart":
            # The whole node was: the owner may be back, as we are.
            actions.append(Monitor(down.name, OWNER))
            return
        for entry in [each for each in manager.entries if each.owner == down.name]:
            entry.owner = None
            self._remove(manager, actions, entry, ("stop", down.reason), None)
        self._inform(manager, actions, Exit(down.name, down.reason))

    # --- requests ------------------------------------------------------------------------------

    def _ask(self, manager: Manager, actions: list[Any], request: Any) -> Any:
        _, verb, *words = request
        if verb == "which":
            return [entry.key for entry in manager.entries]
        if verb == "add":
            return self._add(manager, actions, *words)
        if verb == "no_owner":  # _restated has asked
            return NoProc(words[0])
        if verb not in ("call", "delete", "swap"):
            return TypeError(f"events.{verb}(...) is for cast, not for call")
        entry = find(manager, words[0])
        if verb == "swap":
            return self._swap(manager, actions, entry, *words[1:])
        if entry is None:
            return _not_found(words[0])
        if verb == "delete":
            return self._remove(manager, actions, entry, words[1], "normal")
        try:
            answer = entry.handler.handle_call(words[1], entry.state)
            if not isinstance(answer, tuple) or len(answer) != 2:
                raise self._bad_return(entry, "'s handle_call", answer, ANSWERED)
            result, reply = answer
            if isinstance(reply, Action):  # a manager's output that is one would be its own end
                raise self._bad_return(entry, "'s handle_call", answer, ANSWERED)
        except Exception as error:  # noqa: BLE001 -- its end, and the asker is told
            self._failed(manager, actions, entry, error, "handle_call", words[1])
            return error
        self._guarded(manager, actions, entry, _returned(result), words[1], "handle_call")
        return reply

    def _add(
        self, manager: Manager, actions: list[Any], key: Key, args: Any, after: list[Key],
        shard: tuple[int, int] | None, owner: str | None,
    ) -> Any:  # fmt: skip
        if find(manager, key) is not None:
            return _is_there(key)
        before = [find(manager, name) for name in after]
        if None in before:
            return _not_found(after[before.index(None)])
        try:
            entry = self._made(manager, key, args)
        except Exception as error:  # noqa: BLE001 -- a refusal, handed to who asked
            return error
        entry.after = [each for each in before if each is not None]
        entry.shard = tuple(shard) if shard is not None else None  # type: ignore[assignment]
        place = 1 + max((manager.entries.index(each) for each in entry.after), default=-1)
        manager.entries.insert(place, entry)
        if owner is not None:
            self._owned(manager, actions, entry, owner)
        return OK

    def _made(self, manager: Manager, key: Key, args: Any) -> Entry:
        entry = Entry(key, self._handler(manager, key), manager.ring.published)
        entry.state = entry.handler.init(args)
        return entry

    def _handler(self, manager: Manager, key: Key) -> EventHandler:
        name = key[0] if isinstance(key, tuple) else key
        handler = class_named(name, EventHandler)()
        handler.context, handler.batch = self.context, manager.batch
        return handler

    def _swap(
        self, manager: Manager, actions: list[Any], entry: Entry | None, args: Any, key: Key,
        new_args: Any, owner: str | None = None,
    ) -> Any:  # fmt: skip
        """End one and begin the other in front; both are gone when the new one's init fails.

        Args:
            owner: Of the new one; None: whoever owned the old one.
        """
        term: Any = "error"
        there = find(manager, key)
        if there is not None and there is not entry:
            return _is_there(key)
        if entry is not None:
            owner = owner or entry.owner
            term = self._remove(manager, actions, entry, args, ("swapped", key))
        answer = self._add(manager, actions, key, (new_args, term), [], None, owner)
        begun = find(manager, key)
        if entry is not None and begun is not None:
            begun.sequence = begun.given = max(entry.sequence, entry.given)  # it goes on from there
        return answer

    # --- system requests -----------------------------------------------------------------------

    def _shown(self, manager: Manager) -> Any:
        return [(entry.key, entry.state) for entry in manager.entries]

    def _replaced(self, manager: Manager, shown: Any) -> Any:
        keys = [entry.key for entry in manager.entries]
        if not isinstance(shown, list) or [pair[0] for pair in shown] != keys:
            why = f"a list of (handler, state) for {show(keys)} is wanted"
            raise BadReturn(self.context.name, "replace_state", shown, why)
        for entry, (_, state) in zip(manager.entries, shown, strict=True):
            entry.state = state
        return manager

    # --- upgrades ------------------------------------------------------------------------------

    def _code_changed(self, old_version: Any, manager: Manager, extra: Any) -> Manager:
        """Every handler's own; a way back asks those that still run (OTP, gen_event)."""
        changed = manager.copy(lambda entry: entry.handler)
        for entry in changed.entries:
            is_down = type(old_version) is tuple
            handler = entry.handler if is_down else self._handler(manager, entry.key)
            before = entry.state
            entry.state = handler.code_change(old_version, before, extra)
            if entry.state is None and before is not None:
                raise BadReturn(
                    str(entry.key), "code_change", None, "return the handler's new state"
                )
        return changed

    def _adopted(self, manager: Manager) -> Manager:
        """With handlers of the classes that have these names today."""
        return manager.copy(lambda entry: self._handler(manager, entry.key))

    # --- snapshots -----------------------------------------------------------------------------

    def dump(self, state: Manager) -> Any:
        """The handlers' states and the ring. Handlers' states must be plain values."""
        return {
            "ring": state.ring.dump(),
            "is_flushing": state.is_flushing,
            "dropped": state.dropped,
            "refused": [event for event, _ in state.refused],
            "handlers": [
                {
                    "key": entry.key,
                    "state": entry.state,
                    "sequence": entry.sequence,
                    "is_waiting": entry.is_waiting,
                    "given": entry.given,
                    "after": [other.key for other in entry.after],
                    "shard": entry.shard,
                    "owner": entry.owner,
                    "missed": entry.missed,
                }
                for entry in state.entries
            ],
        }

    def load(self, data: Any) -> Manager:
        """What `dump` made; handlers are made anew, without init."""
        manager = Manager(self.capacity)
        manager.ring.load(data["ring"])
        manager.is_flushing, manager.dropped = data["is_flushing"], data["dropped"]
        manager.refused = [(event, None) for event in data["refused"]]
        for found in data["handlers"]:
            handler = self._handler(manager, found["key"])
            entry = Entry(found["key"], handler, found["sequence"])
            entry.state, entry.is_waiting = found["state"], found["is_waiting"]
            entry.shard, entry.owner = found["shard"], found["owner"]
            entry.missed, entry.given = found["missed"], found["given"]
            manager.entries.append(entry)
        for entry, found in zip(manager.entries, data["handlers"], strict=True):
            entry.after = [other for other in manager.entries if other.key in found["after"]]
        return manager


def _returned(result: Any) -> Callable[[Any, Any], Any]:
    """A callback that has already returned."""
    return lambda _content, _state: result


def _is_message(message: Any) -> bool:
    """Whether it is one of ours. Types come first: == of a user's value may give no truth value."""
    return (
        type(message) is tuple and len(message) > 1
        and type(message[0]) is str and message[0] == MARK and type(message[1]) is str
    )  # fmt: skip


def _not_allowed(cls: type, field: str, mend: str) -> SpecError:
    return SpecError(cls.__name__, f"{field}={show(getattr(cls, field))} is not allowed; {mend}")


def _is_there(key: Key) -> PybehaveError:
    mend = "use another id" if isinstance(key, tuple) else "add it as (class, id)"
    return PybehaveError(f"{show(key)} is there already; {mend}")


def _not_found(key: Key) -> NotFound:
    return NotFound(key if isinstance(key, str) else show(key), "handler", "which_handlers")


def _terminated(entry: Entry, reason: Any) -> Any:
    try:
        return entry.handler.terminate(reason, entry.state)
    except Exception as error:  # noqa: BLE001 -- OTP: what terminate raises is the value
        return error
