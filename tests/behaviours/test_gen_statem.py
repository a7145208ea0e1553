"""gen_statem without a loop: what results and actions mean, and what is refused."""

from typing import Any

import pytest

from pybehave import GenStatem, actions
from pybehave.actions import NO_REPLY, CancelTimer, Ignore, Reply, Send, StartTimer
from pybehave.behaviours import statem_engine
from pybehave.behaviours.statem_engine import MINE
from pybehave.errors import BadReturn, EndlessTurn, InitStopped
from pybehave.statem import (
    CANCEL,
    UPDATE,
    ChangeCallbackModule,
    EventTimeout,
    KeepState,
    KeepStateAndData,
    NextEvent,
    NextState,
    PopCallbackModule,
    Postpone,
    PushCallbackModule,
    RepeatState,
    StateTimeout,
    Stop,
    Timeout,
)
from pybehave.testing import FixedContext
from pybehave.types import IGNORED


class Scripted(GenStatem):
    """Returns what it is sent."""

    def init(self, args: Any) -> Any:
        return args if args is not None else ("a", 0)

    def handle_event(self, event_type: Any, content: Any, state: Any, data: Any) -> Any:
        self.__dict__.setdefault("seen", []).append((event_type, content, state, data))
        return content(state, data) if callable(content) else content


class Functions(GenStatem):
    def init(self, args: Any) -> Any:
        return args, []

    def locked(self, event_type: Any, content: Any, data: list[Any]) -> Any:
        return NextState(content, [*data, event_type])

    def opened(self, event_type: Any, content: Any, data: list[Any]) -> Any:
        return KeepStateAndData()


def begun(kind: type[GenStatem] = Scripted, args: Any = None) -> tuple[Any, Any]:
    server: Any = kind()
    server.context = FixedContext(name="m", monotonic=100.0)
    return server, server._initial("m", args).state


def cast(result: Any, **options: Any) -> tuple[Any, Any, Any]:
    """A fresh machine gets one event; the server, its machine, the actions."""
    server, machine = begun(**options)
    after, _, *rest = server.handle_cast(result, machine)
    return server, after, rest[0] if rest else []


def test_a_reply_to_the_caller_of_the_turn_is_the_output() -> None:
    server, machine = begun()
    caller = object()
    answer = NextState("b", 1, Reply(caller, "yes"))
    assert server.handle_call(answer, caller, machine)[1] == "yes"
    many = NextState("b", 1, [Reply(caller, "yes"), Reply(caller, "no"), Send("c", b"x")])
    after, output, out = server.handle_call(many, caller, machine)
    assert (after.state, output, out) == ("b", "yes", [Send("c", b"x")])
    assert server.handle_call(KeepStateAndData(), caller, machine)[1] is NO_REPLY


def test_replies_of_a_stop_leave_before_the_stop() -> None:
    caller = object()
    server, machine = begun()
    after, output, out = server.handle_call(
        Stop("done", 7, [Reply(caller, "bye")]), caller, machine
    )
    assert (after.data, output) == (7, NO_REPLY)
    assert out == [Reply(caller, "bye"), actions.Stop("done")]


def test_a_stop_of_a_server_stops_a_machine_too() -> None:
    assert cast(actions.Stop("shutdown"))[2] == [actions.Stop("shutdown")]


@pytest.mark.parametrize(
    "result",
    [
        None,
        ("next_state", "b", 1),
        Stop("x", 1, ["no reply"]),
        KeepStateAndData("postpone"),
        KeepStateAndData([True]),
        KeepStateAndData([actions.Stop("x")]),
        KeepStateAndData([actions.Continue("x")]),
        [KeepStateAndData()],
        KeepStateAndData(PopCallbackModule()),
        KeepStateAndData(PushCallbackModule(int)),
        NextState([], 0),
    ],
    ids=repr,
)
def test_what_cannot_be_is_a_crash_that_shows_it(result: Any) -> None:
    with pytest.raises(BadReturn):
        cast(result)


