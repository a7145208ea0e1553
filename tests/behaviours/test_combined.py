"""Servers made of servers, without a loop (A3-36)."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybehave import (
    GenEvent,
    GenServer,
    GenStatem,
    Migration,
    Once,
    Pool,
    Recovery,
    Together,
    Via,
    both,
    either,
)
from pybehave.actions import (
    NO_REPLY,
    Call,
    CallReply,
    Cancel,
    CancelTimer,
    Cast,
    Connect,
    Continue,
    IdleTimeout,
    Ignore,
    Join,
    Monitor,
    Reply,
    Run,
    RunDone,
    StartTimer,
)
from pybehave.behaviours.combined import OF_SIDES, SIDE
from pybehave.behaviours.gen_server import interpret
from pybehave.behaviours.inputs import refusal
from pybehave.behaviours.recovery import Failure
from pybehave.behaviours.release import Way, changed_state, way_of
from pybehave.behaviours.schema import Schema
from pybehave.behaviours.sides import version_of_all, versions_of
from pybehave.errors import BadReturn, CodeRefused, JournalRefused, Rejected, SpecError
from pybehave.protocols import Lines
from pybehave.statem import KeepState, StateTimeout
from pybehave.testing import FixedContext, fold, run
from pybehave.types import IGNORED


class Adder(GenServer[int, Any, Any]):
    """A number; -1 is refused, 13 is a bug."""

    def init(self, args: Any) -> int:
        return args or 0

    def validate(self, command: Any, state: int) -> object:
        return "too little" if command == -1 else None

    def step(self, command: Any, state: int) -> Any:
        if command == 13:
            raise ValueError("13")
        return state + command, state + command


class Log(GenServer[list[Any], Any, Any]):
    """What it hears, changed in place; an action as its input is what it asks for."""

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        state.append(command)
        if command == "later":
            return state, NO_REPLY
        return state, len(state), command if hasattr(command, "__struct_fields__") else None

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        return [*state, ("info", message)], None

    def handle_continue(self, term: Any, state: list[Any]) -> Any:
        return [*state, ("continue", term)], None


class Runner(GenServer[None, Any, Any]):
    def step(self, command: Any, state: None) -> Any:
        return None, None, Run(len, "abc", tag=command)


class Light(GenStatem):
    def init(self, args: Any) -> Any:
        return "off", 0

    def off(self, event_type: Any, content: Any, data: int) -> Any:
        match event_type, content:
            case ("call", caller), "on":
                return KeepState(data + 1, [Reply(caller, "is on"), StateTimeout(5)])
        return KeepState(data + 100)


def made(kind: type[GenServer[Any, Any, Any]]) -> Any:
    server = kind()
    server.context = FixedContext("s")
    return server


# --- what an input does ----------------------------------------------------------------------


def test_either_steps_the_side_that_the_input_is_for() -> None:
    outcome = fold(either(Adder, Log), [(0, 5), (1, "a"), [0, 2]], args=(10, None))
    assert outcome.state == (17, ["a"])
    assert outcome.outputs == ((0, 15), (1, 1), (0, 17))


def test_both_step_all_sides() -> None:
    outcome = fold(both(Adder, Log, Adder), [(1, "a", 2), (1, "b", 3)])
    assert outcome.state == (2, ["a", "b"], 5)
    assert outcome.outputs == ((1, 1, 2), (2, 2, 5))


def test_they_nest() -> None:
    kind = either(Adder, both(Adder, either(Log, Adder)))
    outcome = fold(kind, [(0, 1), (1, (2, (0, "a"))), (1, (3, (1, 4)))])
    assert outcome.state == (1, (5, (["a"], 4)))
    assert outcome.outputs == ((0, 1), (1, (2, (0, 1))), (1, (5, (1, 4))))


def test_if_one_side_raises_none_has_stepped() -> None:
    server, state = made(both(Adder, Adder)), (1, 2)
    with pytest.raises(ValueError, match="13") as caught:
        server.handle_call((5, 13), None, state)
    assert state == (1, 2)
    assert caught.value.__notes__ == ["side 1 of both(Adder, Adder): 13"]


INPUTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12)))


@given(INPUTS)
def test_an_interleaving_gives_each_side_what_its_own_inputs_would(
    inputs: list[tuple[int, int]],
) -> None:
    outcome = fold(either(Adder, Log, Adder), inputs)
    for side, kind in enumerate((Adder, Log, Adder)):
        alone = fold(kind, [own for number, own in inputs if number == side])
        assert outcome.state[side] == alone.state
        assert tuple(own for number, own in outcome.outputs if number == side) == alone.outputs


@given(INPUTS)
def test_nested_is_flattened(inputs: list[tuple[int, int]]) -> None:
    flat = fold(either(Adder, Log, Adder), inputs)
    deep = [(side and 1, own if side == 0 else (side - 1, own)) for side, own in inputs]
    nested = fold(either(Adder, either(Log, Adder)), deep)
    assert (nested.state[0], *nested.state[1]) == flat.state
    assert [out if side == 0 else out[1] for side, out in nested.outputs] == [
        out for _, out in flat.outputs
    ]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12))))
def test_both_are_each_alone(inputs: list[tuple[int, int]]) -> None:
    outcome = fold(both(Adder, Log), inputs)
    alone = [fold(kind, [each[side] for each in inputs]) for side, kind in enumerate((Adder, Log))]
    assert outcome.state == tuple(each.state for each in alone)
    assert outcome.outputs == tuple(zip(*(each.outputs for each in alone), strict=True))


def test_commands_that_happen_together() -> None:
    assert run(either(Adder, Log), [Together([(0, 1), (1, "a"), (0, 2)])]) == [
        (0, 1), (1, 1), (0, 3)
    ]  # fmt: skip


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [5, (2, 5), (-1, 5), (True, 5), (0,), "01", ("0", 5)])
def test_what_is_no_input_is_refused(command: Any) -> None:
    with pytest.raises(Rejected, match=r"is a pair \(side, input for it\)"):
        run(either(Adder, Log), [command])


@pytest.mark.parametrize("command", [5, (2,), (1, 2, 3)])
def test_what_is_no_input_for_all_is_refused(command: Any) -> None:
    with pytest.raises(Rejected, match="is a tuple with an input for each side"):
        run(both(Adder, Log), [command])


def test_a_side_refuses_what_it_would_refuse_alone() -> None:
    server = made(either(Log, either(Adder, Log)))
    error = refusal("s", server, (1, (0, -1)), ([], (3, [])))
    assert isinstance(error, Rejected)
    assert "too little" in str(error)
    assert refusal("s", server, (0, -1), ([], (3, []))) is None


# --- actions ---------------------------------------------------------------------------------


def acted(action: Any) -> Any:
    [found] = fold(either(Adder, Log), [(1, action)]).actions
    return found


def test_what_a_side_asks_for_returns_to_it() -> None:
    assert acted(StartTimer("t", 5, "due")) == StartTimer((SIDE, 1, "t"), 5, (SIDE, 1, "due"))
    assert acted(CancelTimer("t")) == CancelTimer((SIDE, 1, "t"))
    assert acted(Call("x", 7, tag="a")) == Call("x", 7, tag=(SIDE, 1, "a"))
    assert acted(Monitor("x")) == Monitor("x", (SIDE, 1, None))
    assert acted(Cancel("a")) == Cancel((SIDE, 1, "a"))
    assert acted(Cast("x", 7)) == Cast("x", 7)
    [job] = fold(both(Adder, Runner), [(1, "a")]).actions
    assert job == Run(len, "abc", tag=(SIDE, 1, "a"))
    server = made(either(Log, Log))
    for info in ((SIDE, 1, "due"), CallReply((SIDE, 1, "a"), "x", 7), RunDone((SIDE, 1, None), 3)):
        (left, [(_, heard)]), _, _ = server.handle_info(info, ([], []))
        assert left == []
        assert heard in ("due", CallReply("a", "x", 7), RunDone(None, 3))


def test_a_continue_goes_on_with_its_side() -> None:
    assert fold(either(Adder, Log), [(1, Continue("c"))]).state[1][1] == ("continue", "c")


def test_actions_are_those_of_all_sides_in_order() -> None:
    server = made(both(Log, Log))
    _, _, actions = server.handle_cast((Cast("a", 1), Cast("b", 2)), ([], []))
    assert actions == [Cast("a", 1), Cast("b", 2)]


def test_an_info_that_nobody_asked_for_is_for_all() -> None:
    server = made(either(Log, Log))
    assert server.handle_info("news", ([], []))[0] == ([("info", "news")], [("info", "news")])
    assert server.handle_info((1, "news"), ([], []))[0] == ([], [("info", "news")])


class Caller:
    """What the runtime hands on as the caller of a server."""

    server = "s"


def test_a_reply_that_was_put_off_says_its_side() -> None:
    caller = Caller()
    server = made(either(Adder, either(Log, Log)))
    state, output, _ = server.handle_call((1, (1, "later")), caller, (0, ([], [])))
    assert output is NO_REPLY
    _, _, [reply] = server.handle_cast((1, (1, Reply(caller, "x"))), state)
    assert reply == Reply(caller, (1, (1, "x")))


def test_a_side_of_both_answers_at_once() -> None:
    server = made(both(Log, Log))
    with pytest.raises(BadReturn, match="answers at once"):
        server.handle_call(("a", "later"), None, ([], []))
    with pytest.raises(BadReturn, match="answers at once"):
        server.handle_cast(("a", Reply(Caller(), 1)), ([], []))


@pytest.mark.parametrize(
    "action", [Connect("tcp://127.0.0.1:1", Lines()), IdleTimeout(1), Join("g")]
)
def test_what_would_not_say_for_whom_it_is_cannot_be_asked_for(action: Any) -> None:
    with pytest.raises(BadReturn, match=f"a side returns no {type(action).__name__}: "):
        run(either(Adder, Log), [(1, action)])


# --- life ------------------------------------------------------------------------------------


class Ending(Adder):
    heard: ClassVar[list[Any]] = []

    def terminate(self, reason: Any, state: int) -> Any:
        self.heard.append(("begun", state))
        yield 0.5
        self.heard.append(("ended", state))


class Failing(Adder):
    def terminate(self, reason: Any, state: int) -> Any:
        Ending.heard.append("failed")
        raise ValueError("in terminate")


def test_all_sides_clean_up_the_last_first() -> None:
    Ending.heard.clear()
    cleanup = made(either(Ending, Failing))._terminate("shutdown", (1, 2))
    with pytest.raises(ValueError, match="in terminate"):
        assert list(cleanup) == [0.5]
    assert Ending.heard == ["failed", ("begun", 1), ("ended", 1)]


class Absent(Adder):
    def init(self, args: Any) -> Any:
        return Ignore()


class Remembering(Adder):
    seen: ClassVar[list[Any]] = []

    def init(self, args: Any, recovery: Recovery[int] | None = None) -> int:
        self.seen.append(recovery)
        return 0 if recovery is None else recovery.state + 1000


def test_a_side_that_does_not_start_keeps_the_others_from_it() -> None:
    assert made(either(Adder, Absent))._initial("s", None) is IGNORED


def test_args_are_those_of_each_side() -> None:
    assert made(both(Adder, Adder))._initial("s", [1, 2]).state == (1, 2)
    with pytest.raises(SpecError, match="args for each of its 2 sides"):
        made(both(Adder, Adder))._initial("s", 7)


def test_a_side_decides_about_its_own_recovery() -> None:
    Remembering.seen.clear()
    timers = frozenset({(SIDE, 0, "a"), (SIDE, 1, "b")})
    failure = Failure(9, (1, "x"), "ValueError: no")
    initial = made(either(Log, Remembering))._initial(
        "s", None, Recovery((["kept"], 5), "last_good", failure, timers)
    )
    assert initial.state == (["kept"], 1005)
    own = Failure(9, "x", "ValueError: no")
    assert Remembering.seen == [Recovery(5, "last_good", own, frozenset({"b"}))]


class Never(Adder):
    def invariant(self, state: int) -> object:
        return state < 5


def test_an_invariant_is_about_its_own_side() -> None:
    server = made(either(Adder, Never))
    assert server.invariant((100, 4)) is not False
    assert server.invariant((0, 5)) is False
    assert either(Adder, Log).invariant is GenServer.invariant


class Secret(Adder):
    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        return {key: "hidden" if key in ("state", "message") else status[key] for key in status}


def test_a_side_hides_its_own() -> None:
    server = made(either(Adder, Secret))
    shown = server.format_status({"state": (1, 2), "message": (1, "pass"), "reason": "r"})
    assert shown == {"state": (1, "hidden"), "message": ((1, "hidden"),), "reason": "r"}


@pytest.mark.parametrize(
    "message", [(0, "pass"), Together([(0, 1), (0, 2)]), "info", None, (Cast("x", 1), Cast("y", 2))]
)
def test_a_message_of_which_nothing_is_hidden_is_shown_as_it_is(message: Any) -> None:
    for kind in (either(Adder, Log), both(Adder, Log), either(Adder, both(Adder, Log))):
        assert made(kind).format_status({"message": message}) == {"message": message}


def test_a_side_hides_its_own_among_commands_that_come_together() -> None:
    class SecretWord(Adder):
        def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
            words = status.get("message")
            assert words in (None, Together(["pass"]))
            return {**status, "message": "hidden"}

    shown = made(either(Adder, SecretWord)).format_status(
        {"message": Together([(0, 1), (1, "pass"), (0, 2)])}
    )
    assert shown == {"message": ((0, Together([1, 2])), (1, "hidden"))}


def test_a_side_is_told_of_its_own_commands_of_those_that_failed_together() -> None:
    Remembering.seen.clear()
    server = made(either(Remembering, Remembering))
    failure = Failure(9, Together([(1, "a"), (1, "b")]), "ValueError: no")
    server._initial("s", None, Recovery((4, 5), "last_good", failure))
    assert [recovery.failure for recovery in Remembering.seen] == [
        None, Failure(9, Together(["a", "b"]), "ValueError: no")
    ]  # fmt: skip


@pytest.mark.parametrize("own", [Together([1]), Once("c" * 16, 1, 1)])
def test_what_goes_around_an_input_is_no_input_of_a_side(own: Any) -> None:
    for kind, command in ((either(Adder, Log), (0, own)), (both(Adder, Log), (1, own))):
        error = refusal("s", made(kind), command, (0, []))
        assert isinstance(error, Rejected)
        assert "whole inputs" in str(error)


def test_a_state_is_dumped_loaded_shown_and_replaced_side_by_side() -> None:
    server = made(either(Adder, Light))
    state = server._initial("s", None).state
    assert server.load(server.dump(state)) == state
    assert server._shown(state) == (0, ("off", 0))
    assert server._shown(server._replaced(state, (7, ("off", 8)))) == (7, ("off", 8))
    with pytest.raises(BadReturn, match="2 sides"):
        server._replaced(state, 7)


def test_a_machine_can_be_a_side() -> None:
    server = made(either(Adder, Light))
    state, output, [timer] = server.handle_call(
        (1, "on"), Caller(), server._initial("s", None).state
    )
    assert output == (1, "is on")
    state, _, _ = server.handle_info(timer.message, state)
    assert server._shown(state) == (0, ("off", 101))
    server = made(both(Adder, Light))
    state, output, _ = server.handle_call((1, "on"), Caller(), server._initial("s", None).state)
    assert output == (1, "is on")


# --- what cannot be combined -----------------------------------------------------------------


class Found(Adder):
    def via(self, args: Any) -> Via | None:
        return None


class Asked(Adder):
    ephemeral = str


class Trapping(Adder):
    trap_exit = True


class Late(Adder):
    version = 1000


class Note:
    pass


OtherNote = type("Note", (), {"__qualname__": "Note"})


class Notes(Adder):
    types = (Note,)


class OtherNotes(Adder):
    types = (OtherNote,)


@pytest.mark.parametrize(
    ("sides", "why"),
    [
        ((Adder,), "two sides or more"),
        ((Adder, 5), "side 5 is not allowed"),
        ((Adder, dict), "use a GenServer class"),
        ((Adder, GenEvent), "GenEvent cannot be a side: it is an event manager"),
        ((Adder, Found), r"a key of its own \(via\)"),
        ((Adder, Asked), "ephemeral"),
        ((Adder, Trapping), "same trap_exit"),
        ((Adder, Late), "an integer from 1 to 999"),
        ((Notes, OtherNotes), "mean different classes by 'Note'"),
        ((Adder,) * 7, "more than 6 servers"),
        ((both(Adder, Adder, Adder), both(Adder, Adder, Adder), Log), "more than 6 servers"),
    ],
)
def test_what_cannot_be_a_side_is_told(sides: Any, why: str) -> None:
    with pytest.raises(SpecError, match=why):
        either(*sides)


def test_what_stands_for_something_beside_the_loop_is_no_side() -> None:
    with pytest.raises(SpecError, match="beside the loop"):
        both(Adder, type(Pool("p").server()))


def test_the_same_sides_make_the_same_class() -> None:
    assert either(Adder, Log) is either(Adder, Log)
    assert either(Adder, Log) is not both(Adder, Log)
    assert either(Adder, Log) is not either(Log, Adder)


def test_a_combination_with_a_name() -> None:
    class Shop(either(Adder, Log)):  # type: ignore[misc]
        pass

    assert run(Shop, [(0, 1)]) == (0, 1)
    with pytest.raises(SpecError, match="raise the one that changes"):

        class Newer(either(Adder, Log)):  # type: ignore[misc]
            version = 2


@pytest.mark.parametrize("name", OF_SIDES)
def test_what_only_the_sides_are_asked_about_is_refused_in_a_combination_with_a_name(
    name: str,
) -> None:
    own = getattr(GenServer, name)
    with pytest.raises(SpecError, match=f"Shop: {name} is asked of the sides alone"):
        type("Shop", (both(Adder, Log),), {name: own})


# --- versions --------------------------------------------------------------------------------


class Two(Adder):
    """Counts in tenths since version 2."""

    version = 2
    types = (Note,)
    aliases: ClassVar = {("Note", 1): OtherNote, "Memo": Note}

    def upcast(self, version: int, message: Any) -> Any:
        return message * 10

    def upcast_state(self, version: int, dumped: int) -> int:
        return dumped * 10


class Three(Two):
    version = 3


class Changing(Adder):
    version = 5

    def code_change(self, old_version: Any, state: int, extra: Any) -> Any:
        return old_version, state, extra


def test_a_version_has_three_digits_for_each_server() -> None:
    assert either(Adder, Two).version == 1002
    assert both(Two, either(Adder, Three)).version == 2_001_003
    assert versions_of((Two, either(Adder, Three)), 2_001_003) == [2, 1003]
    assert version_of_all((Adder, Log)) == 1001


def test_each_side_is_upcast_by_its_own() -> None:
    schema = Schema("s", either(Adder, either(Log, Three))())
    before = 1_001_001
    assert schema.state(before, [1, [["a"], 2]], "it") == [1, [["a"], 200]]
    assert schema.message(before, (0, 1), "it") == (0, 1)
    assert schema.message(before, (1, (1, 2)), "it") == (1, (1, 200))
    assert schema.message(before, (1, (0, "a")), "it") == (1, (0, "a"))
    assert schema.message(1_001_002, (1, (1, 2)), "it") == (1, (1, 20))
    assert Schema("s", both(Adder, Two)()).message(1001, (1, 2), "it") == (1, 20)


def test_infos_are_upcast_for_whom_they_are() -> None:
    schema = Schema("s", either(Adder, Two, Log)())
    before = 1_001_001
    assert schema.message(before, (SIDE, 1, 3), "it") == (SIDE, 1, 30)
    assert schema.message(before, (SIDE, 0, 3), "it") == (SIDE, 0, 3)
    reply = CallReply((SIDE, 2, "a"), "x", 7)
    assert schema.message(before, reply, "it") == (SIDE, 2, CallReply("a", "x", 7))
    for_all = schema.message(before, "n", "it")
    state, _, _ = made(either(Adder, Two, Log)).handle_info(for_all, (0, 0, []))
    assert state == (0, 0, [("info", "n")])


def test_names_of_types_are_those_of_each_side() -> None:
    schema = Schema("s", either(Adder, Two)())
    assert schema.names(1002) == {"Memo": Note}
    assert schema.names(1001) == {"Memo": Note, "Note": OtherNote}


@pytest.mark.parametrize("version", [2001, 1003, 1_001_001])
def test_a_newer_side_is_refused(version: int) -> None:
    with pytest.raises(JournalRefused, match="start the newer code"):
        Schema("s", either(Adder, Two)()).check(version, 9)


def test_each_side_that_is_newer_needs_an_upcast_of_its_own() -> None:
    Schema("s", either(Adder, Two)()).check_upcast(1001)
    schema = Schema("s", either(Changing, Two)())
    schema.check_upcast(5001)
    with pytest.raises(CodeRefused, match="define upcast"):
        schema.check_upcast(4001)


@pytest.mark.parametrize("version", [1, 9])
def test_what_was_no_combination_does_not_become_one(version: int) -> None:
    schema = Schema("s", either(Adder, Two)())
    schema.check(version, 9)  # of one server 9 may be an old version
    with pytest.raises(JournalRefused, match=f"made of 2 sides, and version {version} was not"):
        schema.state(version, 7, "the snapshot")


def test_an_upgrade_of_one_side_leaves_the_other_as_it_is() -> None:
    old, new = made(either(Adder, Adder)), made(either(Adder, Two))
    assert way_of(old, new, None, is_down=False) is Way.SIDES
    assert changed_state("s", old, new, (3, 4), None) == (3, 40)
    with pytest.raises(LookupError, match="Two is version 2"):
        way_of(new, old, None, is_down=True)
    new = made(both(Log, Changing))
    assert changed_state("s", made(both(Log, Adder)), new, (["a"], 4), None, "e") == (
        ["a"], (1, 4, "e")
    )  # fmt: skip


def test_another_number_of_sides_needs_a_migration() -> None:
    for old in (Adder, either(Adder, Adder, Adder)):
        with pytest.raises(LookupError, match="do not have the same sides"):
            way_of(made(old), made(either(Adder, Adder)), None, is_down=False)


def test_a_migration_leads_to_another_number_of_sides_and_back() -> None:
    states = {
        Adder: 1, Light: ("off", 2), either(Adder, Light): (1, ("off", 2)),
        both(Light, Adder, either(Adder, Light)): (("off", 2), 1, (1, ("off", 2))),
    }  # fmt: skip
    for before, old in states.items():
        for after, new in states.items():
            way = Migration[Any, Any](lambda _, new=new: new)
            instance = made(before)
            state = instance._replaced(instance._initial("s", None).state, old)
            target = made(after)
            assert target._shown(changed_state("s", instance, target, state, way)) == new


def test_what_a_side_had_asked_for_that_is_gone_is_for_nobody() -> None:
    server = made(either(Adder, Log))
    for info in ((SIDE, 2, "timer"), RunDone((SIDE, 2, "job"), 1)):
        assert server.handle_info(info, (1, [])) == ((1, []), None, [])


def test_a_turn_is_what_the_runtime_takes() -> None:
    returned = made(either(Adder, Log)).handle_call((0, 1), None, (0, []))
    assert interpret("s", "handle_call", returned).output == (0, 1)
