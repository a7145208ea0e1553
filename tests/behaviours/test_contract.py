"""Contracts between peers, without connections (A3-43)."""

from __future__ import annotations

from typing import Any

import pytest

from pybehave import Contract, Listener, Once
from pybehave.behaviours.contract import VERSION_LOST, Place
from pybehave.errors import ContractBroken, Crashed, EncodeError, SpecError
from pybehave.protocols import Lines
from pybehave.runtime.release.places import carried, portable


class Turns(Contract[str]):
    """A question, its answer, and so on; "bye" is the last."""

    def initial(self) -> str:
        return "asking"

    def received(self, state: str, message: Any) -> str | None:
        match state, message:
            case "asking", "bug":
                raise KeyError("bug")
            case "asking", _:
                return "answering"
            case "answering", "bye":
                raise ContractBroken("not before the answer")
        return None

    def replied(self, state: str, output: Any) -> str | None:
        if output == "bug":
            raise ValueError("in replied")
        return "asking" if state == "answering" else None

    def failed(self, state: str, error: Exception) -> str | None:
        if str(error) == "bug":
            raise ValueError("in failed")
        if str(error) == "nothing":
            return None
        return "asking"


class Newer(Turns):
    version = 2


ASKED = Place(1, "answering")


def test_a_message_leads_to_the_next_state() -> None:
    assert Turns()._after_message(None, "what") == ASKED
    assert Turns()._after_message(Place(1, "asking"), Once("c", 1, "what")) == ASKED


@pytest.mark.parametrize(
    ("message", "why"),
    [("what", "'what' may not come in state 'answering'"), ("bye", "not before the answer")],
)
def test_what_has_no_next_state_is_refused(message: str, why: str) -> None:
    with pytest.raises(ContractBroken) as broken:
        Turns()._after_message(ASKED, message)
    assert (broken.value.rule, broken.value.detail, broken.value.is_last) == (why, why, False)


def test_a_mistake_of_the_machine_is_a_refusal() -> None:
    with pytest.raises(ContractBroken, match="KeyError: 'bug'"):
        Turns()._after_message(None, "bug")


def test_a_reply_leads_on_and_an_error_too() -> None:
    assert Turns()._after_reply(ASKED, "yes", None) == Place(1, "asking")
    error = Crashed("s", "s-1-1", ValueError())
    assert Turns()._after_reply(ASKED, None, error) == Place(1, "asking")
    for leaves_it in ("bug", "nothing"):
        assert Turns()._after_reply(ASKED, None, ValueError(leaves_it)) == ASKED


@pytest.mark.parametrize(
    ("state", "output", "why"),
    [
        ("asking", "yes", "the listener's contract has it not in state 'asking'"),
        ("answering", "bug", "the listener's contract: ValueError"),
    ],
)
def test_a_reply_that_may_not_come_cannot_be_encoded(state: str, output: str, why: str) -> None:
    with pytest.raises(EncodeError, match=why):
        Turns()._after_reply(Place(1, state), output, None)


def test_a_state_of_another_version_ends_the_conversation() -> None:
    with pytest.raises(ContractBroken, match="was version 1 and is version 2 now") as broken:
        Newer()._after_message(ASKED, "what")
    assert broken.value.is_last
    with pytest.raises(ContractBroken, match="was another one and is version 1 now"):
        Turns()._after_message(Place(VERSION_LOST, None), "what")


def test_what_was_asked_under_another_contract_is_answered() -> None:
    assert Newer()._after_reply(ASKED, "yes", None) == ASKED
    assert Newer()._after_reply(None, "yes", None) is None


def test_replies_and_errors_need_not_be_looked_at() -> None:
    class Once3(Contract[int]):
        def initial(self) -> int:
            return 0

        def received(self, state: int, message: Any) -> int | None:
            return state + 1 if state < 3 else None

    assert Once3()._after_reply(Place(1, 2), "x", None) == Place(1, 2)
    assert Once3()._after_reply(Place(1, 2), None, ValueError()) == Place(1, 2)


def test_a_contract_says_what_it_lacks() -> None:
    for call in (Contract().initial, lambda: Contract().received(0, 1)):
        with pytest.raises(NotImplementedError, match="Contract has no "):
            call()


class WithoutBeginning(Contract[str]):
    def received(self, state: str, message: Any) -> str:
        return state


class Unnumbered(Turns):
    version = 0


class Named(Turns):
    version: Any = "2"


@pytest.mark.parametrize(
    "contract", [Turns, Contract(), "x", 5, WithoutBeginning(), Unnumbered(), Named()]
)
def test_a_listener_takes_an_object_of_a_complete_class(contract: Any) -> None:
    with pytest.raises(SpecError, match="an object of a class derived from Contract"):
        Listener("tcp://127.0.0.1:0", Lines(), to="s", contract=contract)


def test_plain_states_are_portable_and_others_are_lost() -> None:
    for place in (None, Place(3, ("a", [1, {"b": b"c"}]))):
        assert carried(portable(place)) == place
    assert carried(portable(Place(3, object()))) == Place(VERSION_LOST, None)