@pytest.mark.parametrize(
    ("result", "advice"),
    [
        (None, "return a result of pybehave.statem"),
        (KeepStateAndData("postpone"), "actions are one or a list of those"),
        (KeepStateAndData(actions.Continue("x")), "NextEvent"),
        (KeepStateAndData(actions.Stop("x")), "the result Stop"),
        (Stop("x", 1, [Postpone()]), "Reply actions, nothing else"),
        (NextState([], 0), "a state is hashable"),
    ],
    ids=repr,
)
def test_a_bad_result_says_what_is_good(result: Any, advice: str) -> None:
    with pytest.raises(BadReturn, match=advice):
        cast(result)


def test_an_unknown_state_or_init_says_what_is_good() -> None:
    server, machine = begun(Functions, "locked")
    with pytest.raises(BadReturn, match="returned 'ajar'; Functions has no method"):
        server.handle_cast("ajar", machine)
    with pytest.raises(BadReturn, match=r"return \(state, data\)"):
        server._initial("m", "locked")  # args that make init return a list
        begun(Scripted, "a")


@pytest.mark.parametrize("kind", ["enter", "later", ("timeout",), ("cast", 1), 7, None])
def test_an_event_of_no_type_is_refused_where_it_is_made(kind: Any) -> None:
    with pytest.raises(ValueError, match="event_type is"):
        NextEvent(kind, 1)


def test_replies_need_not_be_comparable() -> None:
    class Incomparable:
        def __eq__(self, other: object) -> bool:
            raise ValueError("ambiguous")

        __hash__ = None  # type: ignore[assignment]

    server, machine = begun()
    caller, value = object(), Incomparable()
    many = KeepStateAndData([Reply(caller, value), Reply(object(), value), Reply(caller, 1)])
    _, output, out = server.handle_call(many, caller, machine)
    assert output is value
    assert [action.value for action in out] == [value]


def test_M5_timers_are_asked_for_before_all_else() -> None:
    *_, out = cast(KeepStateAndData([Send("c", b"x"), StateTimeout(5), Send("d", b"y")]))
    assert [type(action) for action in out] == [StartTimer, Send, Send]


@pytest.mark.parametrize(("count", "is_endless"), [(2, False), (3, False), (4, True)])
def test_M6_a_turn_that_does_not_end_is_an_error(
    monkeypatch: pytest.MonkeyPatch, count: int, is_endless: bool
) -> None:
    monkeypatch.setattr(statem_engine, "EVENTS_MAX", 4)  # so: three inserted ones, and none left

    def again(left: int) -> Any:
        if left == 0:
            return KeepStateAndData()
        return lambda state, data: KeepStateAndData(NextEvent("internal", again(left - 1)))

    if is_endless:
        with pytest.raises(EndlessTurn, match="more than 4 times in one turn"):
            cast(again(count))
    else:
        assert len(cast(again(count))[0].seen) == count + 1


def test_M6_an_enter_call_that_repeats_for_ever_is_an_error() -> None:
    class Repeating(Scripted):
        state_enter = True

        def handle_event(self, event_type: Any, content: Any, state: Any, data: Any) -> Any:
            return RepeatState(data) if data else KeepStateAndData()

    with pytest.raises(EndlessTurn, match="state enter call was repeated more than 1000"):
        begun(Repeating, ("a", 1))


def test_a_crash_says_where_the_machine_was() -> None:
    def boom(state: Any, data: Any) -> Any:
        raise ValueError("x")

    server, machine = begun()
    with pytest.raises(ValueError, match="x") as failed:
        server.handle_cast(boom, machine)
    assert "in state 'a', event 'cast'" in failed.value.__notes__[0]


def test_state_functions_are_methods_named_by_the_state() -> None:
    server, machine = begun(Functions, "locked")
    machine = server.handle_cast("opened", machine)[0]
    assert (machine.state, machine.data) == ("opened", ["cast"])


@pytest.mark.parametrize("state", ["unknown", "init", "handle_event", "__init__", 7, None])
def test_a_state_without_a_function_is_refused(state: Any) -> None:
    server, machine = begun(Functions, "locked")
    with pytest.raises(BadReturn, match="m"):
        server.handle_cast(state, machine)
    with pytest.raises(BadReturn):
        begun(Functions, state)


