"""gen_event without a loop: who is told when a handler fails or goes, and what is refused."""

from typing import Any

import pytest

from pybehave import EventHandler, GenEvent, actions, events
from pybehave.actions import NO_REPLY, Info, Reply
from pybehave.behaviours.gen_event import FLUSH, OWNER
from pybehave.errors import BadReturn, NoProc, SpecError
from tests.behaviours.test_gen_event import LOG, Bus, Drawn, Log, Other, Third


@pytest.mark.parametrize(
    "change",
    [
        events.sync_notify(("change", "other", (Other, 2), "new")),
        events.call(Other, "change"),
    ],
)
def test_a_handler_that_swaps_itself_gives_its_place_to_the_other(change: Any) -> None:
    """OTP, gen_event do_swap; only a request to swap begins the new one in front."""
    bus = Bus(Log, Other, Third)
    bus.call(change)
    log, other, third = map(events.key_of, (Log, Other, Third))
    assert bus.call(events.which_handlers()) == [third, (other, 2), log]
    bus.call(events.swap_handler((Other, 2), "bye", (Other, 3), "new"))
    assert bus.call(events.which_handlers()) == [(other, 3), third, log]


def test_the_owner_hears_of_a_swap_also_when_the_new_handler_does_not_begin() -> None:
    """OTP: of the old one in any case; of the new one when there is nobody who asked."""
    bus, log, other = Bus(), events.key_of(Log), events.key_of(Other)
    told = [Info("me", ("event_handler_exit", "bus", log, ("swapped", other)))]
    bus.call(events.add_sup_handler(Log, owner="me"))
    assert isinstance(bus.call(events.swap_handler(Log, 1, Other, "refuse")), ValueError)
    assert [a for a in bus.actions if type(a) is Info] == told
    bus.call(events.add_sup_handler(Log, owner="me"))
    bus.sync(("change", "log", Other, "refuse"))
    failed = ("error", "ValueError: refused")
    told.append(Info("me", ("event_handler_exit", "bus", other, failed)))
    assert [a for a in bus.actions if type(a) is Info] == told
    assert bus.call(events.which_handlers()) == []


def crashes_of(bus: Bus) -> list[Any]:
    found: list[Any] = []
    bus.server._handler_crashed = lambda _, *told: found.append(told)
    return found


@pytest.mark.parametrize(
    ("send", "callback", "content"),
    [
        (lambda bus: bus.sync(("crash", "log")), "handle_event", ("crash", "log")),
        (lambda bus: bus.sync(("forget", "log")), "handle_event", ("forget", "log")),
        (lambda bus: bus.call(events.call(Log, "crash")), "handle_call", "crash"),
        (lambda bus: bus.call(events.call(Log, "forget")), "handle_call", "forget"),
        (lambda bus: bus.info(("crash", "log")), "handle_info", ("crash", "log")),
    ],
)
def test_a_handler_that_fails_is_reported_with_what_it_failed_on(
    send: Any, callback: str, content: Any
) -> None:
    bus = Bus(Log, Third)
    crashes = crashes_of(bus)
    send(bus)
    [(entry, *told, error)] = crashes
    assert (entry.key, entry.state, told) == (
        events.key_of(Log), {"args": None}, [callback, content]
    )  # fmt: skip
    assert isinstance(error, ValueError | BadReturn)


@pytest.mark.parametrize(("after", "had"), [([], [2, 3]), ([Log], [2])])
def test_of_a_batch_all_that_it_had_is_reported(after: list[Any], had: list[int]) -> None:
    bus = Bus(Log)
    bus.call(events.add_handler(Drawn, ["state", "raise"], after=after))
    crashes = crashes_of(bus)
    bus.cast(events.notify_many([1]))
    bus.cast(events.notify_many([2, 3]))
    [(entry, callback, content, _)] = crashes
    assert (entry.state, callback, content) == (["raise"], "handle_batch", had)


@pytest.mark.parametrize(
    ("handler", "reported"), [((Other, 2), (events.key_of(Other), 2)), ("nowhere:N", "nowhere:N")]
)
def test_a_handler_that_does_not_begin_in_place_of_another_is_reported(
    handler: Any, reported: Any
) -> None:
    bus = Bus(Log)
    crashes = crashes_of(bus)
    bus.sync(("change", "log", handler, "refuse"))
    [(entry, callback, content, error)] = crashes
    assert (callback, content) == ("init", "refuse")
    if isinstance(error, ValueError):
        assert (entry.key, type(entry.handler)) == (reported, Other)
    else:  # its class is not there: it is told of the one that wanted it
        assert type(error) is ModuleNotFoundError and type(entry.handler) is Log


def test_what_goes_in_order_is_not_reported() -> None:
    bus = Bus(Log, Other, Third)
    crashes = crashes_of(bus)
    bus.sync(("remove", "log"))
    bus.call(events.delete_handler(Other))
    bus.call(events.swap_handler(Third, 1, Log, "refuse"))
    assert crashes == []


