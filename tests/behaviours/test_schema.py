"""Versions of a server's class: what is allowed, what is refused, how a chain goes."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from pybehave import GenServer
from pybehave.behaviours.schema import Schema, version_of
from pybehave.errors import JournalRefused, SpecError


class Put:
    pass


class PutOfOne:
    pass


class PutOfTwo:
    pass


class Store(GenServer[Any, Any, Any]):
    types = (Put,)
    version = 4
    aliases: ClassVar = {
        "Insert": Put, ("Put", 2): PutOfTwo, ("Put", 1): PutOfOne, ("Insert", 1): PutOfOne
    }  # fmt: skip

    def upcast(self, version: int, message: Any) -> Any:
        return [*message, version + 1]

    def upcast_state(self, version: int, dumped: Any) -> Any:
        return dumped / (version - 2)


def test_a_chain_goes_from_each_version_to_the_next() -> None:
    schema = Schema("s", Store())
    assert schema.message(1, [], "it") == [2, 3, 4]
    assert schema.message(3, [], "it") == [4]
    assert schema.message(4, [], "it") == []


def test_what_an_upcast_raises_names_the_server_the_version_and_the_input() -> None:
    schema = Schema("s", Store())
    with pytest.raises(JournalRefused) as caught:
        schema.state(1, 6, "the snapshot of lsn 9")
    assert str(caught.value) == (
        "server 's': Store.upcast_state of version 2 raised ZeroDivisionError: float division by "
        "zero on the snapshot of lsn 9; mend it and start again: nothing is left out"
    )


def test_a_newer_writer_is_refused_by_both_versions() -> None:
    schema = Schema("s", Store())
    schema.check(4, 9)
    with pytest.raises(JournalRefused, match=r"version 5 .* lsn 9 on, but Store is version 4;"):
        schema.check(5, 9)


@pytest.mark.parametrize(
    "version, put, insert",
    [(1, PutOfOne, PutOfOne), (2, PutOfTwo, Put), (3, None, Put), (4, None, Put)],
)
def test_a_name_means_what_it_meant_up_to_its_version(
    version: int, put: type | None, insert: type
) -> None:
    names = Schema("s", Store()).names(version)
    assert names.get("Put") is put  # None: as in `types`
    assert names["Insert"] is insert


@pytest.mark.parametrize(
    "field, value",
    [
        *(("version", value) for value in (0, -1, True, "2", None, 1.0)),
        *(("aliases", value) for value in ({"Put": PutOfOne}, {("Put", 4): PutOfOne}, [], None)),
        *(("aliases", {key: Put}) for key in (7, ("A",), ("A", 0), (1, 1), ("A", True))),
        ("aliases", {"A": "Put"}),
    ],
)
def test_what_is_no_declaration_is_refused(field: str, value: Any) -> None:
    kind = type("Odd", (Store,), {field: value})
    with pytest.raises(SpecError, match=f"Server 's' of class Odd: {field}="):
        Schema("s", kind())


def test_a_class_that_says_nothing_is_version_1() -> None:
    assert version_of(GenServer()) == version_of(object()) == 1
    with pytest.raises(NotImplementedError, match=r"define upcast\(self, version, message\)"):
        GenServer[Any, Any, Any]().upcast(1, None)