def test_init_may_ignore_stop_and_ask_for_time() -> None:
    server: Any = Scripted()
    server.context = FixedContext()
    assert server._initial("m", Ignore()) is IGNORED
    with pytest.raises(InitStopped, match="no license"):
        server._initial("m", actions.Stop("no license"))
    with pytest.raises(InitStopped, match="no license"):
        server._initial("m", Stop("no license"))
    with pytest.raises(BadReturn):
        server._initial("m", Stop("no license", "data"))
    with pytest.raises(BadReturn):
        server._initial("m", ("a",))
    initial = server._initial("m", ("a", 0, [StateTimeout(5, "x"), Postpone()]))
    assert initial.actions == (StartTimer((MINE, "state_timeout"), 5, (MINE, "state_timeout")),)
    assert initial.state.postponed == ()


def test_time_outs_are_timers_of_the_server() -> None:
    server, machine, out = cast(KeepStateAndData([StateTimeout(5, "s"), Timeout("n", 7, "t"), 9]))
    assert [(action.name[1], action.seconds) for action in out] == [
        ("state_timeout", 5),
        (("timeout", "n"), 7),
        ("timeout", 9),
    ]
    assert machine.timeouts == {"state_timeout": "s", ("timeout", "n"): "t", "timeout": 9}
    *_, out = server.handle_cast(NextState("b", 0), machine)
    assert {action.name[1] for action in out} == {"timeout", "state_timeout"}
    assert all(type(action) is CancelTimer for action in out)


def test_an_expiry_brings_its_content_once() -> None:
    server, machine, _ = cast(KeepStateAndData(Timeout("n", 7, KeepState("expired"))))
    expiry = (MINE, ("timeout", "n"))
    machine = server.handle_info(expiry, machine)[0]
    assert (machine.data, machine.timeouts) == ("expired", {})
    assert server.seen[-1][0] == ("timeout", "n")
    assert server.handle_info(expiry, machine)[0].data == "expired"
    assert len(server.seen) == 2


def test_an_update_changes_the_content_and_no_timer() -> None:
    server, machine, _ = cast(KeepStateAndData(StateTimeout(7, "old")))
    machine, _, *out = server.handle_cast(KeepStateAndData(StateTimeout(UPDATE, "new")), machine)
    assert (machine.timeouts, out) == ({"state_timeout": "new"}, [])


def test_cancelled_and_infinite_time_outs_do_not_run() -> None:
    for seconds in (CANCEL, float("inf")):
        server, machine, _ = cast(KeepStateAndData(EventTimeout(7)))
        asked = KeepStateAndData(EventTimeout(seconds))
        machine, _, out = server.handle_cast(asked, machine)
        assert (machine.timeouts, out) == ({}, [CancelTimer((MINE, "timeout"))])


def test_absolute_times_are_those_of_the_context() -> None:
    _, _, out = cast(KeepStateAndData(StateTimeout(103.0, absolute=True)))
    assert out[0].seconds == 3.0
    server, _, out = cast(KeepStateAndData(StateTimeout(99.0, KeepStateAndData(), absolute=True)))
    assert (out, server.seen[-1][0]) == ([], "state_timeout")


@pytest.mark.parametrize("seconds", [-1, float("nan")])
@pytest.mark.parametrize("kind", [StateTimeout, EventTimeout, lambda s: Timeout("n", s)])
def test_a_time_that_is_none_is_refused_where_it_is_made(kind: Any, seconds: float) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        kind(seconds)
    with pytest.raises(TypeError, match="a number"):
        kind("soon")


class Entering(Scripted):
    state_enter = True

    def handle_event(self, event_type: Any, content: Any, state: Any, data: Any) -> Any:
        if event_type == "enter":
            self.__dict__.setdefault("entered", []).append((content, state))
            return self.__dict__.pop("on_enter", KeepStateAndData())
        return super().handle_event(event_type, content, state, data)


