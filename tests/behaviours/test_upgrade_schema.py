"""What an older version has written, as an upgrade of a running node would take it over."""

from __future__ import annotations

from typing import Any

import pytest

from pybehave import GenServer, GenStatem, Migration, both, either
from pybehave.behaviours.upgrade_schema import Uncheckable, UpgradeSchema
from pybehave.errors import CodeRefused


class Plain(GenServer[int, Any, Any]):
    def init(self, args: Any) -> int:
        return 0


class Changing(Plain):
    version = 2

    def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
        return (old_version, state)


class Upcasting(Plain):
    version = 2

    def upcast(self, version: int, message: Any) -> Any:
        return -message

    def upcast_state(self, version: int, dumped: Any) -> Any:
        return -dumped


class Loading(Changing):
    def load(self, data: Any) -> Any:
        return data


class Nothing(Plain):
    version = 2


def schema(kind: Any, **migrations: Any) -> UpgradeSchema:
    return UpgradeSchema("s", kind(), migrations)


def test_inputs_are_as_they_are_where_there_is_no_upcast() -> None:
    assert schema(Changing).is_alike(1)
    assert schema(Changing).message(1, 7, "it") == 7
    assert not schema(Changing).is_alike(2)
    assert not schema(Upcasting).is_alike(1)
    assert schema(Upcasting).message(1, 7, "it") == -7


def test_C1_a_class_without_any_way_is_refused_as_at_a_start() -> None:
    assert not schema(Nothing).is_alike(1)
    with pytest.raises(CodeRefused, match="define upcast"):
        schema(Nothing).message(1, 7, "it")
    with pytest.raises(CodeRefused, match="define upcast_state"):
        schema(Nothing).state(1, 7, "it")
    assert schema(Nothing, s=Migration(str)).is_alike(1)


def test_a_state_comes_by_the_way_of_the_release() -> None:
    assert schema(Changing).state(1, 7, "it") == (1, 7)
    assert schema(Changing).state(2, 7, "it") == 7
    assert schema(Upcasting).state(1, 7, "it") == -7
    assert schema(Nothing, s=Migration(str)).state(1, 7, "it") == "7"
    with pytest.raises(CodeRefused, match=r"its Migration of version 1 raised BadReturn.*on it"):
        schema(Nothing, s=Migration(lambda _: None)).state(1, 7, "it")


def test_C2_what_only_older_code_could_load_is_not_guessed() -> None:
    with pytest.raises(Uncheckable, match="Loading has a load of its own"):
        schema(Loading).state(1, 7, "it")
    assert schema(Loading).state(2, 7, "it") == 7


def test_each_side_comes_by_its_own_way() -> None:
    found = schema(both(Plain, Changing))
    assert found.is_alike(1001)
    assert found.message(1001, 7, "it") == 7
    assert found.state(1001, [7, 8], "it") == [7, (1, 8)]
    assert schema(both(Upcasting, Changing)).state(1001, [7, 8], "it") == [-7, (1, 8)]
    with pytest.raises(Uncheckable):
        schema(both(Loading, Changing)).state(1001, [7, 8], "it")


def test_C2_inputs_of_which_some_sides_have_an_upcast_are_not_guessed() -> None:
    found = schema(either(Upcasting, Changing))
    with pytest.raises(Uncheckable, match="some sides of"):
        found.message(1001, (1, 7), "it")
    assert found.message(1002, (0, 7), "it") == (0, -7)
    with pytest.raises(CodeRefused, match="define upcast"):
        schema(either(Nothing, Changing)).message(1001, (0, 7), "it")


class Door(GenStatem):
    version = 2
    callback_mode = "handle_event_function"

    def init(self, args: Any) -> Any:
        return "open", 0

    def code_change(self, *words: Any) -> Any:
        return "closed", words[2] + 1


def test_what_a_machine_has_postponed_stays() -> None:
    dumped = {"state": "open", "data": 1, "postponed": [("cast", 7)], "timeouts": {}, "modules": []}
    found = schema(Door).state(1, dumped, "it")
    assert (found["state"], found["data"], found["postponed"]) == ("closed", 2, [("cast", 7)])
    with pytest.raises(Uncheckable, match="it is of a GenStatem, and Nothing is a GenServer"):
        schema(Nothing, s=Migration(str)).state(1, dumped, "it")
    with pytest.raises(Uncheckable, match="it is of a GenServer, and Door is a GenStatem"):
        schema(Door, s=Migration(str)).state(1, 7, "it")
