"""Events are immutable, say one line, are logged at OTP's levels, and hooks cannot hurt."""

import logging
from typing import Any

import pytest

from pybehave.runtime.events import (
    LOGGER_NAME,
    ChildStarted,
    ChildStopped,
    ChildTerminated,
    Escalated,
    Event,
    EventHub,
    IntensityReached,
    ShutdownError,
    StartError,
)

BOOM = ValueError("boom")

SAMPLES: list[tuple[Event, int, str]] = [
    (ChildStarted("root", "a", 1, 0), logging.INFO, "root/a started"),
    (ChildStarted("root", "a", 2, 1), logging.INFO, "root/a started (restart 1)"),
    (ChildStarted("rooms", "room-7", 1, 0, is_made=True), logging.DEBUG, "rooms/room-7 started"),
    (ChildStopped("root", "a", 1, "shutdown"), logging.DEBUG, "root/a stopped: 'shutdown'"),
    (
        ChildTerminated("root", "a", 1, BOOM, "permanent", "restart"),
        logging.ERROR,
        "root/a (permanent) ended: ValueError: boom; it is restarted",
    ),
    (
        StartError("root", "a", BOOM, "restart"),
        logging.ERROR,
        "root/a did not start (restart): ValueError: boom",
    ),
    (
        StartError("root", "a", BOOM, "request"),
        logging.INFO,
        "root/a did not start (request): ValueError: boom",
    ),
    (
        ShutdownError("root", "a", 1, "killed"),
        logging.ERROR,
        "root/a was told to stop and ended with 'killed'",
    ),
    (
        IntensityReached("root", "a", BOOM, 1, 5.0),
        logging.ERROR,
        "root gives up: a needed more than 1 restarts in 5 s, the last for ValueError: boom",
    ),
    (
        Escalated("root", "inner", "give_up", "shutdown"),
        logging.ERROR,
        "root/inner ended (give_up); root decides",
    ),
    (
        Escalated("", "root", "auto_shutdown", "shutdown"),
        logging.INFO,
        "root ended (auto_shutdown); it was the root",
    ),
]


@pytest.mark.parametrize(("event", "level", "line"), SAMPLES)
def test_S9_an_event_is_one_line_at_the_level_of_OTP(event: Event, level: int, line: str) -> None:
    assert str(event) == line
    assert event.severity == level


@pytest.mark.parametrize("event", [event for event, _, _ in SAMPLES])
def test_an_event_cannot_be_changed(event: Any) -> None:
    with pytest.raises(AttributeError):
        event.child = "other"


@pytest.mark.parametrize("verdict", ["restart", "keep", "forget", "give_up", "auto_shutdown"])
def test_every_verdict_has_words(verdict: str) -> None:
    assert str(ChildTerminated("root", "a", 1, "boom", "permanent", verdict))


def test_events_are_logged_with_the_traceback_of_a_failed_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, LOGGER_NAME)
    for event, _, _ in SAMPLES:
        EventHub().emit(event)
    assert [record.levelno for record in caplog.records] == [level for _, level, _ in SAMPLES]
    assert [record.getMessage() for record in caplog.records] == [line for *_, line in SAMPLES]
    start_error = caplog.records[5]
    assert start_error.exc_info is not None
    assert start_error.exc_info[1] is BOOM


def test_E_17_a_hook_gets_every_event_until_it_is_removed() -> None:
    hub = EventHub()
    seen: list[Event] = []
    remove = hub.add(seen.append)
    again = hub.add(seen.append)
    hub.emit(SAMPLES[0][0])
    again()
    again()
    hub.emit(SAMPLES[1][0])
    remove()
    hub.emit(SAMPLES[2][0])
    assert seen == [SAMPLES[0][0], SAMPLES[0][0], SAMPLES[1][0]]


@pytest.mark.parametrize("error", [ValueError("in hook"), SystemExit(3), RecursionError()])
def test_E_17_a_hook_that_raises_is_logged_and_changes_nothing(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def raises(event: Event) -> None:
        raise error

    hub = EventHub()
    seen: list[Event] = []
    hub.add(raises)
    hub.add(seen.append)
    hub.emit(SAMPLES[0][0])
    assert seen == [SAMPLES[0][0]]
    assert any("raised" in record.getMessage() for record in caplog.records)


def test_a_hook_lets_a_keyboard_interrupt_pass() -> None:
    def interrupts(event: Event) -> None:
        raise KeyboardInterrupt

    hub = EventHub()
    hub.add(interrupts)
    with pytest.raises(KeyboardInterrupt):
        hub.emit(SAMPLES[0][0])
