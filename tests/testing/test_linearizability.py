"""`check_linearizable` finds what cannot be one story, and agrees with trying every order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from math import inf
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybehave.actions import Ignore, Reply
from pybehave.behaviours.gen_server import GenServer
from pybehave.behaviours.gen_statem import GenStatem
from pybehave.errors import Stopped
from pybehave.statem import KeepStateAndData, NextState
from pybehave.testing import UNANSWERED, History, Model, Operation, check_linearizable
from pybehave.testing.linearizability import frozen


def register(request: Any, state: Any) -> Any:
    """A register: ("w", v) writes, "r" reads, ("cas", a, b) swaps."""
    match request:
        case ("w", value):
            return value, "ok"
        case ("cas", old, new):
            return (new, True) if state == old else (state, False)
    return state, state


def queue(request: Any, state: list[Any]) -> Any:
    """Changes its state in place, as servers do."""
    if request != "pop":
        state.append(request)
        return state, "ok"
    return state, state.pop(0) if state else None


def pairs(request: Any, state: dict[str, int]) -> Any:
    key, value = request
    if value is None:
        return state, state.get(key, 0)
    state[key] = value
    return state, "ok"


REGISTER = Model(register, 0, is_pure=True)
QUEUE = Model(queue, [])


def op(request: Any, output: Any, called: float, returned: float = inf) -> Operation:
    return Operation("c", request, output, called, returned)


def test_overlapping_requests_may_come_in_any_order() -> None:
    history = [op(("w", 1), "ok", 0, 10), op("r", 1, 1, 2), op("r", 1, 3, 4), op("r", 0, 0, 5)]
    verdict = check_linearizable(history, REGISTER)
    assert verdict
    assert [o.output for o in verdict.order] == [0, "ok", 1, 1]


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([op(("w", 1), "ok", 0, 1), op("r", 0, 2, 3)], id="stale read"),
        pytest.param(
            [op(("w", 1), "ok", 0, 9), op("r", 1, 1, 2), op("r", 0, 3, 4)], id="read goes back"
        ),
        pytest.param(
            [op(("cas", 0, 1), True, 0, 5), op(("cas", 0, 2), True, 1, 6)], id="both swap"
        ),
        pytest.param([op("r", 7, 0, 1)], id="nobody wrote it"),
    ],
)
def test_what_no_register_does_is_found(history: list[Operation]) -> None:
    verdict = check_linearizable(history, REGISTER)
    assert verdict.outcome == "violation"
    assert verdict.blocked
    assert "not linearizable" in str(verdict)


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([op("a", "ok", 0, 1), op("pop", None, 2, 3)], id="lost"),
        pytest.param([op("a", "ok", 0, 1), op("pop", "a", 2, 9), op("pop", "a", 3, 8)], id="twice"),
        pytest.param(
            [op("a", "ok", 0, 1), op("b", "ok", 2, 3), op("pop", "b", 4, 5)], id="out of order"
        ),
    ],
)
def test_what_no_queue_does_is_found(history: list[Operation]) -> None:
    assert check_linearizable(history, QUEUE).outcome == "violation"


def test_a_request_without_an_answer_may_have_happened_late_or_never() -> None:
    write = op(("w", 1), UNANSWERED, 0)
    assert check_linearizable([write, op("r", 0, 5, 6)], REGISTER)
    assert check_linearizable([write, op("r", 0, 5, 6), op("r", 1, 7, 8)], REGISTER)
    assert not check_linearizable([write, op("r", 1, 5, 6), op("r", 0, 7, 8)], REGISTER)
    assert not check_linearizable([op("r", 1, 0, 1), op(("w", 1), UNANSWERED, 2)], REGISTER)


def test_keys_are_searched_apart_and_the_verdict_names_one() -> None:
    by_key = Model(pairs, {}, key=lambda request: request[0])
    history = [op((f"k{n}", 1), "ok", 0, 100) for n in range(60)]
    history += [op((f"k{n}", None), n % 2, 0, 100) for n in range(60)]
    assert check_linearizable(history, by_key).steps < 1000
    verdict = check_linearizable([*history, op(("k7", None), 3, 0, 100)], by_key)
    assert (verdict.outcome, verdict.key) == ("violation", "k7")
    assert "of key 'k7'" in str(verdict)


def test_a_search_that_is_too_long_says_unknown_and_is_not_true() -> None:
    history = [op(n, "ok", 0, 100) for n in range(12)] + [op("pop", "no", 0, 100)]
    verdict = check_linearizable(history, QUEUE, steps_max=500)
    assert (verdict.outcome, verdict.steps, bool(verdict)) == ("unknown", 500, False)
    assert "given up after 500 steps" in str(verdict)


def test_a_model_that_raises_says_that_it_cannot_have_been() -> None:
    def strict(request: str, state: int) -> Any:
        if request == "no":
            raise ValueError
        return state, "ok"

    assert not check_linearizable([op("no", "ok", 0, 1)], Model(strict, 0))
    assert check_linearizable([op("no", UNANSWERED, 0), op("yes", "ok", 1, 2)], Model(strict, 0))


def test_a_long_history_of_one_after_the_other_takes_a_step_each() -> None:
    history = [op(("w", n), "ok", 2 * n, 2 * n + 1) for n in range(5000)]
    assert check_linearizable(history, REGISTER).steps == 5000


def test_outputs_may_be_judged_by_the_user() -> None:
    model = Model(register, 0, accepts=lambda expected, seen: abs(expected - seen) < 1)
    assert check_linearizable([op("r", 0.5, 0, 1)], model)
    assert not check_linearizable([op("r", 1.5, 0, 1)], model)


class Counter(GenServer[int, int, int]):
    def init(self, args: Any) -> Any:
        return Ignore() if args is None else args

    def step(self, command: int, state: int) -> tuple[int, int]:
        return state + command, state + command


def test_a_server_is_its_own_model() -> None:
    model = Model.of(Counter, 10)
    assert check_linearizable([op(1, 13, 0, 5), op(2, 12, 0, 5)], model)
    assert not check_linearizable([op(1, 11, 0, 5), op(2, 12, 0, 5)], model)
    with pytest.raises(Stopped, match="ignore"):
        Model.of(Counter)


class Seat(GenStatem):
    def init(self, args: Any) -> Any:
        return "free", None

    def free(self, kind: Any, content: Any, data: Any) -> Any:
        return NextState("taken", content, [Reply(kind[1], "ok")])

    def taken(self, kind: Any, content: Any, data: Any) -> Any:
        return KeepStateAndData(Reply(kind[1], data))


def test_a_state_machine_is_its_own_model_however_it_replies() -> None:
    model = Model.of(Seat)
    assert check_linearizable([op("b", "a", 0, 5), op("a", "ok", 0, 5)], model)
    assert not check_linearizable([op("b", "ok", 0, 5), op("a", "ok", 0, 5)], model)


def test_a_recorder_keeps_the_order_of_what_happens() -> None:
    history = History()
    first = history.called("a", ["x"])
    second = history.called("b", "r")
    third = history.called("c", "nobody heard this")
    history.replied(second, 0)
    history.replied(first, "ok")
    history.refused(third)
    history.called("d", "r")
    one, two, three = history.operations
    assert one.called < two.called < two.returned < one.returned < three.called
    assert (three.output, three.returned) == (UNANSWERED, inf)
    assert "no answer" in str(three)


def test_what_was_recorded_does_not_change_when_the_server_changes_it() -> None:
    history = History()
    request: list[int] = [1]
    token = history.called("a", request)
    history.replied(token, request)
    request.append(2)
    assert (history.operations[0].input, history.operations[0].output) == ([1], [1])


# --- every order, by hand -------------------------------------------------------------------------


def brute_force(history: list[Operation], model: Model) -> bool:
    """Try every order of every choice of the unanswered ones."""
    answered = [o for o in history if o.output is not UNANSWERED]
    pending = [o for o in history if o.output is UNANSWERED]
    for choice in range(1 << len(pending)):
        chosen = answered + [o for i, o in enumerate(pending) if choice >> i & 1]
        for order in permutations(chosen):
            if all(
                not later.returned < earlier.called
                for at, earlier in enumerate(order)
                for later in order[at + 1 :]
            ) and explains(order, model):
                return True
    return False


def explains(order: tuple[Operation, ...], model: Model) -> bool:
    state = model.state
    for each in order:
        is_possible, state = model.applied(each, state)
        if not is_possible:
            return False
    return True


@st.composite
def histories(draw: Any, request: Any, output: Any) -> list[Operation]:
    found = []
    for _ in range(draw(st.integers(1, 6))):
        called = draw(st.integers(0, 8))
        if draw(st.integers(0, 4)) == 0:
            found.append(op(draw(request), UNANSWERED, called))
        else:
            returned = called + draw(st.integers(1, 6)) - 0.5
            found.append(op(draw(request), draw(output), called, returned))
    return found


VALUES = st.integers(0, 2)
REQUESTS = st.one_of(st.just("r"), st.tuples(st.just("w"), VALUES), st.just(("cas", 0, 1)))
OUTPUTS = st.one_of(VALUES, st.just("ok"), st.booleans())


@settings(max_examples=400)
@given(histories(REQUESTS, OUTPUTS) | histories(REQUESTS.filter(lambda r: r[0] != "w"), VALUES))
def test_the_verdict_on_registers_is_that_of_every_order(history: list[Operation]) -> None:
    expected = brute_force(history, REGISTER)
    verdict = check_linearizable(history, REGISTER)
    assert bool(verdict) == expected
    if verdict:
        assert explains(verdict.order, REGISTER)


@settings(max_examples=400)
@given(
    histories(st.sampled_from(["a", "b", "pop", "pop"]), st.sampled_from(["ok", "a", "b", None]))
)
def test_the_verdict_on_queues_is_that_of_every_order(history: list[Operation]) -> None:
    assert bool(check_linearizable(history, QUEUE)) == brute_force(history, QUEUE)


# --- states as keys of the memory -----------------------------------------------------------------


@dataclass
class Point:
    x: int
    y: list[int]


class Move(msgspec.Struct):
    by: dict[str, int]


class Plain:
    def __init__(self, x: int) -> None:
        self.x = x


@pytest.mark.parametrize(
    "make",
    [
        lambda n: {"a": [n], b"b": {n}},
        lambda n: (n, [n]),
        lambda n: bytearray([n]),
        lambda n: Point(n, [n]),
        lambda n: Move({"x": n}),
        Plain,
        lambda n: frozenset([n]),
        lambda n: n,
    ],
)
def test_equal_states_are_frozen_equal_and_others_not(make: Any) -> None:
    assert frozen(make(1)) == frozen(make(1))
    assert hash(frozen(make(1))) == hash(frozen(make(1)))
    assert frozen(make(1)) != frozen(make(2))


def test_a_list_is_not_a_tuple_and_a_point_not_its_fields() -> None:
    assert len({frozen(x) for x in ([1], (1,), {1}, {1: 1}, True, Plain(1))}) == 6