class Array:
    """As numpy's: == gives an array, whose truth is an error."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise ValueError("the truth value of an array is ambiguous")


class Blind(EventHandler):
    """Takes whatever comes, and looks at nothing."""

    def handle_event(self, event: Any, state: Any) -> Any:
        LOG.append(event)

    def handle_info(self, message: Any, state: Any) -> Any:
        LOG.append(message)


@pytest.mark.parametrize("of", [lambda a: a, lambda a: (a, a), lambda a: (a, a, a)])
def test_what_is_sent_need_have_no_truth_value(of: Any) -> None:
    bus, message = Bus(Blind), of(Array())
    bus.info(message)
    bus.call(message)
    bus.cast(message)
    bus.server._handle_casts([message, message], bus.manager, True)
    bus.info(actions.Down("owner", 1, message, message))
    bus.info(actions.Down("owner", 1, message, OWNER))
    assert [what is message for what in LOG] == [True, True, True, True, True, False, False]
    assert (type(LOG[-2]), type(LOG[-1])) == (actions.Down, actions.Exit)
    assert bus.call(events.which_handlers()) == [events.key_of(Blind)]


def test_a_handler_is_not_named_by_what_cannot_be_compared() -> None:
    with pytest.raises(TypeError, match="cannot be hashed; use another"):
        events.call((Log, Array()), "how")


def test_a_sync_notify_that_is_cast_is_an_event() -> None:
    bus = Bus(Log)
    bus.cast(events.sync_notify(1))
    bus.info(FLUSH)
    bus.server._handle_casts([events.sync_notify(2), events.notify(3)], bus.manager, True)
    assert LOG == [("log", 1), ("log", 2), ("log", 3)]


def test_who_calls_notify_many_is_answered_when_all_are_handled() -> None:
    bus = Bus(Log, capacity=2)
    assert bus.call(events.notify_many([1, 2, 3])) == "ok"
    assert bus.call(events.notify_many([])) == "ok"
    assert bus.call(events.notify_many([4, ("later", "log"), 5]), "me") is NO_REPLY
    assert [event for _, event in LOG] == [1, 2, 3, 4, ("later", "log")]
    bus.cast(events.done(Log, 5))
    assert bus.actions == [Reply("me", "ok")]


def test_of_many_events_for_a_full_ring_those_that_had_room_are_taken() -> None:
    bus = Bus(Log, capacity=2, overflow="reject")
    refused = bus.call(events.notify_many([("later", "log"), 2, 3, 4]))
    assert "ring of the event manager 'bus' is full" in str(refused)
    bus.cast(events.done(Log, 1))
    assert [event for _, event in LOG] == [("later", "log"), 2]


@pytest.mark.parametrize(
    "request_",
    [
        lambda: events.add_sup_handler(Other, owner="nobody"),
        lambda: events.swap_sup_handler(Log, 1, Other, 2, owner="nobody"),
    ],
)
def test_an_owner_that_does_not_run_is_refused_and_nothing_has_changed(request_: Any) -> None:
    bus = Bus(Log)
    bus.server._is_running = "nobody".__ne__
    restated = bus.server._restated(request_())
    bus.server._is_running = None  # who steps it again cannot ask
    answer = bus.call(restated)
    assert type(answer) is NoProc and answer.server == "nobody"
    assert LOG == bus.actions == []
    assert bus.call(events.which_handlers()) == [events.key_of(Log)]


def test_all_but_an_owner_that_does_not_run_counts_as_it_is() -> None:
    server = Bus().server
    server._is_running = "nobody".__ne__
    for message in (
        events.add_sup_handler(Log, owner="me"), events.add_handler(Log), tuple(range(7)),
        events.swap_handler(Log, 1, Other, 2), events.notify("nobody"),
    ):  # fmt: skip
        assert server._restated(message) is message


def test_an_owner_has_a_name() -> None:
    with pytest.raises(TypeError, match="owner=None is not allowed"):
        events.add_sup_handler(Log, owner=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="owner=5 is not allowed"):
        events.swap_sup_handler(Log, 1, Other, 2, owner=5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("overflow", "bogus", "'block', 'reject', 'drop_oldest'"),
        ("overflow", ["block"], "'block'"),
        ("capacity", "x", "an integer of 1 or more"),
        ("capacity", 0, "1 or more"),
        ("capacity", True, "1 or more"),
    ],
)
def test_a_class_says_what_its_ring_is_in_words_that_are_known(
    field: str, value: Any, allowed: str
) -> None:
    with pytest.raises(SpecError) as caught:
        type("Odd", (GenEvent,), {field: value})
    assert str(caught.value).startswith(f"Odd: {field}={value!r} is not allowed; use ")
    assert allowed in str(caught.value)


def test_a_handler_s_class_is_found_by_its_name_so_it_must_have_one() -> None:
    class Hidden(EventHandler):
        pass

    for make in (events.add_handler, events.call):
        with pytest.raises(TypeError, match="define it at the top level of a module"):
            make((Hidden, 2), "args")


def test_a_name_that_is_taken_is_told_with_what_would_do() -> None:
    bus = Bus(Log, (Log, 2))
    assert str(bus.call(events.add_handler(Log))).endswith("add it as (class, id)")
    assert str(bus.call(events.add_handler((Log, 2)))).endswith("use another id")
