"""gen_event without a loop: who sees what, in which order, and who goes."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybehave import EventHandler, GenEvent, actions, events
from pybehave.actions import NO_REPLY, Info, Reply, Send
from pybehave.behaviours.gen_event import FLUSH
from pybehave.behaviours.ring import Ring
from pybehave.errors import BadReturn, NotFound, Overloaded, PybehaveError
from pybehave.events import Handled, Later, Remove, Swap
from pybehave.testing import FixedContext

LOG: list[Any] = []


class Log(EventHandler):
    """Writes down what it sees; does what events tell it."""

    name = "log"

    def init(self, args: Any) -> Any:
        if args == "refuse" or (isinstance(args, tuple) and args[0] == "refuse"):
            raise ValueError("refused")
        LOG.append((self.name, "init", args))
        return {"args": args}

    def handle_event(self, event: Any, state: Any) -> Any:
        LOG.append((self.name, event))
        match event:
            case ("crash", name) if name == self.name:
                raise ValueError("a deliberate bug")
            case ("forget", name) if name == self.name:
                return None
            case ("act", name) if name == self.name:
                return state, Send("c", b"x")
            case ("remove", name) if name == self.name:
                return Remove()
            case ("swap", name) if name == self.name:
                return Swap("bye", Other, "new")
            case ("change", name, handler, args) if name == self.name:
                return Swap("bye", handler, args)
            case ("later", name) if name == self.name:
                return Later(state)
            case ("send", name) if name == self.name:
                return Handled(state, Send("c", b"x"))
        return state

    def handle_call(self, request: Any, state: Any) -> Any:
        if request == "crash":
            raise ValueError("in a call")
        if request == "leave":
            return Remove(), "left"
        if request == "forget":
            return state
        if request == "change":
            return Swap("bye", (Other, 2), "new"), "changed"
        return state, (self.name, request)

    def handle_info(self, message: Any, state: Any) -> Any:
        LOG.append((self.name, "info", message))
        if message == ("crash", self.name):
            raise ValueError("in an info")
        return state

    def terminate(self, reason: Any, state: Any) -> Any:
        LOG.append((self.name, "end", reason if isinstance(reason, str) else reason[0]))
        return f"{self.name} was told {reason}"


class Other(Log):
    name = "other"


class Third(Log):
    name = "third"


class Bus:
    """A manager that is driven by hand."""

    def __init__(self, *handlers: Any, **options: Any) -> None:
        LOG.clear()
        self.server = type("SmallBus", (GenEvent,), options)()
        self.server.context = FixedContext(name="bus")
        initial = self.server._initial("bus", [events.add_handler(each) for each in handlers])
        self.manager = initial.state
        self.actions: list[Any] = []
        LOG.clear()

    def call(self, message: Any, caller: Any = "caller") -> Any:
        """The reply, also when it is given as an action."""
        self.manager, output, self.actions = self.server.handle_call(message, caller, self.manager)
        if output is NO_REPLY:
            replies = [a.value for a in self.actions if type(a) is Reply and a.to == caller]
            return replies[0] if replies else NO_REPLY
        return output

    def cast(self, message: Any) -> None:
        self.manager, _, self.actions = self.server.handle_cast(message, self.manager)

    def info(self, message: Any) -> None:
        self.manager, _, self.actions = self.server.handle_info(message, self.manager)

    def sync(self, event: Any) -> Any:
        return self.call(events.sync_notify(event))


def test_the_newest_handler_gets_an_event_first_and_all_get_the_same_object() -> None:
    bus = Bus(Log, Other, Third)
    event = ["one object"]
    assert bus.sync(event) == "ok"
    assert [name for name, _ in LOG] == ["third", "other", "log"]
    assert all(seen is event for _, seen in LOG)


def test_a_handler_comes_after_those_it_depends_on() -> None:
    bus = Bus(Log)
    assert bus.call(events.add_handler(Other)) == "ok"
    assert bus.call(events.add_handler(Third, after=[Log, Other])) == "ok"
    LOG.clear()
    bus.sync(1)
    assert [name for name, _ in LOG] == ["other", "log", "third"]
    assert isinstance(bus.call(events.add_handler((Third, 2), after=[(Log, 9)])), NotFound)


@pytest.mark.parametrize(("event", "told"), [("crash", "error"), ("forget", "error")])
def test_a_handler_that_fails_goes_and_the_others_see_the_event(event: str, told: str) -> None:
    bus = Bus(Log, Other, Third)
    assert bus.sync((event, "other")) == "ok"
    assert [
        ("third", (event, "other")),
        ("other", (event, "other")),
        ("other", "end", told),
        ("log", (event, "other")),
    ] == LOG
    assert bus.call(events.which_handlers()) == [events.key_of(Third), events.key_of(Log)]


def test_handlers_remove_and_swap_themselves() -> None:
    bus = Bus(Log, Third)
    bus.sync(("remove", "third"))
    bus.sync(("swap", "log"))
    assert LOG[-2:] == [
        ("log", "end", "bye"),
        ("other", "init", ("new", "log was told bye")),
    ]
    assert bus.call(events.which_handlers()) == [events.key_of(Other)]


def test_delete_returns_what_terminate_did_and_is_told_of_the_absent() -> None:
    bus = Bus(Log)
    assert bus.call(events.delete_handler(Log, "args")) == "log was told args"
    assert isinstance(bus.call(events.delete_handler(Log)), NotFound)


def test_swapping_what_is_not_there_starts_with_error_and_a_failed_init_leaves_none() -> None:
    bus = Bus(Log)
    assert bus.call(events.swap_handler(Third, 1, Other, 2)) == "ok"
    assert LOG[-1] == ("other", "init", (2, "error"))

    class Refusing(Log):
        def init(self, args: Any) -> Any:
            raise ValueError("refused")

    globals()["Refusing"] = Refusing
    Refusing.__qualname__ = "Refusing"
    assert isinstance(bus.call(events.swap_handler(Log, 1, Refusing, 2)), ValueError)
    assert bus.call(events.which_handlers()) == [events.key_of(Other)]


def test_an_init_that_refuses_is_the_reply() -> None:
    bus = Bus(Log)
    assert isinstance(bus.call(events.add_handler(Other, "refuse")), ValueError)
    assert isinstance(bus.call(events.add_handler(Log)), PybehaveError)
    assert bus.call(events.add_handler((Log, 2))) == "ok"
    assert isinstance(bus.call(events.add_handler("nowhere:Nobody")), ModuleNotFoundError)
    assert isinstance(bus.call(events.add_handler("builtins:int")), TypeError)


def test_one_handler_is_called_and_its_crash_is_its_own() -> None:
    bus = Bus(Log, Other)
    assert bus.call(events.call(Log, "how")) == ("log", "how")
    assert isinstance(bus.call(events.call(Log, "crash")), ValueError)
    assert bus.call(events.call(Other, "leave")) == "left"
    assert bus.call(events.which_handlers()) == []
    assert isinstance(bus.call(events.call(Log, "how")), NotFound)


def test_a_handler_that_is_not_there_is_called_a_handler() -> None:
    bus = Bus(Log)
    absent = bus.call(events.call((Third, 2), "how"))
    assert str(absent).endswith("test_gen_event:Third', 2)\"; which_handlers lists them")
    absent = bus.call(events.add_handler(Other, after=[Third]))
    name = events.key_of(Third)
    assert (absent.child, str(absent)) == (
        name, f"There is no handler {name!r}; which_handlers lists them"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        (events.call(Log, "forget"), "'s handle_call returned .*; return .state, reply.$"),
        (events.sync_notify(("forget", "log")), " returned None; return the new state, or Handled"),
        (
            events.sync_notify(("act", "log")),
            " returned .*; return events.Handled.state, actions",
        ),
    ],
)
def test_what_a_handler_must_not_return_is_told_with_what_it_may(message: Any, hint: str) -> None:
    reasons = []

    class Told(Log):
        def terminate(self, reason: Any, state: Any) -> Any:
            reasons.append(reason)

    bus = Bus(Log)
    bus.manager.entries[0].handler = Told()
    bus.call(message)
    [(_, error)] = reasons
    assert isinstance(error, BadReturn) and re.search(hint, str(error))


def test_the_owner_is_told_once_when_its_handler_goes() -> None:
    bus = Bus()
    for kind, event, told in (
        (Log, ("crash", "log"), ("error", "ValueError: a deliberate bug")),
        (Other, ("remove", "other"), "normal"),
    ):
        bus.call(events.add_sup_handler(kind, owner="me"))
        bus.sync(event)
        said = ("event_handler_exit", "bus", events.key_of(kind), told)
        assert [a for a in bus.actions if type(a) is Info] == [Info("me", said)]
    bus.call(events.add_sup_handler(Log, owner="me"))
    bus.sync(("swap", "log"))
    (told,) = [action.message[3] for action in bus.actions if type(action) is Info]
    assert told == ("swapped", events.key_of(Other))
    bus.call(events.delete_handler(Other))
    assert bus.actions[0] == Info(
        "me", ("event_handler_exit", "bus", events.key_of(Other), "normal")
    )


def test_casts_gather_into_a_batch_whose_last_event_says_so() -> None:
    seen: list[tuple[Any, bool]] = []

    class Batching(EventHandler):
        def handle_event(self, event: Any, state: Any) -> Any:
            seen.append((event, self.batch.is_last))
            return 0

    globals()["Batching"] = Batching
    Batching.__qualname__ = "Batching"
    bus = Bus(Batching)
    bus.cast(events.notify(1))
    assert bus.actions == [Info("bus", FLUSH)]
    bus.cast(events.notify(2))
    assert bus.actions == []
    bus.cast("also an event")
    assert seen == []
    bus.info(FLUSH)
    assert seen == [(1, False), (2, False), ("also an event", True)]
    seen.clear()
    bus.cast(events.notify(3))
    assert bus.sync("of who waits") == "ok"
    assert seen == [(3, False), ("of who waits", True)]
    bus.info(FLUSH)
    bus.cast(events.notify(4))
    assert bus.actions == [Info("bus", FLUSH)]
    bus.call(events.which_handlers())  # whoever asks finds all that was sent before
    assert seen[-1] == (4, True)


class Whole(EventHandler):
    """Takes batches; slow when it is told so."""

    def handle_batch(self, events: list[Any], state: Any) -> Any:
        LOG.append(("whole", *events))
        return Later(0) if "slow" in events else 0


def test_a_handler_may_take_all_that_has_gathered_at_once() -> None:
    bus = Bus(Whole)
    bus.call(events.add_handler(Log, after=[Whole]))
    LOG.clear()
    for number in (1, 2, 3):
        bus.cast(events.notify(number))
    bus.info(FLUSH)
    assert LOG == [("whole", 1, 2, 3), ("log", 1), ("log", 2), ("log", 3)]


class Drawn(EventHandler):
    """Takes batches, and gives what its script says."""

    def init(self, args: Any) -> Any:
        return list(args)

    def handle_batch(self, events: list[Any], state: Any) -> Any:
        LOG.append((self.batch.sequence, self.batch.is_last, tuple(events), list(state)))
        what, rest = state[0] if state else "state", state[1:]
        if what == "raise":
            raise ValueError("a deliberate bug")
        given = {"later": Later(rest), "handled": Handled(rest), "remove": Remove(), "none": None}
        return given.get(what, rest)


class NoMoreThanMany(Drawn):
    batch_max = 2**40


GIVEN = st.sampled_from(["state", "state", "state", "later", "handled", "remove", "none", "raise"])


@given(
    scripts=st.lists(st.lists(GIVEN, max_size=3), max_size=4),
    batches=st.lists(st.integers(1, 3), min_size=1, max_size=4),
)
def test_the_short_way_of_batches_ends_where_the_long_one_does(
    scripts: list[list[str]], batches: list[int]
) -> None:
    def run(kind: type[Drawn]) -> Any:
        bus = Bus()
        for number, script in enumerate(scripts):
            bus.call(events.add_handler((kind, number), script))
        LOG.clear()
        stands = []
        for size in batches:
            bus.cast(events.notify_many(range(size)))
            for number in range(len(scripts)):
                bus.cast(events.done((kind, number), bus.manager.ring.published))
            stands += [(e.key[1], e.state, e.sequence, e.is_waiting) for e in bus.manager.entries]
        return LOG[:], stands, len(bus.manager.ring)

    assert run(Drawn) == run(NoMoreThanMany)


class Pairs(Whole):
    batch_max = 2


def test_a_batch_is_no_larger_than_its_handler_wants() -> None:
    bus = Bus(Pairs)
    bus.call(events.add_handler(Whole, after=[Pairs]))
    LOG.clear()
    bus.cast(events.notify_many([1, 2, 3, 4, 5]))
    assert LOG == [
        ("whole", 1, 2), ("whole", 1, 2), ("whole", 3, 4), ("whole", 3, 4), ("whole", 5),
        ("whole", 5),
    ]  # fmt: skip


def test_one_that_takes_batches_is_never_ahead_of_those_it_comes_after() -> None:
    bus = Bus(Log)
    bus.call(events.add_handler(Whole, after=[Log]))
    LOG.clear()
    for number in (1, ("later", "log"), 3):
        bus.cast(events.notify(number))
    bus.info(FLUSH)
    assert LOG == [("log", 1), ("whole", 1), ("log", ("later", "log"))]
    bus.cast(events.done(Log, 2))
    assert LOG[3:] == [("whole", ("later", "log")), ("log", 3), ("whole", 3)]


def test_a_producer_may_send_a_batch() -> None:
    bus = Bus(Whole, capacity=4)
    bus.cast(events.notify_many(range(10)))
    assert LOG == [("whole", 0, 1, 2, 3), ("whole", 4, 5, 6, 7), ("whole", 8, 9)]


def test_a_batch_may_be_finished_later_and_in_pieces() -> None:
    bus = Bus(Whole)
    bus.call(events.add_handler(Log, after=[Whole]))
    LOG.clear()
    for event in (1, "slow", 3):
        bus.cast(events.notify(event))
    bus.info(FLUSH)
    assert LOG == [("whole", 1, "slow", 3)]
    bus.cast(events.done(Whole, 2))
    assert LOG[1:] == [("log", 1), ("log", "slow")]
    bus.cast(events.notify(4))
    bus.info(FLUSH)
    assert LOG[3:] == []
    bus.cast(events.done(Whole, 3))
    assert LOG[3:] == [("log", 3), ("whole", 4), ("log", 4)]


def test_actions_of_handlers_are_the_manager_s() -> None:
    bus = Bus(Log)
    bus.sync(("send", "log"))
    assert Send("c", b"x") in bus.actions


def test_other_messages_reach_every_handler() -> None:
    bus = Bus(Log, Other)
    bus.info("hello")
    assert LOG == [("other", "info", "hello"), ("log", "info", "hello")]


def test_a_slow_handler_holds_back_those_after_it_and_who_waits_for_them() -> None:
    bus = Bus(Log)
    bus.call(events.add_handler(Other))
    bus.call(events.add_handler(Third, after=[Log]))
    LOG.clear()
    assert bus.sync(("later", "log")) is NO_REPLY
    assert bus.sync("next") is NO_REPLY
    assert LOG == [("other", ("later", "log")), ("log", ("later", "log")), ("other", "next")]
    LOG.clear()
    bus.cast(events.done(Log, 1))
    assert LOG == [("third", ("later", "log")), ("log", "next"), ("third", "next")]
    assert bus.actions == [Reply("caller", "ok"), Reply("caller", "ok")]
    bus.cast(events.done(Log, 1))  # again: too late
    assert len(bus.manager.ring) == 0


def slow_bus(overflow: str) -> Bus:
    bus = Bus(Log, capacity=2, overflow=overflow)
    bus.sync(("later", "log"))
    bus.sync(2)
    return bus


def test_a_full_ring_lets_senders_wait() -> None:
    bus = slow_bus("block")
    assert bus.call(events.sync_notify(3), "third") is NO_REPLY
    bus.cast(events.notify(4))
    bus.cast(events.done(Log, 1))
    assert [event for _, event in LOG] == [("later", "log"), 2, 3, 4]
    assert [a.to for a in bus.actions if type(a) is Reply] == ["caller", "caller", "third"]


def test_a_full_ring_refuses_senders() -> None:
    bus = slow_bus("reject")
    assert isinstance(bus.call(events.sync_notify(3)), Overloaded)
    bus.cast(events.notify(4))
    assert bus.manager.dropped == 1
    bus.cast(events.done(Log, 1))
    assert [event for _, event in LOG] == [("later", "log"), 2]


def test_a_full_ring_lets_the_slow_miss_the_oldest() -> None:
    bus = slow_bus("drop_oldest")
    bus.sync(3)
    assert [event for _, event in LOG] == [("later", "log"), 2, 3]
    assert bus.manager.entries[0].missed == 1


class Slow(EventHandler):
    """Works on each batch beside the manager."""

    def handle_batch(self, events: list[Any], state: Any) -> Any:
        LOG.append(tuple(events))
        return Later(0)


def test_who_misses_the_oldest_is_not_given_again_what_it_works_on() -> None:
    """(R3)"""
    bus = Bus(Slow, capacity=3, overflow="drop_oldest")
    bus.cast(events.notify_many([1, 2, 3]))
    bus.cast(events.notify_many([4]))
    assert LOG == [(1, 2, 3), (4,)]


@pytest.mark.parametrize(
    "send",
    [
        lambda bus, last: (bus.cast(events.notify(("swap", "log"))), bus.sync(last)),
        lambda bus, last: bus.cast(events.notify_many([1, ("swap", "log"), last])),
    ],
)
def test_what_has_gathered_behind_a_swap_is_for_the_new_handler(send: Any) -> None:
    bus = Bus(Log, Third)
    send(bus, "last")
    seen = [what for what in LOG if what[1] in (("swap", "log"), "last")]
    assert seen == [
        ("third", ("swap", "log")), ("log", ("swap", "log")), ("third", "last"), ("other", "last"),
    ]  # fmt: skip


def test_a_swap_to_a_name_that_is_there_leaves_both() -> None:
    bus = Bus(Log, Other)
    answer = bus.call(events.swap_handler(Log, None, Other, None))
    assert "is there already" in str(answer)
    assert LOG == []
    assert len(bus.call(events.which_handlers())) == 2


def test_a_handler_that_swaps_itself_for_one_that_is_there_is_removed() -> None:
    """(E1) It would have been ignored, and nobody told."""
    bus = Bus(Log, Other)
    assert bus.sync(("swap", "log")) == "ok"
    assert bus.call(events.which_handlers()) == [events.key_of(Other)]
    bus.call(events.add_sup_handler(Log, owner="me"))
    bus.cast(events.notify(("swap", "log")))
    bus.info(FLUSH)
    [told] = [action.message[3] for action in bus.actions if type(action) is Info]
    assert told[0] == "error"
    assert "is there already" in told[1]


def test_shards_divide_the_events() -> None:
    bus = Bus()
    for index in range(3):
        bus.call(events.add_handler((Log, index), shard=(index, 3)))
    LOG.clear()
    for number in range(9):
        bus.sync(number)
    assert sorted(event for _, event in LOG) == list(range(9))
    with pytest.raises(ValueError, match="0 to 2"):
        events.add_handler(Log, shard=(3, 3))


def test_a_dumped_manager_goes_on_where_it_was() -> None:
    bus = slow_bus("block")
    bus.call(events.add_handler(Third, after=[Log]))
    bus.cast(events.notify(5))
    again = bus.server.load(bus.server.dump(bus.manager))
    assert bus.server.dump(again) == bus.server.dump(bus.manager)
    bus.manager = again
    LOG.clear()
    bus.cast(events.done(Log, 1))
    assert [(name, event) for name, event in LOG] == [("log", 2), ("log", 5), ("third", 5)]


def test_the_end_of_the_manager_is_the_end_of_its_handlers() -> None:
    bus = Bus(Log, Other)
    bus.server.terminate("shutdown", bus.manager)
    assert LOG == [("other", "end", "stop"), ("log", "end", "stop")]


@pytest.mark.parametrize("handler", [7, None, (1, 2, 3)])
def test_a_handler_without_a_name_is_refused(handler: Any) -> None:
    with pytest.raises(TypeError, match="by its class"):
        events.add_handler(handler)


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        ("after", Log, "use a list of handlers"), ("after", "Log", "use a list of handlers"),
        ("after", 7, "use a list of handlers"), ("shard", 3, "use .index, count."),
        ("shard", (1,), "use .index, count."), ("shard", ("a", 2), "use .index, count."),
    ],
)  # fmt: skip
def test_a_wrong_place_for_a_handler_says_what_to_give(field: str, value: Any, hint: str) -> None:
    with pytest.raises(TypeError, match=f"^{field}=.*{hint}"):
        events.add_handler(Other, **{field: value})


def test_actions_that_servers_send_are_plain_messages() -> None:
    assert actions.Cast("bus", events.notify(1)).message == ("$event", "notify", 1)


# --- against a model -----------------------------------------------------------------------------

MODEL_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("sync"), st.integers(0, 3)),
        st.tuples(st.just("cast"), st.integers(0, 3)),
        st.tuples(st.just("add"), st.integers(0, 4)),
        st.tuples(st.just("delete"), st.integers(0, 4)),
        st.tuples(st.just("crash"), st.integers(0, 4)),
    ),
    max_size=40,
)
SEEN: list[Any] = []


class Numbered(EventHandler):
    def init(self, args: Any) -> Any:
        return args

    def handle_event(self, event: Any, state: Any) -> Any:
        SEEN.append((state, event))
        if event == ("crash", state):
            raise ValueError
        return state


@given(MODEL_STEPS)
def test_random_handlers_see_what_a_plain_list_would(steps: list[tuple[str, int]]) -> None:
    bus = Bus(capacity=4)
    SEEN.clear()
    handlers: list[int] = []
    pending: list[Any] = []
    expected: list[Any] = []

    def deliver(event: Any) -> None:
        for number in list(handlers):
            expected.append((number, event))
            if event == ("crash", number):
                handlers.remove(number)

    def flush() -> None:
        while pending:
            deliver(pending.pop(0))

    for verb, number in steps:
        match verb:
            case "cast":
                if len(pending) == 4:
                    flush()
                pending.append(number)
                bus.cast(events.notify(number))
                continue
            case "add":
                flush()
                if number not in handlers:
                    handlers.insert(0, number)
                bus.call(events.add_handler((Numbered, number), number))
            case "delete":
                flush()
                if number in handlers:
                    handlers.remove(number)
                bus.call(events.delete_handler((Numbered, number)))
            case _:
                flush()
                event = ("crash", number) if verb == "crash" else number
                deliver(event)
                assert bus.sync(event) == "ok"
        assert expected == SEEN
    bus.info(FLUSH)
    flush()
    assert expected == SEEN


def test_a_ring_is_bounded_and_releases_what_all_are_past() -> None:
    ring: Ring[int] = Ring(2)
    assert [ring.publish(10), ring.publish(20)] == [1, 2]
    with pytest.raises(IndexError):
        ring.publish(30)
    ring.release([1, 2])
    assert (ring.first, len(ring), ring.get(2)) == (2, 1, 20)
    ring.release([])
    assert (ring.first, len(ring)) == (3, 0)
    with pytest.raises(ValueError, match="1 or more"):
        Ring(0)


@pytest.mark.parametrize(
    "args", [[Log], 5, {"log": Log}, [events.which_handlers()], events.add_handler(Log)]
)
def test_a_manager_begins_with_a_list_of_handlers_to_add(args: Any) -> None:
    with pytest.raises(TypeError, match=r"a GenEvent begins with a list of events.add_handler"):
        GenEvent()._initial("bus", args)


def test_who_calls_a_notify_waits_and_what_is_for_cast_alone_is_refused() -> None:
    bus = Bus(Log)
    assert bus.call(events.notify("event")) == "ok"
    assert LOG == [("log", "event")]
    assert "is for cast, not for call" in str(bus.call(events.done(Log, 1)))
    assert bus.call(events.which_handlers()) == [events.key_of(Log)]