@pytest.mark.parametrize(
    "result",
    [
        NextState("c", 0),
        KeepStateAndData(Postpone()),
        KeepStateAndData([NextEvent("internal", 1)]),
        KeepStateAndData(ChangeCallbackModule(Scripted)),
    ],
    ids=repr,
)
def test_an_enter_call_cannot_do_everything(result: Any) -> None:
    server, machine = begun(Entering)
    server.on_enter = result
    with pytest.raises(BadReturn):
        server.handle_cast(NextState("b", 0), machine)


def test_states_are_entered_at_the_start_at_changes_and_when_repeated() -> None:
    server, machine = begun(Entering)
    machine = server.handle_cast(NextState("b", 0), machine)[0]
    machine = server.handle_cast(NextState("b", 0), machine)[0]
    server.handle_cast(RepeatState(0), machine)
    assert server.entered == [("a", "a"), ("a", "b"), ("b", "b")]


def test_one_and_one_point_zero_are_two_states() -> None:
    server, machine = begun(Entering, (1, 0))
    server.handle_cast(NextState(1.0, 0), machine)
    assert server.entered == [(1, 1), (1, 1.0)]


class Other(GenStatem):
    def init(self, args: Any) -> Any:
        raise AssertionError("a callback module is not begun")

    def handle_event(self, event_type: Any, content: Any, state: Any, data: Any) -> Any:
        if content == "back":
            return KeepState(f"{self.context.name} is back", PopCallbackModule())
        return KeepState(("other", content))

    def terminate(self, reason: Any, state: Any, data: Any) -> Any:
        return f"other ends with {reason} {state} {data}"


def test_modules_are_pushed_changed_and_popped() -> None:
    server, machine, _ = cast(KeepStateAndData(PushCallbackModule(Other)))
    machine = server.handle_cast("x", machine)[0]
    assert machine.data == ("other", "x")
    assert server._terminate("shutdown", machine) == "other ends with shutdown a ('other', 'x')"
    again = server.load(server.dump(machine))
    assert again == machine
    machine = server.handle_cast("back", machine)[0]
    assert machine.data == "m is back"
    assert server.handle_cast(KeepState("own"), machine)[0].data == "own"
    machine = server.handle_cast(KeepStateAndData(ChangeCallbackModule(Other)), machine)[0]
    with pytest.raises(BadReturn):
        server.handle_cast("back", machine)


class High(GenStatem):
    def up(self, event_type: Any, content: Any, data: Any) -> Any:
        return NextState("down", [*data, ("up", content)], PopCallbackModule())


class Low(GenStatem):
    def init(self, args: Any) -> Any:
        return "down", []

    def down(self, event_type: Any, content: Any, data: Any) -> Any:
        if content == "push alone":
            return KeepStateAndData(PushCallbackModule(High))
        if content == "nowhere":
            return NextState("low", data, PushCallbackModule(High))
        return NextState("up", [*data, ("down", content)], PushCallbackModule(High))


def test_a_state_and_its_module_change_together() -> None:
    """(OTP, run: the state is the new module's)"""
    server = Low()
    server.context = FixedContext(name="m")
    machine = server._initial("m", None).state
    for content in (1, 2, 3):
        machine = server.handle_cast(content, machine)[0]
    assert (machine.state, machine.data) == ("up", [("down", 1), ("up", 2), ("down", 3)])
    machine = server.handle_cast(4, machine)[0]
    for content, state in (("push alone", "down"), ("nowhere", "low")):
        with pytest.raises(BadReturn, match=f"'{state}'.*High has no method of that name"):
            server.handle_cast(content, machine)


@pytest.mark.parametrize("timeout", [StateTimeout(5), EventTimeout(5)])
def test_machines_that_wait_without_content_keep_one_object_for_all(timeout: Any) -> None:
    first, second = (begun(args=("a", 0, timeout))[1] for _ in range(2))
    assert first.running is second.running
    assert list(first.timeouts.values()) == [None]


@pytest.mark.parametrize(
    "timeout", [StateTimeout(5, "now"), EventTimeout(5, 0), Timeout("other", 5)]
)
def test_other_timeouts_are_kept_with_their_content(timeout: Any) -> None:
    machine = begun(args=("a", 0, timeout))[1]
    assert list(machine.timeouts.values()) == [timeout.content]
